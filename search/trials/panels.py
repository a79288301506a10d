"""The pictures of a search: how it went, what mattered, where the good points lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from search import numbers
from search.canvas import GRID, INK, MUTED, PALETTE, Panel, style
from search.trials.found import Found
from trainers.searching import Objective
from trainers.space import Dimension

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BLUE, RED, GREEN = PALETTE[:3]
MOST_CURVES, MOST_LINES = 150, 300


def history(found: Found) -> Panel:
    """Every trial's value by its number, and the best so far."""
    table, goal = found.table, found.goals[0]
    done = table[table["state"] == "complete"][goal.metric]
    pruned = table[table["state"] == "pruned"]["reached"].dropna()
    failed = table[table["state"] == "fail"]

    def draw(axes: Axes) -> None:
        _windowed(axes, goal, *((each.index.to_series(), each) for each in (done, pruned)))
        axes.plot(done.index, done, "o", color=BLUE, markersize=4, label="finished")
        if len(pruned):
            axes.plot(pruned.index, pruned, "x", color=MUTED, markersize=4, label="ended early")
        best = done.cummax() if goal.mode == "max" else done.cummin()
        axes.step(best.index, best, where="post", color=RED, linewidth=1.6, label="best so far")
        for number in failed.index:
            axes.axvline(number, color=GRID, linewidth=2, zorder=0)
        axes.set_xlabel("trial" + ("; grey lines failed" if len(failed) else ""))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _values(axes, goal)
        axes.legend(loc="best", fontsize=8.5)

    return Panel(f"{goal.metric} by trial", draw)


def curves(found: Found) -> Panel | None:
    """The best so far of each trial over its evaluations; those ended early are dashed and end in a cross."""
    goal, table, drawn = found.goals[0], found.table, found.curves
    if not drawn or max(map(len, drawn.values())) < 2:
        return None
    complete = found.complete
    best = int(complete.index[0]) if len(complete) else None

    def draw(axes: Axes) -> None:
        for number in [*drawn][-MOST_CURVES:]:
            curve, pruned = drawn[number], table.at[number, "state"] == "pruned"
            if number == best:
                continue
            look: Any = {"color": MUTED if pruned else BLUE, "linewidth": 0.9}
            axes.plot(curve.index, curve, "--" if pruned else "-", alpha=0.45, **look)
            if pruned:
                axes.plot(curve.index[-1], curve.iloc[-1], "x", color=MUTED, markersize=4)
        if best in drawn:
            axes.plot(
                drawn[best].index, drawn[best], color=RED, label=f"trial {best:04d}, the best"
            )
            axes.legend(loc="best", fontsize=8.5)
        axes.set_xlabel("evaluation")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _values(axes, goal)

    return Panel(f"{goal.metric}, best so far in each trial", draw)


def importances(found: Found, shares: pd.DataFrame) -> Panel | None:
    """Both estimates side by side."""
    if shares.empty:
        return None

    def draw(axes: Axes) -> None:
        paths = [*shares.index][::-1]
        for place, (name, colour) in enumerate(
            zip(shares.columns, (BLUE, PALETTE[4]), strict=True)
        ):
            at = [y + 0.18 - 0.36 * place for y in range(len(paths))]
            axes.barh(at, shares[name].loc[paths], height=0.32, color=colour, label=name)
        for y, path in enumerate(paths):
            beside = (float(shares.loc[path].max()), y)
            look: Any = {"textcoords": "offset points", "va": "center", "size": 8.5}
            axes.annotate(found.labels.get(path, path), beside, xytext=(5, 0), **look)
        axes.set_yticks([])
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        axes.grid(visible=False, axis="y")
        axes.legend(loc="lower right", fontsize=8.5)

    return Panel(f"What mattered, by {len(found.complete)} finished trials", draw)


def slices(found: Found) -> list[Panel]:
    """For each searched path, its values and what came of them; later trials are darker, crosses were ended early."""
    table, goal = found.table, found.goals[0]
    return [
        _slice(table, goal, each, found.labels[each.path])
        for each in found.space.dimensions
        if len(table)
    ]


