"""A batch: the columns of the rows of one step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor


def picture(view: int) -> str:
    """The column that holds a view, counted from 0: image, image_2, image_3, ..."""
    return f"image_{view + 1}" if view else "image"


@dataclass(frozen=True, slots=True)
class Batch:
    """Columns of one length: `image` (B, H, W, C) uint8, `label` (B,) int64, `id` (B,) int64, ...

    Where pictures are shown in several views, `image_2`, ... are the others.
    `key` is the root of what is drawn for the whole batch; it is the same on every rank. A
    `weightless` batch keeps a rank in step that has no sample of its own: its row counts nothing. The first row of a batch
    with a `guest` is another rank's: the partner that the first slot is mixed with.
    """

    columns: dict[str, Tensor]
    key: int
    weightless: bool = False
    guest: bool = False

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]

    def get(self, name: str) -> Tensor | None:
        """A column that not all data have."""
        return self.columns.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __len__(self) -> int:
        return len(self.columns["id"])

    @property
    def pictures(self) -> dict[str, Tensor]:
        """The columns that hold pictures: `image`, and other views of them."""
        views = itertools.takewhile(self.columns.__contains__, map(picture, itertools.count()))
        return {name: self.columns[name] for name in views}

    def stacked(self) -> Batch:
        """All views of its pictures as rows of one batch, view by view; what else a row has, each of its views has."""
        views = self.pictures
        columns = {
            name: torch.cat([column] * len(views))
            for name, column in self.columns.items()
            if name not in views
        }
        return replace(self, columns={**columns, "image": torch.cat([*views.values()])})

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device, without waiting where memory is pinned."""
        device = torch.device(device)
        if self.columns["id"].device == device:
            return self
        moved = {n: column.to(device, non_blocking=True) for n, column in self.columns.items()}
        return replace(self, columns=moved)

    def chunks(self, num: int) -> Iterator[Batch]:
        """`num` views of near equal size, in order, for gradient accumulation."""
        bounds = [part * len(self) // num for part in range(num + 1)]
        for start, stop in itertools.pairwise(bounds):
            part = {name: column[start:stop] for name, column in self.columns.items()}
            yield replace(self, columns=part)
