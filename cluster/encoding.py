"""A CLIP put to classify chosen rows by texts, in this process or as Ray tasks: the texts are encoded first, then the pictures."""

# N rows, L tokens, T templates, C class, D embedding
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from cluster.chosen import Chosen
from cluster.opening import resolved
from cluster.session import device_here
from cluster.tasks import Workers, in_order, passes, same_data
from datasets.order import Integers
from datasets.progress import Progress
from trainers.evaluation import EVAL_ROWS
from trainers.language import judging
from trainers.language.judging import Judged
from trainers.scale import Scale


def judged(
    model: nn.Module,
    shot: Chosen,
    names: Sequence[str],
    templates: Sequence[str],
    *,
    workers: Workers,
    progress: Progress,
) -> Judged:
    """Every row of `shot` by all texts, `progress` told of the rows; the same however many `workers` there are.

    `model` is on the CPU. Opening the run's test split is counted once.
    """
    prompts = judging.prompts(model, names, templates)
    shot.count_opening()
    text_TCD = judging.by_template(
        _texts(model, prompts, shot.recipe.scale, workers), len(templates)
    )
    pieces: list[Judged] = []
    done = 0
    for piece in _pictures(model, shot, text_TCD, workers):
        pieces.append(piece)
        done += len(piece.label)
        progress(done, len(shot.rows))
    return Judged.joined(pieces)


def _texts(
    model: nn.Module, prompts: Sequence[Tensor], scale: Scale, workers: Workers
) -> Iterator[Tensor]:
    """The features of each piece of the prompts, in order."""
    work = _Texts(model, scale)
    if workers is None:
        return map(work.ready(), prompts)
    return in_order(passes(work, [(piece,) for piece in prompts], scale, workers))


def _pictures(
    model: nn.Module, shot: Chosen, text_TCD: Tensor, workers: Workers
) -> Iterator[Judged]:
    """What came of each EVAL_ROWS rows, in order."""
    if workers is None:
        model = model.to(shot.device)
        return (judging.judged(model, [batch], text_TCD) for batch in shot.batches())
    places = [(shot.rows[at : at + EVAL_ROWS],) for at in range(0, len(shot.rows), EVAL_ROWS)]
    sent = replace(shot, recipe=resolved(shot.recipe))
    work = _Pictures(model, sent, text_TCD)
    return in_order(passes(work, places, shot.recipe.scale, workers))


@dataclass(frozen=True)
class _Texts:
    model: nn.Module
    scale: Scale

    def ready(self) -> Callable[[Tensor], Tensor]:
        model = self.model.to(device_here(self.scale))
        return lambda tokens_NL: judging.read(model, tokens_NL)


@dataclass(frozen=True)
class _Pictures:
    model: nn.Module
    shot: Chosen
    text_TCD: Tensor

    def ready(self) -> Callable[[Integers], Judged]:
        data = same_data(self.shot.recipe.data, self.shot.data.manifest.digest)
        shot = replace(self.shot, data=data)
        model = self.model.to(shot.device)

        def done(rows: Integers) -> Judged:
            batches = replace(shot, rows=rows).batches()
            return judging.judged(model, batches, self.text_TCD)

        return done
