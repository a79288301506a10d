"""Made pictures whose class can be learnt: bars of a direction and a colour, at a random place, with noise."""

from __future__ import annotations

import colorsys
import io
import math

import numpy as np
from numpy.typing import NDArray

from datasets import order
from datasets.refusal import Refusal
from datasets.source import Source

MOST_BYTES = 4 * 2**30  # raw pictures are made in memory
SMALLEST, LARGEST = 300, 500  # pixels of the sides of encoded ones
_NOISE = 24.0  # standard deviation, of 255
_PATCH = 64  # pixels a side
_BARS = 4.0  # from side to side


class SyntheticPictures:
    """JPEGs of 300 to 500 pixels a side, drawn when they are read: the same bytes for the same (seed, row)."""

    def __init__(self, seed: int, num_classes: int, labels: NDArray[np.int64]) -> None:
        self.seed, self.num_classes, self.labels = seed, num_classes, labels

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, row: int) -> bytes:
        from PIL import Image

        ids = np.array([row], dtype=np.int64)
        sides = [
            SMALLEST
            + int(
                order.integers(order.key(self.seed, "side"), ids, axis, LARGEST - SMALLEST + 1)[0]
            )
            for axis in (0, 1)
        ]
        pixels = draw(
            ids, self.labels[row : row + 1], self.num_classes, (sides[0], sides[1]), self.seed
        )
        file = io.BytesIO()
        Image.fromarray(pixels[0]).save(file, "JPEG", quality=90)
        return file.getvalue()

    def name(self, row: int) -> str:
        return f"synthetic picture {row}"


def build(
    *,
    num_rows: int = 1000,
    num_classes: int = 10,
    size: int = 32,
    seed: int = 0,
    encoded: bool = False,
) -> Source:
    """`num_rows` colour pictures of `size` x `size` pixels, as many of each class to one; row i depends on (seed, i).

    With `encoded`, JPEGs of 300 to 500 pixels a side instead, made when they are read.
    Raises Refusal where an argument is out of its range.
    """
    _check("num_rows", num_rows, 1 <= num_rows <= 2**31, "use 1 or more")
    _check("num_classes", num_classes, 1 <= num_classes <= 1000, "use 1 .. 1000")
    _check("size", size, 4 <= size <= 1024, "use 4 .. 1024 pixels")
    held = num_rows * 3 * (0 if encoded else size * size)
    _check(
        "num_rows",
        num_rows,
        held <= MOST_BYTES,
        f"use {MOST_BYTES // (3 * size * size)} or fewer, or encoded=true",
    )
    ids = np.arange(num_rows, dtype=np.int64)
    labels = ids % num_classes
    columns = {"id": ids, "label": labels}
    if not encoded:
        step = max(1, 2**22 // (3 * size * size))
        parts = [slice(start, start + step) for start in range(0, num_rows, step)]
        drawn = [draw(ids[part], labels[part], num_classes, (size, size), seed) for part in parts]
        columns["image"] = np.concatenate(drawn)
    return Source(
        name="synthetic",
        kind="image",
        shape=(0, 0, 3) if encoded else (size, size, 3),
        classes=tuple(f"bars {label}" for label in range(num_classes)),
        pictures=SyntheticPictures(seed, num_classes, labels) if encoded else None,
        columns=columns,
    )


def draw(
    ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    num_classes: int,
    shape: tuple[int, int],
    seed: int,
) -> NDArray[np.uint8]:
    """(N, H, W, 3): class k's bars are turned by k / num_classes of a half turn, and its hue by as much of the circle."""
    height, width = shape
    angle = (math.pi * labels / num_classes)[:, None, None]
    phase = order.uniform(order.key(seed, "phase"), ids, 0)[:, None, None]
    down, right = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    ramps = right * np.cos(angle) + down * np.sin(angle)
    waves = np.sin((2 * math.pi * (_BARS * ramps + phase)).astype(np.float32))
    hues = np.array([colorsys.hsv_to_rgb(label / num_classes, 0.8, 255.0) for label in labels])
    bars = (0.5 + 0.35 * waves)[..., None] * hues.astype(np.float32)[:, None, None, :]
    # Noise of a large picture repeats: drawing it anew everywhere would be most of the time.
    tall, broad = min(height, _PATCH), min(width, _PATCH)
    patch = _noise(order.key(seed, "noise"), ids, tall * broad * 3).reshape(-1, tall, broad, 3)
    repeats = (1, -(-height // tall), -(-width // broad), 1)
    noise = np.tile(patch, repeats)[:, :height, :width]
    return np.asarray(np.clip(np.rint(bars + _NOISE * noise), 0, 255), dtype=np.uint8)


def _noise(key: int, ids: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """(N, count) of mean 0 and deviation 1, nearly normal: sums of four bytes, ten times cheaper than `order.normal`."""
    hashes = order.hashes(key, ids[:, None], np.arange((count + 1) // 2, dtype=np.int64))
    sums = hashes.astype("<u8").view(np.uint8).reshape(len(ids), -1, 4).sum(-1, dtype=np.int16)
    deviation = math.sqrt(4 * (256**2 - 1) / 12)
    return np.asarray((sums[:, :count] - 510) / deviation, dtype=np.float32)


def _check(name: str, value: object, holds: bool, remedy: str) -> None:
    if not holds:
        raise Refusal(
            f"synthetic has no {name}={value}",
            path=f"data.source.{name}",
            value=value,
            remedy=remedy,
        )
