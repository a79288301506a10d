"""Where a function of x has no number, or grows beyond all bounds, looked for before anything is learnt from it."""

# N places

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
PLACES = 100_001  # looked at, evenly over the range
PEAKS = 20  # the largest, looked at closer
CLOSER, FINER = 101, 8  # places, so often
BEYOND = 1e4  # times the largest value of the even look: no function goes there that has a bound


def found(of: Callable[[Numbers], Numbers], low: float, high: float) -> float | None:
    """An x of [low, high] where `of` is no float32 or has a pole; None where a look at 100,001 places and at 0 finds none.

    Poles between them are found by their size: about the largest values it is looked closer, down to the last digits of x.
    """
    x_N = np.linspace(low, high, PLACES)
    if low < 0 < high:
        x_N = np.sort(np.append(x_N, 0.0))
    y_N = np.abs(of(x_N))
    bad = ~_held(y_N)
    if bad.any():
        return float(x_N[bad.argmax()])
    above_N = np.concatenate([[True], y_N[1:] >= y_N[:-1]])
    peaks = np.flatnonzero(above_N & np.concatenate([y_N[:-1] >= y_N[1:], [True]]))
    largest = float(y_N.max())
    for peak in peaks[np.argsort(y_N[peaks])][-PEAKS:]:
        first, last = x_N[max(0, peak - 1)], x_N[min(len(x_N) - 1, peak + 1)]
        at, height = _highest(of, float(first), float(last))
        if not _held(np.array(height)) or height > BEYOND * largest:
            return at
    return None


def _highest(of: Callable[[Numbers], Numbers], first: float, last: float) -> tuple[float, float]:
    """(x, |y|) of the largest value between two places, looked at ever closer."""
    x, height = first, 0.0
    for _ in range(FINER):
        x_N = np.linspace(first, last, CLOSER)
        y_N = np.abs(of(x_N))
        best = int(np.where(np.isnan(y_N), np.inf, y_N).argmax())
        x, height = float(x_N[best]), float(y_N[best])
        if not np.isfinite(height):
            break
        first, last = float(x_N[max(0, best - 1)]), float(x_N[min(CLOSER - 1, best + 1)])
    return x, height


def _held(y_N: Numbers) -> NDArray[np.bool_]:
    """Whether float32 can hold it."""
    with np.errstate(over="ignore"):
        return np.isfinite(y_N.astype(np.float32))
