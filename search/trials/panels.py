"""The pictures of a search: how it went, what mattered, where the good points lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from search import numbers
from search.canvas import GRID, INK, MUTED, PALETTE, Panel, style
from search.trials import scales
from search.trials.found import Found
from trainers.searching import Objective
from trainers.space import Dimension

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BLUE, RED, GREEN = PALETTE[:3]
MOST_CURVES, MOST_LINES = 150, 300


def history(found: Found) -> Panel | None:
    """Every trial's value by its number, and the best so far."""
    table, goal = found.table, found.goals[0]
    done = table[table["state"] == "complete"][goal.metric]
    pruned = table[table["state"] == "pruned"]["reached"].dropna()
    failed = table[table["state"] == "fail"]
    if not len(done) and not len(pruned):
        return None

    def draw(axes: Axes) -> None:
        scales.windowed(axes, goal, *((each.index.to_series(), each) for each in (done, pruned)))
        if len(done):
            axes.plot(done.index, done, "o", color=BLUE, markersize=4, label="finished")
            best = done.cummax() if goal.mode == "max" else done.cummin()
            axes.step(best.index, best, where="post", color=RED, linewidth=1.6, label="best so far")
        if len(pruned):
            axes.plot(pruned.index, pruned, "x", color=MUTED, markersize=4, label="ended early")
        for number in failed.index:
            axes.axvline(number, color=GRID, linewidth=2, zorder=0)
        axes.set_xlabel("trial" + ("; grey lines failed" if len(failed) else ""))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        scales.of_goal(axes.yaxis, goal)
        # Above the frame: within it there are points everywhere.
        look: Any = {"borderpad": 0, "borderaxespad": 0, "fontsize": 8.5, "ncols": 3}
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), **look)

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
        scales.of_goal(axes.yaxis, goal)

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
        axes.set_xlim(0, 1.3)  # the names stand beside the bars
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        axes.grid(visible=False, axis="y")
        axes.legend(loc="lower right", fontsize=8.5)

    return Panel(f"What mattered, by {len(found.complete)} finished trials", draw)


def slices(found: Found) -> list[Panel]:
    """For each searched path, its values and what came of them; later trials are darker, crosses were ended early."""
    table, goal = found.table, found.goals[0]
    ended = (table["state"] == "complete") | table["reached"].notna()
    return [
        _slice(table, goal, each, found.labels[each.path])
        for each in found.space.dimensions
        if len(scales.there(table[ended], each))
    ]


def rank(found: Found, paths: Sequence[str]) -> Panel | None:
    """The plane of the two paths that mattered most, each finished trial shaded by its rank."""
    known = {dimension.path: dimension for dimension in found.space.dimensions}
    chosen = [known[path] for path in paths if path in known][:2]
    table = found.complete
    for each in chosen:
        table = scales.there(table, each)
    if len(chosen) < 2 or len(table) < 3:
        return None

    def draw(axes: Axes) -> None:
        ranks = table[found.goals[0].metric].rank(ascending=found.goals[0].mode == "max", pct=True)
        x, y = (scales.places(table[each.path], each) for each in chosen)
        strength: Any = (0.08 + 0.92 * ranks**2).tolist()
        axes.scatter(x, y, s=34, color=BLUE, alpha=strength, linewidths=0)
        axes.plot(x.iloc[:1], y.iloc[:1], "o", color=RED, markersize=11, fillstyle="none")
        scales.of_setting(axes, "x", chosen[0])
        scales.of_setting(axes, "y", chosen[1])
        axes.set_ylabel(found.labels[chosen[1].path])

    return Panel("Ranks over the two that mattered most, the best ringed", draw)


def pareto(found: Found) -> Panel | None:
    """Two objectives against each other, and the trials that no other beats in both."""
    if len(found.goals) < 2 or not len(found.complete):
        return None
    first, second = found.goals[:2]
    table, front = found.complete, found.front

    def draw(axes: Axes) -> None:
        axes.plot(
            table[second.metric], table[first.metric], "o", color=BLUE, alpha=0.5, markersize=4
        )
        line = table.loc[front].sort_values(second.metric)
        axes.step(
            line[second.metric],
            line[first.metric],
            "o" if len(found.goals) > 2 else "o-",  # of three goals it is no line in a plane
            where="post" if second.mode == "min" else "pre",
            color=RED,
            label="no other beats these",
        )
        axes.set_xlabel(second.metric)
        scales.of_goal(axes.xaxis, second, table[second.metric])
        scales.of_goal(axes.yaxis, first)
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
        columns = [scales.unit(lines[each.path], each) for each in dimensions]
        value = lines[goal.metric]
        low, high = float(value.min()), float(value.max())
        columns.append((value - low) / ((high - low) or 1.0))
        ranks = value.rank(ascending=goal.mode == "max", pct=True)
        faint = min(1.0, (40 / len(lines)) ** 0.5)
        for number in [*lines.index][::-1]:
            best = number == lines.index[0]
            heights = [float(column[number]) for column in columns]
            axes.plot(
                range(len(columns)),
                # A path that this trial did not have is passed below all others.
                [-0.08 if height != height else height for height in heights],
                color=RED if best else BLUE,
                alpha=1.0 if best else faint * float(0.12 + 0.6 * ranks[number] ** 2),
                linewidth=2.0 if best else 1.0,
            )
        names = [*(found.labels[each.path] for each in dimensions), goal.metric]
        axes.set_xticks(range(len(columns)), names, rotation=18, ha="right")
        axes.set_yticks([])
        axes.set_ylim(-0.12, 1.08)
        for place, each in enumerate(dimensions):
            _ends(axes, place, scales.labels(each))
        _ends(
            axes,
            len(columns) - 1,
            [(0.0, numbers.score(goal.metric, low)), (1.0, numbers.score(goal.metric, high))],
        )
        axes.grid(visible=True, axis="x")
    return figure


def _slice(table: pd.DataFrame, goal: Objective, dimension: Dimension, label: str) -> Panel:
    def draw(axes: Axes) -> None:
        own = table["same_as"].isna()
        finished = table[(table["state"] == "complete") & own]
        pruned = table[(table["state"] == "pruned") & table["reached"].notna()]
        pruned, there = scales.there(pruned, dimension), scales.there(finished, dimension)
        early = scales.places(pruned[dimension.path], dimension)
        x = scales.places(there[dimension.path], dimension)
        scales.windowed(axes, goal, (x, there[goal.metric]), (early, pruned["reached"]))
        axes.plot(early, pruned["reached"], "x", color=MUTED, markersize=4, alpha=0.6)
        age: Any = [0.25 + 0.75 * place / max(1, len(there) - 1) for place in range(len(there))]
        if len(there):  # matplotlib knows no empty list of alphas
            axes.scatter(x, there[goal.metric], s=22, color=BLUE, alpha=age, linewidths=0)
        scales.of_setting(axes, "x", dimension)
        scales.of_goal(axes.yaxis, goal)

    return Panel(label, draw)


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
