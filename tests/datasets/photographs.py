"""Small photographs in files, as a source: JPEGs tiled or not, progressive, gray, PNGs, of many sizes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.source import Source


@dataclass(frozen=True)
class Folder:
    """Numbered files of a folder."""

    root: str
    num: int

    def __len__(self) -> int:
        return self.num

    def read(self, row: int) -> bytes:
        return Path(self.root, f"{row}.img").read_bytes()

    def name(self, row: int) -> str:
        return f"{self.root}/{row}.img"


def picture(row: int) -> Image.Image:
    """Waves whose direction and colour belong to the row's class."""
    rng = np.random.default_rng(row)
    height, width = (int(n) for n in rng.integers(40, 120, 2))
    y, x = np.mgrid[0:height, 0:width]
    wave = np.sin((x if row % 2 else y) / 4)
    pixels = np.stack([127 + 90 * wave, 127 + 20 * wave * (row % 3), 127 - 90 * wave], -1)
    pixels += rng.normal(0, 8, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(row: int) -> bytes:
    file, image = io.BytesIO(), picture(row)
    kind = row % 8
    if kind == 5:
        image.save(file, "PNG")
    elif kind == 6:
        image.convert("L").save(file, "JPEG", quality=90)
    elif kind == 7:
        image.save(file, "JPEG", quality=90, progressive=True)
    else:
        image.save(file, "JPEG", quality=90, subsampling=("4:2:0", "4:4:4")[kind % 2])
    return file.getvalue()


def source(root: Path, num: int = 200) -> Source:
    root.mkdir(parents=True, exist_ok=True)
    for row in range(num):
        (root / f"{row}.img").write_bytes(encoded(row))
    ids = np.arange(num, dtype=np.int64)
    return Source(
        name="photographs",
        kind="image",
        shape=(0, 0, 3),
        pictures=Folder(str(root), num),
        classes=("down", "right"),
        columns={
            "id": ids * 10,
            "label": ids % 2,
            "box": np.stack([ids, ids + 1, ids + 2, ids + 3], 1).astype(np.float32),
            "path": np.array([f"{row}.img" for row in range(num)], object),
        },
    )
