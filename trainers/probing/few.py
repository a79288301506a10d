"""Accuracy by the number of labels a class: linear classifiers over several nested draws of the labels."""

# S numbers of shots, D draws, L strengths

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainers.probing import linear
from trainers.probing.known import Known, Share


@dataclass(frozen=True)
class Curve:
    """Accuracies (S, D) of each number of shots and draw; the strength of regularisation of each number of shots."""

    shots: tuple[int, ...]
    accuracy: NDArray[np.float64]
    strengths: tuple[float, ...]

    @property
    def means(self) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.accuracy.mean(1)
        return found

    @property
    def sds(self) -> NDArray[np.float64]:
        """Over draws; no number where there is one."""
        if self.accuracy.shape[1] < 2:
            return np.full(len(self.shots), np.nan)
        found: NDArray[np.float64] = self.accuracy.std(1, ddof=1)
        return found

    def interval(self, place: int) -> Share:
        """The mean over draws with Student's 95 % interval, of a share no further than 0 to 1."""
        found = student(self.accuracy[place])
        return Share(found.value, max(0.0, found.low), min(1.0, found.high))


def curve(
    train: Known,
    judged: Known,
    shots: Sequence[int],
    seeds: Sequence[int],
    *,
    by: Known | None,
    strengths: Sequence[float],
    drawn: Callable[[int], None] = lambda number: None,
) -> Curve:
    """For each number of shots the strength with the best mean accuracy on `by`, of equal ones the strongest.

    Without `by` there is one strength, which is taken.
    """
    accuracy, chosen = [], []
    for place, count in enumerate(shots):
        probes_DL = []
        for draw, seed in enumerate(seeds):
            learn = train.at(train.shots(count, seed))
            probes_DL.append([linear.fit(learn, strength) for strength in strengths])
            drawn(place * len(seeds) + draw + 1)
        best = strengths[0]
        if by is not None:
            own = [[probe.right(by).mean() for probe in probes] for probes in probes_DL]
            best = linear.best(list(zip(strengths, np.mean(own, axis=0).tolist(), strict=True)))
        chosen.append(best)
        number = list(strengths).index(best)
        accuracy.append([probes[number].right(judged).mean() for probes in probes_DL])
    return Curve(tuple(shots), np.array(accuracy), tuple(chosen))


def gains(one: Curve, other: Curve) -> list[Share]:
    """How far one lies above another with the same labels, for each number of shots; intervals over draws."""
    return [student(apart) for apart in one.accuracy - other.accuracy]


def student(values: NDArray[np.float64]) -> Share:
    """The mean with Student's 95 % interval; endless where there is one value."""
    from scipy.stats import t

    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Share(mean, -math.inf, math.inf)
    half = float(t.ppf(0.975, count - 1)) * float(values.std(ddof=1)) / math.sqrt(count)
    return Share(mean, mean - half, mean + half)
