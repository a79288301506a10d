"""Matplotlib's figures as PNG."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def png(drawing: Figure, *, dpi: int = 150) -> bytes:
    """The bytes of a PNG. Letters that the machine has no font for are boxes, which is said once by the picture itself."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        drawing.savefig(file, format="png", dpi=dpi)
    return file.getvalue()
