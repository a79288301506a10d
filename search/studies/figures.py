"""The pictures of a study: every run as a dot beside its arm's mean, curves with bands, the metric against a factor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from cluster.run import Run
from search import numbers
from search.canvas import GRID, INK, MUTED, PALETTE, style
from search.studies.table import Row, Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

BLUE, RED = PALETTE[0], PALETTE[1]
MOST_ARMS = 40  # of the dots
MOST_CURVES = 6  # a colour each
DECADES = 20.0  # a factor whose values lie further apart stands on a logarithm


def dots(table: Table) -> Figure | None:
    """Each arm a line: its runs as dots, mean and 95 % interval; what collapsed is a cross."""
    rows = [row for row in table.rows if any(each.score is not None for each in row.results)]
    rows = rows[:MOST_ARMS]
    if not rows:
        return None
    with style():
        figure = Figure(figsize=(7.4, 0.9 + 0.34 * len(rows)))
        axes = figure.add_subplot()
        longest = max(len(row.arm) for row in rows)
        # The names of the arms are beside the axis: as much room as they need.
        left = min(0.42, 0.02 + 0.0105 * longest)
        figure.subplots_adjust(
            left=left, right=0.98, top=0.97, bottom=0.62 / (0.9 + 0.34 * len(rows))
        )
        for place, row in enumerate(rows):
            _dotted(axes, row, float(place))
        axes.set_yticks(range(len(rows)), [row.arm for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        _as_read(axes.xaxis, table.study.metric)
        axes.set_xlabel(table.study.metric)
        if table.study.best_possible is not None:
            axes.axvline(table.study.best_possible, color=RED, linestyle="--", linewidth=1)
    return figure


def against(table: Table) -> Figure | None:
    """The metric against a factor whose values are numbers, a line for each combination of the others."""
    factor = _numeric(table)
    if factor is None:
        return None
    lines: dict[str, list[tuple[float, Row]]] = {}
    for row in table.rows:
        others = ", ".join(str(value) for name, value in row.values.items() if name != factor)
        lines.setdefault(others, []).append((float(row.values[factor]), row))
    with style():
        figure = Figure(figsize=(7.4, 3.2))
        axes = figure.add_subplot()
        figure.subplots_adjust(left=0.1, right=0.98, top=0.92, bottom=0.16)
        values = [x for line in lines.values() for x, _ in line]
        if min(values) > 0 and max(values) / min(values) >= DECADES:
            axes.set_xscale("log")
            axes.set_xticks(sorted({*values}), [f"{value:g}" for value in sorted({*values})])
            axes.xaxis.set_minor_locator(NullLocator())
        for place, (label, line) in enumerate(lines.items()):
            colour = PALETTE[place % len(PALETTE)]
            told = sorted((x, row.mean) for x, row in line if row.mean)
            xs = [x for x, _ in told]
            axes.plot(
                xs, [mean.mean for _, mean in told], "-o", color=colour, markersize=4, label=label
            )
            for x, mean in told:
                if mean.low is not None and mean.high is not None:
                    axes.plot([x, x], [mean.low, mean.high], color=colour, linewidth=3, alpha=0.35)
            lost = [x for x, row in line if row.results and not row.mean]
            for x in lost:
                axes.axvline(x, color=GRID, linewidth=3, zorder=0)
        _as_read(axes.yaxis, table.study.metric)
        _bounded(axes, table)
        axes.set_xlabel(factor)
        if len(lines) > 1:
            axes.legend(loc="best", fontsize=8.5)
    return figure


def curves(table: Table) -> Figure | None:
    """The validation score over steps, the mean of an arm's runs in a band from the least to the most."""
    name = table.study.metric.rpartition("/")[2]
    column = f"val/{name}"
    series: list[tuple[str, pd.DataFrame]] = []
    for row in table.rows[:MOST_CURVES]:
        found = _curves(table, row, column)
        if found is not None:
            series.append((row.arm, found))
    if not series or max(len(found) for _, found in series) < 2:
        return None
    with style():
        figure = Figure(figsize=(7.4, 3.4))
        axes = figure.add_subplot()
        figure.subplots_adjust(left=0.1, right=0.98, top=0.88, bottom=0.15)
        for place, (arm, found) in enumerate(series):
            colour = PALETTE[place % len(PALETTE)]
            axes.fill_between(
                found.index,
                found.min(axis=1),
                found.max(axis=1),
                color=colour,
                alpha=0.18,
                linewidth=0,
            )
            axes.plot(found.index, found.mean(axis=1), color=colour, linewidth=1.4, label=arm)
        _as_read(axes.yaxis, column)
        axes.set_xlabel("step")
        look: Any = {"borderpad": 0, "borderaxespad": 0, "fontsize": 8.5, "ncols": 3}
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), **look)
    return figure


def _curves(table: Table, row: Row, column: str) -> pd.DataFrame | None:
    """Step x seed."""
    import pandas as pd

    found = {}
    for each in row.results:
        if each.entry.run and each.state not in ("missing", "running"):
            metrics = Run(table.folder.run_url(each.entry)).metrics()
            if column in metrics:
                told = metrics[metrics["split"] == "val"].dropna(subset=column)
                found[each.entry.seed] = told.drop_duplicates("step").set_index("step")[column]
    return pd.DataFrame(found).sort_index() if found else None


def _dotted(axes: Axes, row: Row, place: float) -> None:
    good = [each.score for each in row.results if each.counts and each.score is not None]
    bad = [each.score for each in row.results if not each.counts and each.score is not None]
    if row.mean:
        if row.mean.low is not None and row.mean.high is not None:
            axes.plot(
                [row.mean.low, row.mean.high],
                [place, place],
                color=BLUE,
                linewidth=5,
                alpha=0.3,
                solid_capstyle="butt",
            )
        axes.plot([row.mean.mean], [place], "|", color=INK, markersize=11, markeredgewidth=2)
    axes.plot(good, [place] * len(good), "o", color=BLUE, markersize=4)
    axes.plot(bad, [place] * len(bad), "x", color=MUTED, markersize=5)


def _numeric(table: Table) -> str | None:
    """The factor with the most values, all of them numbers and at least three."""
    found: dict[str, set[float]] = {}
    for row in table.rows:
        for name, value in row.values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(name, set()).add(float(value))
    whole = {
        name: values
        for name, values in found.items()
        if len(values) > 2 and all(name in row.values for row in table.rows)
    }
    return max(whole, key=lambda name: len(whole[name]), default=None)


def _bounded(axes: Axes, table: Table) -> None:
    """An interval of few seeds may leave the range of a share; the picture need not."""
    if numbers.is_fraction(table.study.metric):
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -0.02), min(high, 1.02))


def _as_read(axis: Axis, metric: str) -> None:
    if numbers.is_fraction(metric):
        axis.set_major_formatter(lambda share, _: f"{100 * share:.4g} %")
    axis.set_major_locator(MaxNLocator(5))
