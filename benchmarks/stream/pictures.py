"""Pictures that cost what photographs cost: detail at every scale, edges and grain, mostly 500 x 375, 4:2:0, ~89 KB."""

from __future__ import annotations

import io
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from datasets.sources import synthetic

CLASSES = 10
QUALITY = 90
GRAIN = 15.5  # standard deviation of 255: sets the bytes
SMALL, SMALL_PICTURES = 32, 20_000  # pixels a side, how many
# height, width and how many of ten
SIZES = ((375, 500, 6), (500, 375, 2), (333, 500, 1), (400, 400, 1))


def draw(folder: Path, photographs: int, small: int) -> None:
    """`photographs/CLASS/ID.jpg` and `small/CLASS/ID.png`, once; what is there is kept."""
    for name, count in (("photographs", photographs), ("small", small)):
        target = folder / name
        if (folder / f".{name}").exists():
            continue
        sys.stderr.write(f"drawing {count} pictures into {target} ...\n")
        for label in range(CLASSES):
            (target / f"{label:02}").mkdir(parents=True, exist_ok=True)
        if name == "photographs":
            with ProcessPoolExecutor(os.cpu_count()) as pool:
                for _ in pool.map(partial(photograph, target), range(count), chunksize=64):
                    pass
        else:
            tiny(target, count)
        (folder / f".{name}").touch()


def photograph(folder: Path, number: int) -> None:
    """Write one, the same for the same number."""
    random = np.random.default_rng(number)
    kinds = [size for *size, often in SIZES for _ in range(often)]
    height, width = kinds[number % len(kinds)]
    pixels = np.zeros((height, width, 3), np.float32)
    for scale in (2, 4, 8, 16, 32, 64, 128, 256):  # detail falls with frequency, as in nature
        coarse = random.normal(0, 1, (height // scale + 2, width // scale + 2, 3))
        coarse = 0.7 * coarse.mean(2, keepdims=True) * 1.7 + 0.3 * coarse
        layers = [
            Image.fromarray(coarse[..., c].astype(np.float32)).resize(
                (width, height), Image.Resampling.BICUBIC
            )
            for c in range(3)
        ]
        pixels += 3.2 * scale**0.45 * np.stack([np.asarray(layer) for layer in layers], axis=2)
    picture = Image.fromarray(np.clip(pixels + 120, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(12):  # edges
        corners = [tuple(random.integers(0, (width, height)).tolist()) for _ in range(3)]
        pen.polygon(corners, fill=tuple(random.integers(20, 236, 3).tolist()))
    grainy = np.asarray(picture) + random.normal(0, GRAIN, (height, width, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(grainy, 0, 255).astype(np.uint8)).save(
        file, "JPEG", quality=QUALITY, subsampling="4:2:0"
    )
    (folder / f"{number % CLASSES:02}" / f"{number:06}.jpg").write_bytes(file.getvalue())


def tiny(folder: Path, count: int) -> None:
    """What our source `synthetic` makes in memory, as PNGs for ImageFolder."""
    columns = synthetic.build(num_rows=count, num_classes=CLASSES, size=SMALL).columns
    for number, pixels in enumerate(columns["image"]):
        Image.fromarray(pixels).save(folder / f"{number % CLASSES:02}" / f"{number:06}.png")
