"""The figure of a report on few labels: accuracy by labels a class, with its spread over draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasets.page import Tile
from search import canvas, numbers
from search.canvas import PALETTE, Panel
from search.protocols.page import Found, Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

CAPTIONS: dict[str, str] = {}
NAMES = {"run": "this run", "reference": "reference"}


def tiles(found: Found) -> list[Tile]:
    """Accuracy with the fewest and with the most labels."""
    table = found.tables["shots"]
    own = table[table["model"] == "run"].sort_values("shots")
    listed = []
    looks: Any = ("main", "")
    for look, (_, row) in zip(looks, own.iloc[[0, -1]].iterrows(), strict=False):
        count = int(row["shots"])
        label = f"{count} label{'s' * (count > 1)} a class"
        more = f"± {100 * row['sd']:.1f} over {row['draws']} draws" if row["draws"] > 1 else ""
        tile = Tile(label, numbers.percent(row["accuracy"]), more, look)
        if tile not in listed:
            listed.append(tile)
        if "gains" in found.tables:
            gain = found.tables["gains"].set_index("shots").loc[count]
            several = row["draws"] > 1
            ends = (
                f"{100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}" if several else "one draw"
            )
            listed.append(
                Tile("Beside the reference", f"{100 * gain['gain']:+.1f}", f"points, {ends}")
            )
    return listed


def figures(found: Found) -> list[Shown]:
    """A line for the run, and for the reference where there is one."""
    table = found.tables["shots"]
    caption = "Accuracy by labels a class: mean and standard deviation over draws of the labels"
    return [Shown("shots", caption, canvas.single(Panel("", lambda axes: _lines(axes, table))))]


def _lines(axes: Axes, table: pd.DataFrame) -> None:
    names = list(dict.fromkeys(table["model"]))
    for name, colour in zip(names, PALETTE, strict=False):
        rows = table[table["model"] == name].sort_values("shots")
        axes.errorbar(
            rows["shots"],
            rows["accuracy"],
            yerr=rows["sd"].fillna(0.0),
            fmt="o-",
            color=colour,
            markersize=3.5,
            capsize=3,
            label=NAMES.get(name, name),
        )
    axes.set_xscale("log", base=2)
    counts = sorted(table["shots"].unique())
    axes.set_xticks(counts, [f"{count:g}" for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("labels a class")
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    if len(names) > 1:
        axes.legend(loc="lower right", fontsize=8)
