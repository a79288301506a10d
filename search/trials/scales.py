"""Where values stand on an axis, and what stands beside it: settings by their distributions, scores as they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from search import numbers
from search.canvas import MUTED
from search.trials.words import setting
from trainers.searching import COSTS, Objective
from trainers.space import Dimension

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

LINE = 60  # letters that fit beside each other


def of_setting(axes: Axes, which: str, dimension: Dimension) -> None:
    """The x or y axis of a searched path: its range, its values by their names, a logarithm where it was drawn so."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    if dimension.values:
        named = _names(dimension, most=10, line=LINE if which == "x" else 0)
        axis.set_ticks([*named], [*named.values()])
        (axes.set_xlim if which == "x" else axes.set_ylim)(-0.5, len(dimension.values) - 0.5)
    else:
        if "log" in dimension.kind:
            (axes.set_xscale if which == "x" else axes.set_yscale)("log")
            # Within less than two decades there may be no power of ten at all.
            wide = "normal" in dimension.kind or dimension.numbers[1] >= 100 * dimension.numbers[0]
            axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 3.0, 5.0)))
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter("")
            axis.set_minor_locator(NullLocator())
        if "normal" not in dimension.kind:
            low, high = _padded(dimension)
            (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    if which == "x":
        axes.set_xlabel(dimension.path)


def _padded(dimension: Dimension) -> tuple[float, float]:
    """The range with a little air, so that points at its ends are seen whole."""
    low, high = (float(number) for number in dimension.numbers[:2])
    if "log" in dimension.kind:
        air = (high / low) ** 0.03
        return low / air, high * air
    air = 0.03 * (high - low)
    return low - air, high + air


def windowed(axes: Axes, goal: Objective, *points: tuple[pd.Series, pd.Series]) -> None:
    """Show where the good half lies: a few hopeless trials, (x, value), would press all others into a line.

    They stand at the edge, as small triangles.
    """
    import pandas as pd

    found = pd.concat([values for _, values in points])
    if not len(found):
        return
    sign = 1.0 if goal.mode == "max" else -1.0
    best = sign * (sign * found).max()
    good = (sign * found).quantile(0.75) * sign
    span = abs(best - good) or abs(best) * 0.01 or 1.0
    edge = best - 5 * sign * span
    if not (sign * found < sign * edge).any():
        return
    axes.set_ylim(*sorted((edge - 0.3 * sign * span, best + 0.4 * sign * span)))
    for x, values in points:
        out = sign * values < sign * edge
        if out.any():
            marker = "v" if sign > 0 else "^"
            axes.plot(x[out], [edge] * int(out.sum()), marker, color=MUTED, markersize=3.5)


def places(values: pd.Series, dimension: Dimension) -> pd.Series:
    """Where values stand on an axis: those of a choice by their place in it, a little apart from each other."""
    if not dimension.values:
        return values.astype(float)
    whole = values.map(lambda value: _place(dimension, value)).astype(float)
    return whole + [0.05 * (n % 5 - 2) for n in range(len(whole))]


def unit(values: pd.Series, dimension: Dimension) -> pd.Series:
    """Heights from 0 to 1 within the dimension's range, of a choice by its place; NaN where there is none."""
    import numpy as np

    if dimension.values:
        last = max(1, len(dimension.values) - 1)
        return values.map(
            lambda value: np.nan if value != value else _place(dimension, value) / last
        ).astype(float)
    plain = values.astype(float)
    if "log" in dimension.kind:
        plain = plain.where(plain > 0)  # a quantum may have rounded it to 0
    low, high = _range(dimension, plain)
    if "log" in dimension.kind:
        plain = plain.map(np.log)
        low, high = float(np.log(low)), float(np.log(high))
    return (plain - low) / ((high - low) or 1.0)


def _range(dimension: Dimension, values: pd.Series) -> tuple[float, float]:
    if "normal" in dimension.kind:  # it has no ends
        return float(values.min()), float(values.max())
    return float(dimension.numbers[0]), float(dimension.numbers[1])


def labels(dimension: Dimension) -> list[tuple[float, str]]:
    """(height of `unit`, text) of what can be said beside the axis: all values of a choice, the ends of a range."""
    if dimension.values:
        last = max(1, len(dimension.values) - 1)
        return [(place / last, name) for place, name in _names(dimension, most=16).items()]
    if "normal" in dimension.kind:
        return []
    return [(0.0, f"{dimension.numbers[0]:g}"), (1.0, f"{dimension.numbers[1]:g}")]


def there(table: pd.DataFrame, dimension: Dimension) -> pd.DataFrame:
    """The trials that have the path at all: a null that was drawn is a value."""
    drawn = table[dimension.path].map(lambda value: value is None or value == value)
    return table[drawn.astype(bool)]


def _place(dimension: Dimension, value: Any) -> int:
    return next((n for n, each in enumerate(dimension.values) if each == value), -1)


def _names(dimension: Dimension, most: int, line: int = LINE) -> dict[int, str]:
    """Place -> name of the values, of many every second, third, ...; as long as there is room beside each other."""
    step = -(-len(dimension.values) // most)
    shown = {place: dimension.values[place] for place in range(0, len(dimension.values), step)}
    return {place: _named(value, max(8, line // len(shown))) for place, value in shown.items()}


def _named(value: Any, longest: int) -> str:
    text = setting(value)
    if isinstance(value, Mapping):
        rest = [f"{key} {setting(each)}" for key, each in value.items() if key != "name"]
        text = ", ".join([*([str(value["name"])] if "name" in value else []), *rest])
    if len(text) <= longest:
        return text
    # What tells parts of one name apart is often at the end.
    return f"{text[: longest - longest // 2 - 1]}…{text[-(longest // 2) :]}"


def of_goal(axis: Axis, goal: Objective, values: pd.Series | None = None) -> None:
    """Ticks as the goal is read; a logarithm where the `values`, a model's costs, lie far apart."""
    if values is not None and goal.metric in COSTS and values.max() > 100 * values.min() > 0:
        axis.axes.set_xscale("log")
        axis.set_major_formatter(
            lambda value, _: numbers.short(value) if value >= 1 else f"{value:g}"
        )
        axis.set_minor_formatter("")
        return
    if numbers.is_fraction(goal.metric):
        axis.set_major_formatter(lambda share, _: f"{100 * share:.4g} %")
    else:
        axis.set_major_formatter(
            lambda value, _: numbers.short(value) if abs(value) >= 1e4 else f"{value:.4g}"
        )
    axis.set_major_locator(MaxNLocator(5))
