"""A CLIP put to classify chosen rows by texts, in this process or as Ray tasks: the texts are encoded first, then the pictures."""

# N rows, L tokens, T templates, C class, D embedding
from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from cluster.chosen import Chosen
from cluster.opening import resolved
from cluster.session import choose_device
from cluster.tasks import Work, Workers, in_order, passes, same_data
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
    texts = [(piece,) for piece in judging.prompts(model, names, templates)]
    shot.count_opening()
    places = [(shot.rows[at : at + EVAL_ROWS],) for at in range(0, len(shot.rows), EVAL_ROWS)]
    scale = shot.recipe.scale
    made = _done(_Texts(model, scale), texts, scale, workers)
    text_TCD = judging.by_template(in_order(made), len(templates))
    sent = replace(shot, recipe=resolved(shot.recipe))
    pieces: list[Judged] = []
    done = 0
    for piece in in_order(_done(_Pictures(model, sent, text_TCD), places, scale, workers)):
        pieces.append(piece)
        done += len(piece.label)
        progress(done, len(shot.rows))
    return Judged.joined(pieces)


def _done(
    work: Work, pieces: Iterable[tuple[Any, ...]], scale: Scale, workers: Workers
) -> Generator[tuple[int, Any]]:
    if workers is None:
        done = work.ready()
        yield from enumerate(done(*piece) for piece in pieces)
        return
    yield from passes(work, pieces, scale, workers)


@dataclass(frozen=True)
class _Texts:
    model: nn.Module
    scale: Scale

    def ready(self) -> Callable[[Tensor], Tensor]:
        model = self.model.to(choose_device(self.scale))
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
