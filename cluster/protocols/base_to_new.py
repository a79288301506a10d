"""Base to new: a context that CoOp has learnt from some classes, on those and on the others of the set (arXiv 2203.05557)."""

from __future__ import annotations

from cluster.chosen import Chosen
from cluster.protocol import Outcome
from cluster.saved import Saved
from cluster.texts import learnt_context
from datasets.progress import Shown
from datasets.refusal import Refusal
from trainers.language import judging, texts
from trainers.task import Scalar, Table


def build(
    saved: Saved,
    split: str,
    shown: Shown,
    *,
    templates: list[str] = ["a photo of a {}."],
    names: list[str] = [],
) -> Outcome:
    """The run has learnt from `data.subset.classes`; `names` are what the other classes are called, in the set's order.

    Raises Refusal for a run that has learnt from all classes, or a context for each class, and where the run calls its
    classes by other names than the set and nothing says how the others are called.
    """
    task, said = learnt_context(saved), texts.templates(templates)
    if task.context.vectors.ndim == 3:
        raise Refusal(
            "each class has a context of its own, so there is none for other classes",
            path=saved.run.url,
            value="per_class",
            remedy="choose a run with per_class=false",
        )
    base = Chosen.of(saved, split)
    new = base.other_classes(saved)
    if not names and list(task.names) != list(base.shape.classes):
        others = new.shape.classes
        more = ", ..." if len(others) > 8 else ""
        raise Refusal(
            f"the run calls its classes by names of its own ('{base.shape.classes[0]}' is '{task.names[0]}'), "
            "and the new ones have none",
            path="names",
            value="[]",
            remedy=f"say names=[...], what {', '.join(others[:8])}{more} are called, in this order",
        )
    base.count_opening()  # once, however often its rows are read
    columns: dict[str, list[object]] = {"classes": [], "prompts": [], "rows": [], "accuracy": []}
    found: dict[tuple[str, str], float] = {}
    for kind, shot, called in (
        ("base", base, task.names),
        ("new", new, texts.words(new.shape.classes, names)),
    ):
        task.call(list(called))
        read = (
            judging.read(task.model, piece) for piece in judging.prompts(task.model, called, said)
        )
        text_TCD = judging.by_template(read, len(said))
        zero = judging.judged(task.model, shot.batches(), text_TCD)
        own = judging.right(task, shot.batches())
        for prompts, right in (("learnt", own), ("templates", zero.right)):
            found[kind, prompts] = float(right.double().mean())
            for name, value in zip(
                columns, (kind, prompts, len(right), found[kind, prompts]), strict=True
            ):
                columns[name].append(value)
    means = {
        prompts: _harmonic(found["base", prompts], found["new", prompts])
        for prompts in ("learnt", "templates")
    }
    return Outcome(
        [
            *(Scalar(f"{kind}_{prompts}", value) for (kind, prompts), value in found.items()),
            *(Scalar(f"harmonic_{prompts}", value) for prompts, value in means.items()),
            Table("base_to_new", columns),
        ],
        [
            f"On the {len(base.shape.classes)} classes that it has learnt from, the learnt context gives "
            f"{judging.percent(found['base', 'learnt'])} and the templates {judging.percent(found['base', 'templates'])}; on the "
            f"{len(new.shape.classes)} others {judging.percent(found['new', 'learnt'])} and {judging.percent(found['new', 'templates'])}.",
            f"Harmonic means: {judging.percent(means['learnt'])} and {judging.percent(means['templates'])}.",
        ],
    )


def _harmonic(one: float, other: float) -> float:
    return 2 * one * other / (one + other) if one + other else 0.0
