"""torchvision's ImageFolder in a DataLoader. Variants: torchvision (its decoder), pil (what most scripts run), small (PNG)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.io import decode_png
from torchvision.transforms import v2

from benchmarks.stream.decoding import cropped
from benchmarks.stream.measure import Given, main

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def batches(given: Given) -> Iterator[Any]:
    loader = DataLoader(
        _dataset(given),
        batch_size=given.batch,
        shuffle=True,
        num_workers=given.workers,
        drop_last=True,
    )
    for pictures, _ in loader:
        yield pictures


def _dataset(given: Given) -> ImageFolder:
    if given.variant == "torchvision":
        return ImageFolder(
            f"{given.folder}/photographs",
            loader=lambda path: cropped(Path(path).read_bytes(), given.size),
        )
    if given.variant == "pil":
        steps = [
            v2.RandomResizedCrop(given.size, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
        return ImageFolder(f"{given.folder}/photographs", transform=v2.Compose(steps))
    shifted = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])
    return ImageFolder(
        f"{given.folder}/small",
        loader=lambda path: decode_png(
            torch.frombuffer(bytearray(Path(path).read_bytes()), dtype=torch.uint8)
        ),
        transform=shifted,
    )


if __name__ == "__main__":
    main(batches, packages=("torch", "torchvision", "pillow"))
