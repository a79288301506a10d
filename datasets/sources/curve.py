"""Points of a one-dimensional function, for regression."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datasets import order
from datasets.refusal import Refusal
from datasets.source import Source


def r2(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(x**2 + 2 * np.cos(x) + 2 * np.exp(-x))


def sine(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sin(x)


def step(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(x < 0, -1.0, 1.0)


MOST_ROWS = 10_000_000  # they are made in memory
FUNCTIONS = {"r2": r2, "sine": sine, "step": step}


def build(
    *,
    function: Literal["r2", "sine", "step"] = "r2",
    num_rows: int = 400,
    low: float = -2.0,
    high: float = 4.0,
    noise: float = 0.0,
    seed: int = 0,
) -> Source:
    """`num_rows` points (x, y), x uniform in [low, high), y with normal noise of that deviation.

    r2: x^2 + 2 cos(x) + 2 e^-x (row R2 of experiments.md); sine: sin(x); step: the sign of x.
    Raises Refusal where an argument is out of its range.
    """
    if function not in FUNCTIONS:
        _refuse("function", function, f"known: {', '.join(FUNCTIONS)}")
    if not 1 <= num_rows <= MOST_ROWS:
        _refuse("num_rows", num_rows, f"use 1 .. {MOST_ROWS:,}")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        _refuse("low", low, f"use a finite low below high={high}")
    if not (math.isfinite(noise) and noise >= 0):
        _refuse("noise", noise, "use 0 or more")
    ids = np.arange(num_rows, dtype=np.int64)
    x = low + (high - low) * order.uniform(order.key(seed, "x"), ids, 0)
    y = FUNCTIONS[function](x) + noise * order.normal(order.key(seed, "noise"), ids, 1)[:, 0]
    return Source(
        name="curve",
        kind="table",
        columns={"id": ids, "x": x.astype(np.float32), "y": y.astype(np.float32)},
    )


def _refuse(name: str, value: object, remedy: str) -> None:
    raise Refusal(
        f"curve has no {name}={value}", path=f"data.source.{name}", value=value, remedy=remedy
    )