def rank(found: Found, paths: Sequence[str]) -> Panel | None:
    """The plane of the two paths that mattered most, each finished trial shaded by its rank."""
    known = {dimension.path: dimension for dimension in found.space.dimensions}
    chosen = [known[path] for path in paths if path in known][:2]
    table = found.complete
    if len(chosen) < 2 or len(table) < 3:
        return None
    table = table.dropna(subset=[each.path for each in chosen])

    def draw(axes: Axes) -> None:
        ranks = table[found.goals[0].metric].rank(ascending=found.goals[0].mode == "max", pct=True)
        x, y = (_places(table[each.path], each) for each in chosen)
        strength: Any = (0.08 + 0.92 * ranks**2).tolist()
        axes.scatter(x, y, s=34, color=BLUE, alpha=strength, linewidths=0)
        axes.plot(x.iloc[:1], y.iloc[:1], "o", color=RED, markersize=11, fillstyle="none")
        _axis(axes, "x", chosen[0])
        _axis(axes, "y", chosen[1])
        axes.set_ylabel(found.labels[chosen[1].path])

    return Panel("Ranks over the two that mattered most, the best ringed", draw)


def pareto(found: Found) -> Panel | None:
    """Two objectives against each other, and the trials that no other beats in both."""
    if len(found.goals) < 2:
        return None
    first, second = found.goals[:2]
    table = found.complete
    front = found.front

    def draw(axes: Axes) -> None:
        axes.plot(
            table[second.metric], table[first.metric], "o", color=BLUE, alpha=0.5, markersize=4
        )
        line = table.loc[front].sort_values(second.metric)
        axes.step(
            line[second.metric],
            line[first.metric],
            "o-",
            where="post" if second.mode == "min" else "pre",
            color=RED,
            label="no other beats these",
        )
        axes.set_xlabel(second.metric)
        axes.xaxis.set_major_formatter(lambda value, _: numbers.short(value))
        _values(axes, first)
        axes.set_ylabel(first.metric)
        axes.legend(loc="best", fontsize=8.5)

    return Panel(f"{first.metric} against {second.metric}", draw)


def parallel(found: Found) -> Figure | None:
    """Every trial a line through its values; the better, the stronger, the best in the second colour."""
    goal, dimensions = found.goals[0], list(found.space.dimensions)
    table = found.complete
    if len(table) < 2 or not dimensions:
        return None
    lines = table.iloc[:MOST_LINES]
    with style():
        figure = Figure(figsize=(10.4, 3.4), layout="constrained")
        axes = figure.add_subplot()
        columns = [_unit(lines[each.path], each) for each in dimensions]
        value = lines[goal.metric]
        low, high = float(value.min()), float(value.max())
        columns.append((value - low) / ((high - low) or 1.0))
        ranks = value.rank(ascending=goal.mode == "max", pct=True)
        for number in [*lines.index][::-1]:
            best = number == lines.index[0]
            heights = [float(column[number]) for column in columns]
            axes.plot(
                range(len(columns)),
                # A path that this trial did not have is passed below all others.
                [-0.08 if height != height else height for height in heights],
                color=RED if best else BLUE,
                alpha=1.0 if best else float(0.12 + 0.6 * ranks[number] ** 2),
                linewidth=2.0 if best else 1.0,
            )
        names = [*(found.labels[each.path] for each in dimensions), goal.metric]
        axes.set_xticks(range(len(columns)), names, rotation=18, ha="right")
        axes.set_yticks([])
        axes.set_ylim(-0.12, 1.08)
        for place, each in enumerate(dimensions):
            _ends(axes, place, _labels(each))
        _ends(
            axes,
            len(columns) - 1,
            [(0.0, _said(low, goal.metric)), (1.0, _said(high, goal.metric))],
        )
        axes.grid(visible=True, axis="x")
    return figure


