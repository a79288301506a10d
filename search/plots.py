"""Figures of runs: curves of one, curves of several, a confusion matrix. All in one quiet style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from search import numbers
from search.canvas import MUTED, PALETTE, Panel, grid, style
from search.sheets import heading

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from cluster.run import Run

    Told = TypeVar("Told", pd.Series, pd.DataFrame)

KNOWN = {
    *("chance", "floor"),  # stand beside the loss
    *("step", "split", "phase", "epoch", "seconds", "samples"),
    *("wait_seconds", "images_per_second", "step_seconds", "allreduce_share"),
    "device_memory_bytes",
    *("fetched_bytes", "fetch_requests", "fetch_retries", "cache_hits"),
}
# A GAN's balance is seen where both lie in one picture.
_SIDES = {"critic_real": "real", "critic_fake": "generated"}
POINTS = 600  # no panel shows more, and files stay small


def curves(run: Run) -> Figure:
    """Loss, validation scores, learning rate and throughput of a run, over steps."""
    return grid(panels(run.metrics(), run.summary))


def compare_curves(runs: Sequence[Run]) -> Figure:
    """Training loss and accuracy, every validation score, rates and the time of a step of several runs, over steps."""
    from search.results import labels

    tables = dict(zip(labels(runs), (run.metrics() for run in runs), strict=True))
    found = [
        _together(
            f"{title}, smoothed",
            {name: smooth(series_of(table, "train", column)) for name, table in tables.items()},
        )
        for title, column in (("Training loss", "loss"), ("Training accuracy", "accuracy"))
    ]
    columns = dict.fromkeys(str(c) for table in tables.values() for c in table)
    for column in (column for column in columns if column.startswith("val/")):
        series = {name: series_of(table, "val", column) for name, table in tables.items()}
        found.append(_together(column, series))
    rates = [column for column in columns if column == "lr" or column.endswith("_lr")]
    for column in (*rates, "step_seconds"):
        series = {name: series_of(table, "train", column) for name, table in tables.items()}
        found.append(
            _together(
                {"lr": "Learning rate", "step_seconds": "Seconds a step"}.get(
                    column, heading(column)
                ),
                series,
            )
        )
    return grid([panel for panel in found if panel])


def panels(metrics: pd.DataFrame, summary: Mapping[str, Any]) -> list[Panel]:
    """What there is to draw of a run's metrics.jsonl, in reading order."""
    borders = _borders(metrics, summary)
    best = (summary.get("best") or {}) if isinstance(summary.get("best"), Mapping) else {}
    val = [c for c in metrics.columns if c.startswith("val/") and len(series_of(metrics, "val", c))]
    shares = [c for c in val if numbers.is_fraction(c)]
    rates = [c for c in metrics.columns if c == "lr" or c.endswith("_lr")]
    drawn = {*KNOWN, *rates, *_SIDES, *(column.removeprefix("val/") for column in val)}
    found = [_loss(metrics, borders)]
    if shares:
        found.append(_scores("Scores", metrics, shares, best, borders))
    found += [
        _scores(_plain(c), metrics, [c], best, borders)
        for c in val
        if c not in shares
        and not c.endswith("/loss")
        and len(series_of(metrics, "val", c)) > 1  # one evaluation is a number, not a curve
    ]
    sides = {said: series_of(metrics, "train", column) for column, said in _SIDES.items()}
    found.append(_lines("The critic's output, training", sides, borders, measured=True))
    set_by_hand = {column: series_of(metrics, "train", column) for column in rates}
    found.append(_lines("Learning rate", set_by_hand, borders))
    for column in metrics.columns:
        if column not in drawn and "loss" not in column and "/" not in column:
            logged = {column: series_of(metrics, "train", column)}
            found.append(_lines(f"{_plain(column)}, training", logged, borders, measured=True))
    rate = series_of(metrics, "train", "images_per_second")
    rate = rate[rate > 0]  # a stretch of one step has no rate, and is written as 0
    title = "Samples per second"
    found.append(_lines(title, {title: rate}, borders, measured=True, zero=True))
    found.append(
        _lines("Share of time waiting for data", {"": _waiting(metrics)}, borders, zero=True)
    )
    return [panel for panel in found if panel]


def smooth(series: pd.Series, *, steep: bool = False) -> pd.Series:
    """An exponential mean over about a twenty-fifth of the curve; of what is `steep` of its logarithms.

    One spike of a mean of numbers would outweigh all that comes after it.
    """
    import numpy as np

    if steep:
        return np.exp(smooth(np.log(series)))
    return series.ewm(span=max(5.0, len(series) / 25)).mean()


