"""Pictures by their features and labels, and how sure a share of them is."""

# N pictures, D features

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets import subsets

FIFTH = 0.2
NORMAL = 1.959964  # of the 95 % interval

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Known:
    """ids, labels (N,) int64, features (N, D) float32, of the rows of a split in their order."""

    ids: Rows
    labels: Rows
    features: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, rows: Rows) -> Known:
        """Some of the rows."""
        return Known(self.ids[rows], self.labels[rows], self.features[rows])

    def shots(self, count: int, seed: int) -> Rows:
        """`count` rows a class; what fewer choose, more choose too, with one seed."""
        return subsets.chosen(self.labels, self.ids, shots=count, seed=seed)

    def without(self, rows: Rows) -> Known:
        """All other rows."""
        return self.at(np.setdiff1d(np.arange(len(self)), rows))

    def fifth(self) -> tuple[Known, Known]:
        """(four fifths, one fifth), classes in proportion: to learn from, and to choose by."""
        chosen = subsets.chosen(self.labels, self.ids, fraction=FIFTH, seed=0)
        return self.without(chosen), self.at(chosen)


@dataclass(frozen=True)
class Share:
    """A share of N rows with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        ends = f"95 % interval {100 * self.low:.1f} to {100 * self.high:.1f} %"
        return f"{100 * self.value:.1f} % ({ends})"


def share(right: NDArray[np.bool_]) -> Share:
    """Wilson's score interval (Wilson 1927)."""
    from scipy.stats import binomtest

    hits, rows = int(right.sum()), len(right)
    interval = binomtest(hits, rows).proportion_ci(method="wilson")
    return Share(hits / rows, float(interval.low), float(interval.high))


def difference(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> Share:
    """How many more of the same rows one has right than another; the interval is over rows, by the normal."""
    apart = right.astype(np.float64) - other
    half = NORMAL * apart.std(ddof=1) / math.sqrt(len(apart)) if len(apart) > 1 else math.inf
    return Share(float(apart.mean()), float(apart.mean() - half), float(apart.mean() + half))
