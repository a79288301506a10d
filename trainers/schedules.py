"""Learning-rate schedules by name: every public function is one, and a pure function of where training stands.

Each returns the factor on the optimizers' `lr`. `warmup_steps` ramps linearly from lr / warmup_steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import NonNegativeInt, PositiveInt

from datasets.ranges import Divisor, Probability, Share


@dataclass(slots=True)  # not frozen: one is made at every step, and frozen ones cost thrice
class Progress:
    """Where a phase stands before a step: `step` of `steps`, and the validation scores so far (more is better)."""

    step: int
    steps: int
    steps_per_epoch: int
    scores: Sequence[float] = ()

    @property
    def epoch(self) -> int:
        return self.step // self.steps_per_epoch


def constant(at: Progress, *, warmup_steps: NonNegativeInt = 0) -> float:
    """The lr itself."""
    return _warm(at, warmup_steps)


def step(
    at: Progress,
    *,
    epochs: PositiveInt = 30,
    gamma: Probability = 0.1,
    warmup_steps: NonNegativeInt = 0,
) -> float:
    """Times `gamma` every `epochs` epochs."""
    return _warm(at, warmup_steps) * gamma ** (at.epoch // epochs)


def multistep(
    at: Progress,
    *,
    milestones: list[PositiveInt] = [],
    gamma: Probability = 0.1,
    warmup_steps: NonNegativeInt = 0,
) -> float:
    """Times `gamma` at each milestone, in epochs."""
    return _warm(at, warmup_steps) * gamma ** sum(at.epoch >= epoch for epoch in milestones)


def cosine(at: Progress, *, floor: Probability = 0.0, warmup_steps: NonNegativeInt = 0) -> float:
    """Half a cosine from 1 to `floor` after the warm-up (arXiv 1608.03983, without restarts)."""
    if at.step < warmup_steps:
        return _warm(at, warmup_steps)
    done = (at.step - warmup_steps) / max(1, at.steps - warmup_steps)
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(1.0, done))) / 2


def onecycle(
    at: Progress,
    *,
    peak: Probability = 0.3,
    start_divisor: Divisor = 25.0,
    end_divisor: Divisor = 1e4,
) -> float:
    """Up to the lr by a cosine over the share `peak` of the steps, then down (arXiv 1708.07120).

    The lr of the recipe is the largest one. Momentum is left alone.
    """
    last = max(1, at.steps - 1)
    top = peak * last
    low, high = 1 / start_divisor, 1.0
    if at.step <= top and top > 0:
        share = at.step / top
    else:
        share = (at.step - top) / max(1e-12, last - top)
        low, high = 1.0, 1 / (start_divisor * end_divisor)
    return high + (low - high) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def plateau(
    at: Progress,
    *,
    patience: NonNegativeInt = 10,
    factor: Share = 0.1,
    threshold: Share = 1e-4,
    warmup_steps: NonNegativeInt = 0,
) -> float:
    """Times `factor` whenever `keep.metric` has not risen by `threshold` (relative) for more than `patience` evaluations."""
    best, bad, drops = -math.inf, 0, 0
    for score in at.scores:
        if best == -math.inf or score > best + threshold * abs(best):
            best, bad = score, 0
        else:
            bad += 1
        if bad > patience:
            drops, bad = drops + 1, 0
    return _warm(at, warmup_steps) * factor**drops


def _warm(at: Progress, warmup_steps: int) -> float:
    return min(1.0, (at.step + 1) / warmup_steps) if warmup_steps else 1.0
