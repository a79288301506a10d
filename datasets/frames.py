"""Frames: the part of a picture that is shown, drawn as a box before anything is decoded. `random_resized_crop()`.

A frame maps the heights and widths of pictures, their ids (all (B,) int64) and a key to boxes (B, 5) int64: top, left,
height, width in pixels, inside the picture, and 1 where left and right change places. What is drawn for a sample is a
function of (key, id) and its size alone. The box is then resized to the size that the model takes. A new one is a new
public function here.
"""

# B batch

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from datasets import order
from datasets.refusal import Refusal

Integers: TypeAlias = NDArray[np.int64]
Boxes: TypeAlias = NDArray[np.int64]
Frame: TypeAlias = Callable[[Integers, Integers, Integers, int], Boxes]

_ATTEMPTS = 10


def random_resized_crop(
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (0.75, 1.3333333333333333),
    mirror: float = 0.0,
) -> Frame:
    """A box of random area (a share of the picture's in `scale`) and aspect ratio, as torchvision draws it.

    Ten attempts, then the middle of the picture, cut to the nearest allowed ratio (arXiv 1409.4842). `mirror` is the
    probability of a flip, which costs nothing here; the transform `flip` copies the batch.
    """
    _check("mirror", mirror, 0 <= mirror <= 1, "use a probability")
    _check(
        "scale",
        scale,
        0 < scale[0] <= scale[1] <= 1,
        "use two shares of the area, 0 < low <= high <= 1",
    )
    _check(
        "ratio", ratio, 0 < ratio[0] <= ratio[1] < math.inf, "use width by height, 0 < low <= high"
    )

    def frame(heights: Integers, widths: Integers, ids: Integers, key: int) -> Boxes:
        attempts = np.arange(_ATTEMPTS, dtype=np.int64)
        column = np.asarray(ids).reshape(-1, 1)
        area = (heights * widths)[:, None] * _between(
            scale, order.uniform(key, column, 4 * attempts)
        )
        logs = (math.log(ratio[0]), math.log(ratio[1]))
        aspect = np.exp(_between(logs, order.uniform(key, column, 4 * attempts + 1)))
        wide = np.rint(np.sqrt(area * aspect)).astype(np.int64)
        tall = np.rint(np.sqrt(area / aspect)).astype(np.int64)
        fits = (wide > 0) & (wide <= widths[:, None]) & (tall > 0) & (tall <= heights[:, None])
        rows, first = np.arange(len(column)), fits.argmax(1)
        wide, tall = wide[rows, first], tall[rows, first]
        down = order.uniform(key, column, 4 * attempts + 2)[rows, first]
        right = order.uniform(key, column, 4 * attempts + 3)[rows, first]
        top = np.floor(down * (heights - tall + 1)).astype(np.int64)
        left = np.floor(right * (widths - wide + 1)).astype(np.int64)
        mirrored = order.uniform(key, ids, 4 * _ATTEMPTS) < mirror
        boxes = np.stack((top, left, tall, wide, mirrored), axis=1)
        none = ~fits.any(1)
        boxes[none, :4] = _middle(heights[none], widths[none], ratio)
        return boxes

    return frame


def center(*, share: float = 0.875) -> Frame:
    """The square in the middle whose side is `share` of the shorter side: resize 256, then crop 224, in one."""
    _check("share", share, 0 < share <= 1, "use a number above 0, at most 1")

    def frame(heights: Integers, widths: Integers, ids: Integers, key: int) -> Boxes:
        side = np.maximum(1, np.rint(np.minimum(heights, widths) * share)).astype(np.int64)
        plain = np.zeros_like(side)
        return np.stack(((heights - side) // 2, (widths - side) // 2, side, side, plain), axis=1)

    return frame


def whole() -> Frame:
    """The whole picture, squeezed into a square."""

    def frame(heights: Integers, widths: Integers, ids: Integers, key: int) -> Boxes:
        nothing = np.zeros_like(heights)
        return np.stack((nothing, nothing, heights, widths, nothing), axis=1)

    return frame


def _middle(heights: Integers, widths: Integers, ratio: tuple[float, float]) -> Boxes:
    aspect = widths / np.maximum(heights, 1)
    wide = np.where(aspect > ratio[1], np.rint(heights * ratio[1]), widths).astype(np.int64)
    tall = np.where(aspect < ratio[0], np.rint(widths / ratio[0]), heights).astype(np.int64)
    wide, tall = np.clip(wide, 1, widths), np.clip(tall, 1, heights)
    return np.stack(((heights - tall) // 2, (widths - wide) // 2, tall, wide), axis=1)


def _between(bounds: tuple[float, float], share: NDArray[np.float64]) -> NDArray[np.float64]:
    return bounds[0] + (bounds[1] - bounds[0]) * share


def _check(name: str, value: object, holds: bool, remedy: str) -> None:
    if not holds:
        raise Refusal(f"{value} is no {name}", path=name, value=value, remedy=remedy)
