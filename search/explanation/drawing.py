"""A projection as a picture that does not move: colour and shape for the class, rings for train, full for the other split."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from search import canvas
from search.explanation.features import Plane
from search.explanation.gather import Explained

# Okabe and Ito's six, and four that keep apart from them; a class beyond takes the next shape.
COLOURS = (*canvas.PALETTE, "#7f3c8d", "#80631a", "#5f6872", "#0b3954")
SHAPES = ("o", "s", "^", "D")


def scattered(said: Explained, plane: Plane) -> Figure:
    embedded = said.embedded
    assert embedded is not None
    with canvas.style():
        figure = Figure(figsize=(7.2, 5.4), layout="constrained")
        axes = figure.add_subplot()
        for place, label in enumerate(embedded.classes):
            colour = COLOURS[place % len(COLOURS)]
            shape = SHAPES[place // len(COLOURS) % len(SHAPES)]
            ring = plane.train[said.train_labels[embedded.train] == label]
            full = plane.other[said.found.labels[embedded.other] == label]
            thin: Any = {"facecolors": "none", "edgecolors": colour, "linewidths": 0.8}
            axes.scatter(ring[:, 0], ring[:, 1], s=14, marker=shape, **thin)
            axes.scatter(full[:, 0], full[:, 1], s=16, marker=shape, color=colour)
            axes.scatter([], [], s=24, marker=shape, color=colour, label=said.classes[label][:24])
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_title(f"{plane.title}: rings are train, full ones {said.wanted.on}")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return figure
