"""Pictures per CPU-second of every loader, as bars with the range of the rounds."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any


def draw(found: dict[str, Any], path: Path) -> None:
    """Write the plot of the photographs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    taken = {title: rounds for title, rounds in found["groups"]["photographs"].items() if rounds}
    rates = {title: [got["rate"] for got in rounds] for title, rounds in taken.items()}
    order = sorted(rates, key=lambda title: statistics.median(rates[title]))
    middles = [statistics.median(rates[title]) for title in order]
    spans = [
        [middle - min(rates[title]) for title, middle in zip(order, middles, strict=True)],
        [max(rates[title]) - middle for title, middle in zip(order, middles, strict=True)],
    ]
    colours = [_colour(title) for title in order]
    figure, axes = pyplot.subplots(figsize=(8, 0.36 * len(order) + 1), layout="constrained")
    names = [title.replace("*", "") for title in order]
    axes.barh(names, middles, xerr=spans, color=colours, ecolor="0.3", height=0.7)
    for place, middle in enumerate(middles):
        axes.text(8, place, f"{middle:,.0f}", va="center", color="white", fontsize=8)
    axes.set_xlabel("pictures per CPU-second")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def _colour(title: str) -> str:
    if "Manta" in title:
        return "#0b6e99"
    return "#555555" if title.startswith("full decode") else "#9aa5b1"
