"""Sheets of pictures: one example under every corruption and severity, and what attacks made of a few."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from datasets.corrupting.scene import corrupted
from trainers.robustness.shift import Shift
from trainers.robustness.siege import Siege
from trainers.task import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

CELL = 0.95  # inches


def corruptions(image: Tensor, id: Tensor, shift: Shift) -> Figure:
    """A column a corruption, a row a severity, of one picture (1, H, W, C) uint8."""
    rows = {
        f"{severity}": [
            corrupted(image, id, name, severity, seed=shift.seed)[0].cpu().numpy()
            for name in shift.corruptions
        ]
        for severity in shift.severities
    }
    titles = [name.replace("_", "\n", 1) for name in shift.corruptions]
    return Figure("examples", lambda: _drawn(rows, titles))


def attacked(siege: Siege, classes: tuple[str, ...]) -> Figure:
    """Three rows: pictures, what was added (times as much as fills the range), what came of it."""
    most = max(siege.epsilons) / 255
    befores = [_pixels(each.before) for each in siege.examples]
    added = [_pixels(0.5 + 0.5 * (each.after - each.before) / most) for each in siege.examples]
    afters = [_pixels(each.after) for each in siege.examples]
    titles = [f"{classes[e.label]} → {classes[e.prediction]}"[:24] for e in siege.examples]
    rows = {"picture": befores, "added": added, f"PGD {255 * most:g}/255": afters}
    return Figure("attacked", lambda: _drawn(rows, titles))


def _pixels(image: Tensor) -> np.ndarray:
    return (image.permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _drawn(rows: dict[str, list[Any]], titles: list[str]) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    wide, tall = len(titles), len(rows)
    beside = 0.15 + 0.07 * max(map(len, rows))  # inches for the names
    width, height = CELL * wide + beside, CELL * tall + 0.4
    drawing = Drawing(figsize=(width, height))
    drawing.subplots_adjust(beside / width, 0.02, 0.99, 1 - 0.36 / height, 0.06, 0.06)
    for row, (name, pictures) in enumerate(rows.items()):
        for column, picture in enumerate(pictures):
            axes = drawing.add_subplot(tall, wide, row * wide + column + 1)
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if not row:
                axes.set_title(titles[column], fontsize=8, pad=3)
            if not column:
                axes.set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    return drawing
