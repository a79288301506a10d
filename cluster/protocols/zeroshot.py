"""Zero-shot: a CLIP classifies a split by texts, with any templates, any names of the classes, on any data."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import NonNegativeInt, PositiveInt

from cluster.chosen import Chosen
from cluster.encoding import judged
from cluster.protocol import Outcome
from cluster.saved import Saved
from cluster.tasks import Workers
from cluster.texts import model_of
from datasets.progress import Shown
from trainers.language import judging, texts


def build(
    saved: Saved,
    split: str,
    shown: Shown,
    workers: Workers,
    *,
    templates: list[str] | None = None,
    names: list[str] = [],
    data: str | None = None,
    subset: PositiveInt | None = None,
    seed: NonNegativeInt = 0,
) -> Outcome:
    """`templates` and `names` are the run's own where nothing is said; `data` is another source, such as mnist_subset.

    `subset` is how many pictures are looked at, every class in proportion, drawn by `seed`: never the first ones.

    Raises Refusal for so few that a class is left out, and for no template.
    """
    own = saved.run.recipe.phases[-1].task.arguments
    said = texts.templates(
        templates
        if templates is not None
        else own.get("prompts") or own.get("templates") or ["a photo of a {}."]
    )
    shot = Chosen.of(saved, split, data=data, subset=subset, seed=seed)
    classes = shot.shape.classes
    called = texts.words(classes, names or (own.get("names", []) if data is None else []))
    model = model_of(saved)
    with shown(f"zero-shot of {saved.run.name}") as progress:
        found = judged(model, shot, called, said, workers=workers, progress=progress)
    of = f"the {split} split" + (f" of {data}" if data else "")
    return Outcome(
        list(judging.findings(found, classes, called, said)),
        [*judging.sentences(found, of, said), *_drawn(shot, subset)],
    )


def _drawn(shot: Chosen, subset: int | None) -> Iterator[str]:
    if subset and len(shot.rows) < shot.whole:
        yield (
            f"{len(shot.rows):,} of {shot.whole:,} pictures were looked at, drawn with every class in proportion; "
            "the interval is of such draws."
        )
