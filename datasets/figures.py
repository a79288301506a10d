"""Sheets of pictures, and matplotlib's figures as PNG."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def sheet(
    pictures: Sequence[Any],
    titles: Sequence[str] = (),
    *,
    wide: int,
    cell: tuple[float, float],
    fontsize: int = 8,
) -> Figure:
    """Pictures (H, W, C) uint8 row by row, `wide` of them in each, in cells of so many inches."""
    from matplotlib.figure import Figure

    wide = min(wide, len(pictures))
    tall = math.ceil(len(pictures) / wide)
    drawing = Figure(figsize=(wide * cell[0], tall * cell[1]), layout="constrained")
    for place, picture in enumerate(pictures):
        axes = drawing.add_subplot(tall, wide, place + 1)
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        if titles:
            axes.set_title(titles[place], fontsize=fontsize, pad=2)
        axes.axis("off")
    return drawing


def png(drawing: Figure, *, dpi: int = 150) -> bytes:
    """The bytes of a PNG. Letters that the machine has no font for are boxes, which is said once by the picture itself."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        drawing.savefig(file, format="png", dpi=dpi)
    return file.getvalue()
