"""What a benchmark found: repetitions summed up by their median, spread and a bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Reading:
    """One line of a table of results.

    `quartiles` are those of the repetitions; `interval` is the 95 % bootstrap interval of the median. Both are None
    where nothing was repeated.
    """

    benchmark: str
    what: str
    unit: str
    value: float
    count: int
    quartiles: tuple[float, float] | None = None
    interval: tuple[float, float] | None = None
    target: str = ""
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def summed_up(
    benchmark: str,
    what: str,
    values: Sequence[float],
    *,
    unit: str = "ratio",
    target: str = "",
    note: str = "",
) -> Reading:
    """The median of repetitions, their quartiles and the bootstrap interval of the median."""
    sample = np.asarray(values, dtype=np.float64)
    low, high = np.quantile(sample, [0.25, 0.75])
    return Reading(
        benchmark,
        what,
        unit,
        float(np.median(sample)),
        len(sample),
        (float(low), float(high)),
        bootstrap(lambda rows: np.median(sample[rows], axis=1), len(sample)),
        target,
        note,
    )


def total_ratio(
    benchmark: str,
    what: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    target: str = "",
    note: str = "",
) -> Reading:
    """Sum over sum of paired blocks, so that what happens in few blocks only (a flush) counts too."""
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    interval = bootstrap(lambda rows: a[rows].sum(axis=1) / b[rows].sum(axis=1), len(a))
    ratio = float(a.sum() / b.sum())
    return Reading(
        benchmark, what, "ratio", ratio, len(a), interval=interval, target=target, note=note
    )


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], count: int
) -> tuple[float, float]:
    """The percentile interval (95 %) of a statistic of resampled rows: (resamples, count) indices -> (resamples,)."""
    rows = np.random.default_rng(0).integers(0, count, size=(RESAMPLES, count))
    low, high = np.quantile(statistic(rows), [0.025, 0.975])
    return float(low), float(high)
