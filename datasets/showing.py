"""A stretch of rows as the pixels that are shown: taken, then transformed, each view with draws of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datasets import order as draws
from datasets.packed.columns import Array
from datasets.transforms import Images, Transform


class Rows(Protocol):
    """A split's rows, from which threads take; `shape` is that of its pictures, (H, W, C)."""

    shape: tuple[int, ...]

    def prefetch(self, rows: NDArray[np.int64]) -> None:
        """Start getting what will be taken."""
        ...

    def hold(self, rows: NDArray[np.int64]) -> None:
        """In a thread: have here, checked, what another process is about to take."""
        ...

    def take(
        self, rows: NDArray[np.int64], frames: Sequence[int], out: Sequence[Tensor]
    ) -> dict[str, Array]:
        """In a thread: write pictures into `out`, a view each by its frame's key; the rows' other columns."""
        ...

    def interrupt(self) -> None:
        """Let threads that wait for what does not come give up: nobody will take what they were to get."""
        ...

    def close(self) -> None:
        """Stop getting."""
        ...


@dataclass(frozen=True)
class Showing:
    """How rows become pixels; what a reader process is sent, once."""

    rows: Rows
    transforms: Sequence[Transform]
    views: int

    def make(
        self, rows: NDArray[np.int64], keys: Sequence[int], frame: int, out: Sequence[Tensor]
    ) -> dict[str, Array]:
        """Write the pictures of the rows into `out`, (B, H, W, C) uint8 a view; their other columns."""
        small = self.rows.take(rows, [seen(frame, view) for view in range(self.views)], out)
        if self.transforms:
            for view, image in enumerate(out):
                pixels = image.numpy()
                pixels[...] = transformed(self.transforms, keys, view, pixels, small["id"])
        return small


def seen(key: int, view: int) -> int:
    """A key of the first view as it is for another one, counted from 0."""
    return draws.key(key, "view", view) if view else key


def transformed(
    transforms: Sequence[Transform], keys: Sequence[int], view: int, images: Images, ids: Array
) -> Images:
    """The images after all transforms, as one view draws them."""
    for transform, key in zip(transforms, keys, strict=True):
        images = transform(images, ids, seen(key, view))
    return images
