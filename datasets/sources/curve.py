"""Points of a one-dimensional function, for regression."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from datasets import order
from datasets.formats import expressions, poles
from datasets.packed.columns import Array
from datasets.refusal import Refusal
from datasets.source import Source

Numbers = expressions.Numbers


def r2(x: Numbers) -> Numbers:
    return np.asarray(x**2 + 2 * np.cos(x) + 2 * np.exp(-x))


def sine(x: Numbers) -> Numbers:
    return np.sin(x)


def step(x: Numbers) -> Numbers:
    return np.where(x < 0, -1.0, 1.0)


MOST_ROWS = 10_000_000  # they are made in memory
FUNCTIONS = {"r2": r2, "sine": sine, "step": step}


def build(
    *,
    function: str = "r2",
    num_rows: int = 400,
    low: float = -2.0,
    high: float = 4.0,
    noise: float = 0.0,
    seed: int = 0,
    test_low: float | None = None,
    test_high: float | None = None,
    test_noise: float | None = None,
    num_test: int = 200,
) -> Source:
    """`num_rows` points (x, y), x uniform in [low, high), y with normal noise of that deviation.

    r2: x^2 + 2 cos(x) + 2 e^-x (row R2 of experiments.md); sine: sin(x); step: the sign of x; else an expression of x,
    `x**2 + 2*cos(x) + 2/exp(x)`. With `test_low` or `test_high` there are `num_test` points more, from test_low to
    test_high, which are the test split, with `test_noise` (default `noise`); and a column `beyond` that is 1 where
    nothing is learnt from.
    Raises Refusal where an argument is out of its range, or the function has no number or a pole (formats/poles.py).
    """
    for name, value in (("num_rows", num_rows), ("num_test", num_test)):
        if not 1 <= value <= MOST_ROWS:
            _refuse(name, value, f"use 1 .. {MOST_ROWS:,}")
    _check_range("low", low, "high", high)
    judged_noise = noise if test_noise is None else test_noise
    for name, deviation in (("noise", noise), ("test_noise", judged_noise)):
        if not (math.isfinite(deviation) and deviation >= 0):
            _refuse(name, deviation, "use 0 or more")
    of = _function(function)
    ids = np.arange(num_rows, dtype=np.int64)
    x = _drawn(seed, "x", ids, low, high)
    splits = None
    _check_values(of, low, high, function)
    if test_low is not None or test_high is not None:
        first, last = (
            low if test_low is None else test_low,
            high if test_high is None else test_high,
        )
        _check_range("test_low", first, "test_high", last)
        _check_values(of, first, last, function)
        judged = np.arange(num_rows, num_rows + num_test, dtype=np.int64)
        x = np.concatenate([x, _drawn(seed, "x", judged, first, last)])
        splits = {"train": ids, "test": judged}
        ids = np.concatenate([ids, judged])
    exact = of(x)
    deviation_N = np.where(ids < num_rows, noise, judged_noise)
    y = exact + deviation_N * order.normal(order.key(seed, "noise"), ids, 1)[:, 0]
    columns: dict[str, Array] = {"id": ids, "x": x.astype(np.float32), "y": y.astype(np.float32)}
    if splits:
        columns["beyond"] = ((x < low) | (x >= high)).astype(np.float32)
    return Source(name="curve", kind="table", columns=columns, splits=splits)


def _drawn(seed: int, what: str, ids: NDArray[np.int64], low: float, high: float) -> Numbers:
    return low + (high - low) * order.uniform(order.key(seed, what), ids, 0)


def _function(said: str) -> Callable[[Numbers], Numbers]:
    if said in FUNCTIONS:
        return FUNCTIONS[said]
    try:
        return expressions.function(said)
    except Refusal as refusal:
        refusal.path = "data.source.function"
        if said.isidentifier():  # more likely a name than an expression
            refusal.remedy = f"known: {', '.join(FUNCTIONS)}; or an expression such as x**2"
        raise


def _check_values(of: Callable[[Numbers], Numbers], low: float, high: float, said: str) -> None:
    at = poles.found(of, low, high)
    if at is not None:
        raise Refusal(
            f"{said} has no number at x = {at:.4g}, which lies in {low:g} .. {high:g}",
            path="data.source.function",
            value=said,
            remedy="move low and high to where it has one everywhere",
        )


def _check_range(below: str, low: float, above: str, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        _refuse(below, low, f"use a finite {below} below {above}={high}")


def _refuse(name: str, value: object, remedy: str) -> None:
    raise Refusal(
        f"curve has no {name}={value}", path=f"data.source.{name}", value=value, remedy=remedy
    )