def _slice(table: pd.DataFrame, goal: Objective, dimension: Dimension, label: str) -> Panel:
    def draw(axes: Axes) -> None:
        own = table["same_as"].isna()
        finished = table[(table["state"] == "complete") & own]
        pruned = table[table["state"] == "pruned"].dropna(subset=["reached", dimension.path])
        there = finished.dropna(subset=[dimension.path])
        early = _places(pruned[dimension.path], dimension)
        x = _places(there[dimension.path], dimension)
        _windowed(axes, goal, (x, there[goal.metric]), (early, pruned["reached"]))
        axes.plot(early, pruned["reached"], "x", color=MUTED, markersize=4, alpha=0.6)
        age: Any = [0.25 + 0.75 * place / max(1, len(there) - 1) for place in range(len(there))]
        axes.scatter(x, there[goal.metric], s=22, color=BLUE, alpha=age, linewidths=0)
        _axis(axes, "x", dimension)
        _values(axes, goal)

    return Panel(label, draw)


def _axis(axes: Axes, which: str, dimension: Dimension) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    if dimension.values:
        ticks, names = range(len(dimension.values)), [_named(v) for v in dimension.values]
        axis.set_ticks([*ticks], names)
        (axes.set_xlim if which == "x" else axes.set_ylim)(-0.5, len(dimension.values) - 0.5)
    else:
        if "log" in dimension.kind:
            (axes.set_xscale if which == "x" else axes.set_yscale)("log")
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


def _windowed(axes: Axes, goal: Objective, *points: tuple[pd.Series, pd.Series]) -> None:
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
        marker = "v" if sign > 0 else "^"
        axes.plot(x[out], [edge] * int(out.sum()), marker, color=MUTED, markersize=3.5)


def _places(values: pd.Series, dimension: Dimension) -> pd.Series:
    """Where values stand on an axis: those of a choice by their place in it, a little apart from each other."""
    if not dimension.values:
        return values.astype(float)
    places = values.map(lambda value: _place(dimension, value)).astype(float)
    return places + [0.05 * (n % 5 - 2) for n in range(len(places))]


def _unit(values: pd.Series, dimension: Dimension) -> pd.Series:
    """Heights from 0 to 1 within the dimension's range, of a choice by its place; NaN where there is none."""
    import numpy as np

    if dimension.values:
        last = max(1, len(dimension.values) - 1)
        return values.map(
            lambda value: np.nan if value != value else _place(dimension, value) / last
        ).astype(float)
    plain = values.astype(float)
    low, high = _range(dimension, plain)
    if "log" in dimension.kind:
        plain = plain.map(np.log)
        low, high = float(np.log(low)), float(np.log(high))
    return (plain - low) / ((high - low) or 1.0)


def _range(dimension: Dimension, values: pd.Series) -> tuple[float, float]:
    if "normal" in dimension.kind:  # it has no ends
        return float(values.min()), float(values.max())
    return float(dimension.numbers[0]), float(dimension.numbers[1])


def _labels(dimension: Dimension) -> list[tuple[float, str]]:
    if dimension.values:
        last = max(1, len(dimension.values) - 1)
        return [(n / last, _named(value)) for n, value in enumerate(dimension.values)]
    if "normal" in dimension.kind:
        return []
    return [(0.0, f"{dimension.numbers[0]:g}"), (1.0, f"{dimension.numbers[1]:g}")]


def _ends(axes: Axes, place: int, labels: Sequence[tuple[float, str]]) -> None:
    for height, text in labels:
        axes.annotate(
            text,
            (place, height),
            xytext=(4, 2),
            textcoords="offset points",
            color=INK,
            size=7.5,
        )


def _place(dimension: Dimension, value: Any) -> int:
    return next((n for n, each in enumerate(dimension.values) if each == value), -1)


def _named(value: Any) -> str:
    text = str(value.get("name", value)) if isinstance(value, Mapping) else str(value)
    return text[:16]


def _said(value: float, metric: str) -> str:
    return numbers.score(metric, value)


def _values(axes: Axes, goal: Objective) -> None:
    if numbers.is_fraction(goal.metric):
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axes.yaxis.set_major_locator(MaxNLocator(5))
