"""The pictures of a study: every run as a dot beside its arm's mean, curves with bands, the metric against a factor."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from search import numbers
from search.canvas import INK, MUTED, PALETTE, style
from search.sheets import named
from search.studies.curves import Curve
from search.studies.levels import factors_of, short_name
from search.studies.rows import Row, Table
from search.studies.statistics import Mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

BLUE, RED = PALETTE[0], PALETTE[1]
STROKES = ("-", "--")  # where there are more lines than colours
MOST_ARMS = 40  # of the dots
MOST_LINES = len(PALETTE) * len(STROKES)
MOST_TICKS = 7  # of a factor's values
DECADES = 20.0  # a factor whose values lie further apart stands on a logarithm
# The frame of canvas.single, so that the pictures of a page stand side by side; inches.
WIDTH, HEIGHT, BELOW = 4.9, 2.7, 0.42
LEFT, RIGHT = 0.125, 0.985
LEGEND = 8.5  # points
LETTER = 0.078  # inches, of a label on a phone, where a page sets it larger
NAME = 24  # letters of an arm's name on one line
LINE, TWO_LINES = 0.26, 0.36  # inches of an arm, by the lines of its name


def dots(table: Table) -> Figure | None:
    """Each arm a line: its runs as dots, mean and 95 % interval; what does not count is a cross, or said."""
    rows = table.rows[:MOST_ARMS]
    if not any(each.score is not None for row in rows for each in row.results):
        return None
    names = [_folded(row.arm) for row in rows]
    lines = max(name.count("\n") + 1 for name in names)
    height = max(HEIGHT, 0.16 + BELOW + (LINE if lines == 1 else TWO_LINES) * len(rows))
    longest = max(len(part) for name in names for part in name.split("\n"))
    with style():
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.add_subplot()
        left = (0.16 + LETTER * longest) / WIDTH
        _framed(figure, left=left)
        for place, row in enumerate(rows):
            _dotted(axes, row, float(place), table.study.metric)
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        _as_read(axes.xaxis, table.study.metric)
        if table.study.best_possible is not None:
            axes.axvline(table.study.best_possible, color=RED, linestyle="--", linewidth=1)
        axes.set_xlabel(named(table.study.metric))
        for place, row in enumerate(rows):
            if not any(each.score is not None for each in row.results):
                said: Any = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 8}
                axes.text(0.02, place, _states(row), color=MUTED, **said)
    return figure


def against(table: Table) -> Figure | None:
    """The metric against `numeric`, a line for each combination of the other factors; a cross where no run counts."""
    factor = numeric(table)
    lines = _lines(table, factor) if factor is not None else {}
    if factor is None or len(lines) > MOST_LINES or not any(row.mean for row in table.rows):
        return None
    with style():
        figure = Figure(figsize=(WIDTH, HEIGHT))
        axes = figure.add_subplot()
        _framed(figure)
        _scaled(axes, sorted({x for line in lines.values() for x, _ in line}))
        for place, (label, line) in enumerate(lines.items()):
            _line(axes, label, line, place, table.study.metric)
        _as_read(axes.yaxis, table.study.metric)
        axes.set_xlabel(short_name(factor))
        if len(lines) > 1:
            _named_above(figure, axes, [_shortened(label) for label in lines])
    return figure


def curve(drawn: Curve) -> Figure:
    """A mean over seeds in a band from the least to the most, a colour for each arm; dotted where no run counts."""
    import numpy as np

    with style():
        figure = Figure(figsize=(WIDTH, HEIGHT))
        axes = figure.add_subplot()
        _framed(figure)
        for place, (row, found) in enumerate(drawn.arms):
            colour = PALETTE[place % len(PALETTE)]
            low, high = found.min(axis=1), found.max(axis=1)
            axes.fill_between(found.index, low, high, color=colour, alpha=0.18, linewidth=0)
            mean = np.exp(np.log(found).mean(axis=1)) if drawn.steep else found.mean(axis=1)
            axes.plot(
                found.index,
                mean,
                "-" if row.mean else ":",
                color=colour,
                linewidth=1.4,
                marker="o" if len(found) == 1 else "",  # looked at once
                label=_shortened(row.arm),
            )
        if drawn.steep:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            _as_read(axes.yaxis, drawn.column)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("step")
        _named_above(figure, axes, [_shortened(row.arm) for row, _ in drawn.arms])
    return figure


def numeric(table: Table) -> str | None:
    """The factor with the most values, all of them numbers and at least three."""
    found: dict[str, set[float]] = {}
    for row in table.rows:
        for name, value in row.values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(name, set()).add(float(value))
            else:
                found.setdefault(name, set()).add(float("nan"))
    whole = {
        name: values
        for name, values in found.items()
        if len(values) > 2
        and not any(value != value for value in values)
        and all(name in row.values for row in table.rows)
    }
    return max(whole, key=lambda name: len(whole[name]), default=None)


def _lines(table: Table, factor: str) -> dict[str, list[tuple[float, Row]]]:
    """What the other factors are -> the arms along `factor`."""
    lines: dict[str, list[tuple[float, Row]]] = {}
    for row in table.rows:
        others = [
            _level(table, name, value) for name, value in row.values.items() if name != factor
        ]
        lines.setdefault(", ".join(others), []).append((float(row.values[factor]), row))
    return {label: sorted(line, key=lambda point: point[0]) for label, line in lines.items()}


def _level(table: Table, factor: str, value: Any) -> str:
    """What arms call a value of a factor: `momentum 0.9`."""
    levels = factors_of(table.study).get(factor, ())
    return next((level.label for level in levels if level.value == value), str(value))


def _line(
    axes: Axes, label: str, line: Sequence[tuple[float, Row]], place: int, metric: str
) -> None:
    colour = PALETTE[place % len(PALETTE)]
    stroke = STROKES[place // len(PALETTE) % len(STROKES)]
    told = [(x, row.mean) for x, row in line if row.mean]
    xs, ys = [x for x, _ in told], [mean.mean for _, mean in told]
    axes.plot(xs, ys, stroke, marker="o", color=colour, markersize=4, label=_shortened(label))
    for x, mean in told:
        if ends := _interval(metric, mean):
            axes.plot([x, x], ends, color=colour, linewidth=4, alpha=0.3)
    lost = [x for x, row in line if row.results and not row.mean]
    # On the axis itself: it has no height.
    floor: Any = {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 4}
    axes.plot(lost, [0.0] * len(lost), "x", color=colour, markersize=6, **floor)


def _dotted(axes: Axes, row: Row, place: float, metric: str) -> None:
    good = [each.score for each in row.results if each.counts and each.score is not None]
    bad = [each.score for each in row.results if not each.counts and each.score is not None]
    if row.mean:
        if ends := _interval(metric, row.mean):
            bar: Any = {"linewidth": 5, "alpha": 0.3, "solid_capstyle": "butt"}
            axes.plot(ends, [place, place], color=BLUE, **bar)
        axes.plot([row.mean.mean], [place], "|", color=INK, markersize=10, markeredgewidth=1.8)
    axes.plot(good, [place] * len(good), "o", color=BLUE, markersize=3.6)
    axes.plot(bad, [place] * len(bad), "x", color=MUTED, markersize=4.5)


def _states(row: Row) -> str:
    """`2 diverged, 1 failed`."""
    states = [each.state for each in row.results]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _folded(arm: str) -> str:
    """A name on two lines at most."""
    lines = textwrap.wrap(
        _shortened(arm), NAME, max_lines=2, placeholder=" …", break_on_hyphens=False
    )
    return "\n".join(lines)


def _shortened(arm: str) -> str:
    """A long name without its middle: names differ in their beginnings and ends."""
    half = NAME - 3
    return arm if len(arm) <= 2 * NAME else f"{arm[:half].strip()} … {arm[-half:].strip()}"


def _framed(figure: Figure, left: float = LEFT) -> None:
    height = float(figure.get_size_inches()[1])
    figure.subplots_adjust(left=left, right=RIGHT, top=1 - 0.16 / height, bottom=BELOW / height)


def _named_above(figure: Figure, axes: Axes, labels: Sequence[str]) -> None:
    """The legend over the axes, which leave it room."""
    longest = max(len(label) for label in labels)
    # Room between columns for a page that sets the labels larger.
    gap = 1.4 + 0.12 * longest
    column = (LEGEND / 72) * (0.6 * longest + 2 + gap)
    room = (RIGHT - LEFT) * WIDTH + gap * LEGEND / 72
    columns = max(1, min(3, len(labels), int(room / column)))
    lines = -(-len(labels) // columns)
    look: Any = {"borderpad": 0, "borderaxespad": 0, "fontsize": LEGEND, "columnspacing": gap}
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.03), ncols=columns, **look)
    height = HEIGHT + 0.17 * max(0, lines - 2)
    figure.set_size_inches(WIDTH, height)
    figure.subplots_adjust(top=1 - (0.16 + 0.17 * lines) / height, bottom=BELOW / height)


def _scaled(axes: Axes, values: Sequence[float]) -> None:
    """An axis of a factor's values: a logarithm where they lie far apart, then with these values as its ticks."""
    if values[0] > 0 and values[-1] / values[0] >= DECADES:
        axes.set_xscale("log")
        ticks = values[:: -(-len(values) // MOST_TICKS)]
        axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axes.xaxis.set_minor_locator(NullLocator())


def _interval(metric: str, mean: Mean) -> list[float]:
    """Its ends, none of one run; that of few seeds may leave the range of a share, the picture does not."""
    if mean.low is None or mean.high is None:
        return []
    if numbers.is_fraction(metric):
        return [max(0.0, mean.low), min(1.0, mean.high)]
    return [mean.low, mean.high]


def _as_read(axis: Axis, metric: str) -> None:
    if numbers.is_fraction(metric):
        axis.set_major_formatter(lambda share, _: f"{100 * share:.4g} %")
    axis.set_major_locator(MaxNLocator(5))