def series_of(metrics: pd.DataFrame, split: str, column: str) -> pd.Series:
    """A column's numbers by step, of the rows of one split; empty where there are none."""
    import numpy as np
    import pandas as pd

    if column not in metrics.columns or "step" not in metrics.columns:
        return pd.Series(dtype=float)
    rows = metrics[(metrics["split"] == split)]
    values = pd.to_numeric(rows[column], errors="coerce").set_axis(rows["step"])
    return values.replace([np.inf, -np.inf], np.nan).dropna().sort_index()


def _waiting(metrics: pd.DataFrame) -> pd.Series:
    """Smoothed share of the time between steps spent waiting for data; both counters only grow."""
    waited, spent = (
        series_of(metrics, "train", column).diff().clip(lower=0).dropna()
        for column in ("wait_seconds", "seconds")
    )
    share = smooth(waited) / smooth(spent)
    return share.clip(0, 1).dropna() if share.gt(0).any() else share.iloc[:0]


def thin(series: Told) -> Told:
    """At most so many points, evenly."""
    found: Told = series.iloc[:: -(-len(series) // POINTS) or 1]
    return found


def _plain(column: str) -> str:
    split, _, name = column.rpartition("/")
    words = heading(name)
    if split != "val":
        return words
    return f"Validation {words if words.isupper() else words.lower()}"


def _borders(metrics: pd.DataFrame, summary: Mapping[str, Any]) -> dict[float, str]:
    """Step -> why a line stands there: a new phase, or a restart that the summary dates."""
    found: dict[float, str] = {}
    if {"phase", "step"} <= set(metrics.columns):
        train = metrics[metrics["split"] == "train"].dropna(subset="phase").sort_values("step")
        changed = train["phase"].ne(train["phase"].shift())
        starts = train.loc[changed, ["step", "phase"]].iloc[1:]
        found |= {float(step): f"phase {int(phase)}" for step, phase in starts.to_numpy()}
    restarts = summary.get("restarts")
    for restart in restarts if isinstance(restarts, list) else []:
        step = restart.get("step") if isinstance(restart, Mapping) else restart
        if isinstance(step, (int, float)):
            found[float(step)] = "restart"
    return found


def _mark(axes: Axes, borders: Mapping[float, str]) -> None:
    for step, reason in borders.items():
        axes.axvline(
            step, color=MUTED, linewidth=0.9, linestyle=":" if reason == "restart" else "--"
        )
        axes.annotate(
            reason,
            (step, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            color=MUTED,
            size=7.5,
        )


def _finish(axes: Axes, borders: Mapping[float, str], legend: bool) -> None:
    _mark(axes, borders)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(lambda step, _: numbers.short(step))
    if axes.get_yscale() == "log":
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter("")
        axes.minorticks_off()
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    if legend:
        axes.legend(loc="best", fontsize=8.5)


def _loss(metrics: pd.DataFrame, borders: Mapping[float, str]) -> Panel | None:
    names = [c for c in metrics.columns if "loss" in c and "/" not in c]
    train = {name: series_of(metrics, "train", name) for name in names}
    train = {name: series for name, series in train.items() if len(series)}
    val = series_of(metrics, "val", "val/loss")
    levels = {name: series_of(metrics, "train", name) for name in ("chance", "floor")}
    levels = {name: thin(series) for name, series in levels.items() if len(series)}
    if not train and not len(val):
        return None
    steeply = all(steep(series) for series in train.values() or [val])

    def draw(axes: Axes) -> None:
        for name, colour in zip(train, PALETTE, strict=False):
            series = train[name]
            label = name.replace("loss", "").strip("_") or "training"
            raw = thin(series)
            axes.plot(raw.index, raw, color=colour, alpha=0.28, linewidth=0.9)
            line = thin(smooth(series, steep=steeply))
            axes.plot(line.index, line, color=colour, label=f"{label}, smoothed")
        if steeply:
            axes.set_yscale("log")
        if len(val):
            axes.plot(val.index, val, "o-", color=PALETTE[-2], markersize=3.5, label="validation")
        for (name, level), dots in zip(levels.items(), (":", "--"), strict=False):
            axes.plot(level.index, level, dots, color=MUTED, linewidth=1.2, label=name)
        _finish(axes, borders, legend=len(train) > 1 or bool(len(val)) or bool(levels))

    return Panel("Loss", draw)


def steep(series: pd.Series) -> bool:
    """Whether a linear axis would show the first steps and nothing else."""
    settled = series.iloc[len(series) // 2 :]
    return len(series) > 1 and series.min() > 0 and series.max() > 15 * settled.median()


def _scores(
    title: str,
    metrics: pd.DataFrame,
    columns: Sequence[str],
    best: Mapping[str, Any],
    borders: Mapping[float, str],
) -> Panel:
    def draw(axes: Axes) -> None:
        for column, colour in zip(columns, PALETTE, strict=False):
            series = thin(series_of(metrics, "val", column))
            label = column.removeprefix("val/").replace("_", " ")
            # The first, the most asked for, lies on top where curves meet.
            look: Any = {"color": colour, "zorder": 4 - 0.1 * columns.index(column)}
            axes.plot(series.index, series, "o-", markersize=3, label=label, **look)
            learnt = thin(smooth(series_of(metrics, "train", column.removeprefix("val/"))))
            if len(learnt):
                axes.plot(learnt.index, learnt, ":", label=f"{label}, training", **look)
            if column == best.get("metric") and best.get("step") in series.index:
                at = (best["step"], series[best["step"]])
                axes.plot(*at, "o", color=colour, markersize=10, fillstyle="none", zorder=5)
        if all(numbers.is_fraction(column) for column in columns):
            axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        _finish(axes, borders, legend=len(columns) > 1)

    return Panel(title, draw)


def _lines(
    title: str,
    series: Mapping[str, pd.Series],
    borders: Mapping[float, str],
    measured: bool = False,
    zero: bool = False,
) -> Panel | None:
    found = {name: values for name, values in series.items() if len(values) > 1}
    if not found:
        return None

    def draw(axes: Axes) -> None:
        for (name, values), colour in zip(found.items(), PALETTE, strict=False):
            raw, line = thin(values), thin(smooth(values) if measured else values)
            if measured:  # and so noisy; what was set is exact
                axes.plot(raw.index, raw, color=colour, alpha=0.28, linewidth=0.9)
            axes.plot(line.index, line, color=colour, label=name.removesuffix("_lr"))
        if zero:
            axes.set_ylim(bottom=0)
        _finish(axes, borders, legend=len(found) > 1)
        share = title.startswith("Share")
        axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.3g} %" if share else _tick(y))

    return Panel(title, draw)


def _tick(value: float) -> str:
    return numbers.short(value) if abs(value) >= 1e5 else f"{value:,g}"


def _together(title: str, series: Mapping[str, pd.Series]) -> Panel | None:
    found = {name: values for name, values in series.items() if len(values)}
    if not found:
        return None

    def draw(axes: Axes) -> None:
        for place, (name, values) in enumerate(found.items()):
            values = thin(values)
            dashes = ("-", "--", ":")[place // len(PALETTE) % 3]
            colour = PALETTE[place % len(PALETTE)]
            axes.plot(values.index, values, dashes, color=colour, label=name)
        if numbers.is_fraction(title):
            axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        _finish(axes, {}, legend=True)

    return Panel(title, draw)


def confusion(table: pd.DataFrame) -> Figure:
    """Rows are true classes, columns predictions; shade is the share of the row, text the count."""
    import numpy as np

    counts = table.to_numpy(dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    n = len(counts)
    red, green, blue = to_rgb(PALETTE[0])
    # Transparent where nothing is, so that the picture sits on light and dark pages alike.
    shade = np.dstack([np.full_like(shares, c) for c in (red, green, blue)] + [0.8 * shares])
    with style(), matplotlib.rc_context({"axes.grid": False}):
        figure = Figure(figsize=(4.9, 4.7), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(shade, interpolation="nearest")
        if n <= 20:
            for row, column in zip(*np.nonzero(counts), strict=True):
                axes.text(
                    column,
                    row,
                    f"{counts[row, column]:.0f}",
                    ha="center",
                    va="center",
                    size=min(9, 110 / n),
                )
            ticks = np.arange(n)
        else:
            ticks = np.arange(0, n, -(-n // 20))
        names = [str(name)[:14] for name in table.index]
        wordy = max(map(len, names), default=0) > 3
        axes.set_xticks(ticks, [names[t] for t in ticks], rotation=90 if wordy else 0)
        axes.set_yticks(ticks, [names[t] for t in ticks])
        axes.spines[:].set_visible(False)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
    return figure
