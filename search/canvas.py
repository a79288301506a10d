"""What Manta draws on: one palette, one quiet look, panels in a grid, figures as themed SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito (2008), told apart by every kind of colour vision; report.css has dark ones.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, MUTED, GRID = "#1c2126", "#5f6872", "#e3e6e9"
STYLE: Any = {
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a class called "$" is a name, not a formula
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.prop_cycle": cycler(color=PALETTE),
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Panel:
    """One small picture: a title and the function that draws it."""

    title: str
    draw: Callable[[Axes], None]


@contextmanager
def style() -> Iterator[None]:
    """Manta's look for everything drawn within."""
    with matplotlib.rc_context(STYLE):
        yield


def grid(panels: Sequence[Panel], columns: int = 2, empty: str = "no metrics yet") -> Figure:
    """All panels in one figure; says why when there are none."""
    with style():
        columns = max(1, min(columns, len(panels)))
        lines = max(1, -(-len(panels) // columns))
        figure = Figure(figsize=(5.2 * columns, 2.9 * lines), layout="constrained")
        if not panels:
            figure.add_subplot().set_axis_off()  # notebooks do not show a figure without axes
            figure.text(0.5, 0.5, empty, ha="center", color=MUTED)
        for place, panel in enumerate(panels, start=1):
            axes = figure.add_subplot(lines, columns, place)
            panel.draw(axes)
            axes.set_title(panel.title)
    return figure


def single(panel: Panel) -> Figure:
    """One panel as a figure of its own, without its title, for a page that captions it."""
    with style():
        figure = Figure(figsize=(4.9, 2.7))
        # The same frame for all, so that the step axes of a page stand one below the other.
        figure.subplots_adjust(left=0.125, right=0.985, top=0.94, bottom=0.17)
        panel.draw(figure.add_subplot())
    return figure


def svg(figure: Figure) -> str:
    """A figure as inline SVG; its colours are CSS variables, for light and dark pages alike."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with style():
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", text, count=1)
    text = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", text, count=1)
    # A hundredth of a point is enough; only within tags, the labels between them are left alone.
    text = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d+\.\d{2})\d+", r"\1", tag[0]), text)
    named = {INK: "ink", MUTED: "muted", GRID: "grid"}
    named |= {colour: f"series-{place}" for place, colour in enumerate(PALETTE, start=1)}
    for colour, name in named.items():
        text = text.replace(colour, f"var(--{name}, {colour})")
    return text
