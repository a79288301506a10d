"""Choosing among checkpoints by the kept validation metric, and stopping when it no longer gets better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from trainers.recipe import Keep


class Score(NamedTuple):
    """The kept metric at one evaluation."""

    phase: int
    step: int
    score: float


class Choice:
    """The kept metric's scores so far, and what follows from them."""

    def __init__(self, keep: Keep, scores: Sequence[tuple[int, int, float]] = ()) -> None:
        self.keep = keep
        self.scores = [Score(*score) for score in scores]

    def add(self, phase: int, step: int, score: float) -> None:
        self.scores.append(Score(phase, step, score))

    def of_phase(self, phase: int) -> tuple[float, ...]:
        """Scores of a phase, more is better."""
        if not self.scores:
            return ()
        return tuple(self._value(score) for score in self.scores if score.phase == phase)

    @property
    def best(self) -> Score | None:
        """The best evaluation so far, the first of equals."""
        return max(self.scores, key=lambda s: (self._value(s), -s.step), default=None)

    @property
    def kept(self) -> list[int]:
        """The steps of the `keep.best` best evaluations, the best first."""
        ranked = sorted(self.scores, key=lambda s: (-self._value(s), s.step))
        return [score.step for score in ranked[: self.keep.best]]

    def exhausted(self, phase: int) -> bool:
        """Early stopping: `keep.patience` evaluations of this phase without a better one."""
        scores = self.of_phase(phase)
        if not self.keep.patience or not scores:
            return False
        return len(scores) - 1 - scores.index(max(scores)) >= self.keep.patience

    def _value(self, score: Score) -> float:
        """More is better, and nothing is worse than a diverged evaluation."""
        if math.isnan(score.score):
            return -math.inf
        return score.score if self.keep.mode == "max" else -score.score
