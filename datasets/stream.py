"""Shards -> batches. A split that fits in memory is gathered from there, by order.py's arithmetic.

Images stay uint8 NHWC; normalising happens on the device.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets import order
from datasets.order import Plan
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.source import Array
from datasets.transforms import Transform


@dataclass(frozen=True, slots=True)
class Batch:
    """Columns of one length: `image` (B, H, W, C) uint8, `label` (B,) int64, `id` (B,) int64, ...

    `key` is the root of what is drawn for the whole batch; it is the same on every rank. A
    `weightless` batch keeps a rank in step that has no sample of its own: its row counts nothing.
    """

    columns: dict[str, Tensor]
    key: int
    weightless: bool = False

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __len__(self) -> int:
        return len(self.columns["id"])

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device, without waiting where memory is pinned."""
        device = torch.device(device)
        if self.columns["id"].device == device:
            return self
        moved = {n: column.to(device, non_blocking=True) for n, column in self.columns.items()}
        return Batch(moved, self.key, self.weightless)

    def chunks(self, num: int) -> Iterator[Batch]:
        """`num` views of near equal size, in order, for gradient accumulation."""
        bounds = [part * len(self) // num for part in range(num + 1)]
        for start, stop in itertools.pairwise(bounds):
            part = {name: column[start:stop] for name, column in self.columns.items()}
            yield Batch(part, self.key, self.weightless)


class TrainStream:
    """This rank's part of every global batch. Position is one integer: `epoch(..., start=step)`.

    Raises Refusal when there are more ranks than lanes, and for a split that is too large to be
    permuted whole.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        *,
        plan: Plan,
        seed: int,
        rank: int = 0,
        world: int = 1,
        transforms: Sequence[Transform] = (),
    ) -> None:
        self.plan, self.seed, self.rank, self.world = plan, seed, rank, world
        self.transforms = tuple(transforms)
        order.slots(plan, rank, world)  # refuses too many ranks before anything is read
        _check_size(dataset, split)
        held = dataset.manifest.split(split).rows
        if plan.rows != held:
            raise ValueError(f"a plan of {plan.rows} rows for a split of {held}")
        _check_transforms(dataset, transforms)
        self._columns = dataset.columns(split)

    def __len__(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return self.plan.steps

    def epoch(self, phase: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of the steps from `start` on; a function of (seed, phase, epoch) and the rank."""
        plan, root = self.plan, order.key(self.seed, phase, epoch)
        line = order.line(plan.rows, seed=self.seed, phase=phase, epoch=epoch)
        # What happens to a sample depends on the epoch, not on the step that it falls into.
        keys = _keys(root, self.transforms)
        # The whole epoch's rows in one go: step by step the arithmetic costs as much as the gather.
        table = order.table(plan, line, self.rank, self.world)
        for step in range(start, plan.full_steps):
            yield self._batch(table[step], keys, order.extended(root, step))
        if plan.ragged and start <= plan.full_steps:
            step = plan.full_steps
            rows = order.rows(plan, line, step, self.rank, self.world)
            weightless = not len(rows)
            if weightless:
                rows = line[plan.full_steps * plan.batch :][:1]
            yield self._batch(rows, keys, order.extended(root, step), weightless)

    def _batch(self, rows: Array, keys: Sequence[int], key: int, weightless: bool = False) -> Batch:
        columns = {name: values.take(rows, axis=0) for name, values in self._columns.items()}
        return Batch(_tensors(columns, self.transforms, keys), key, weightless)


class EvalStream:
    """Each row of a split exactly once over all ranks: rank r reads its contiguous share.

    `batch` is the rows of this rank's batches, the last of which may be smaller; a rank whose share
    is empty has none.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        *,
        batch: int,
        rank: int = 0,
        world: int = 1,
        transforms: Sequence[Transform] = (),
    ) -> None:
        if batch < 1:
            raise Refusal(
                f"{batch} is not a batch", path="data.batch", value=batch, remedy="use 1 or more"
            )
        _check_size(dataset, split)
        self.batch, self.transforms = batch, tuple(transforms)
        self.share = order.share(dataset.manifest.split(split).rows, rank, world)
        _check_transforms(dataset, transforms)
        self._columns = dataset.columns(split)

    def __len__(self) -> int:
        """Batches of this rank."""
        return (len(self.share) + self.batch - 1) // self.batch

    def __iter__(self) -> Iterator[Batch]:
        keys = _keys(order.key("evaluation"), self.transforms)
        for start in range(self.share.start, self.share.stop, self.batch):
            stop = min(start + self.batch, self.share.stop)
            # A copy: what is mapped from a shard is read-only, which a tensor cannot be.
            columns = {name: values[start:stop].copy() for name, values in self._columns.items()}
            key = order.key("evaluation", start)
            yield Batch(_tensors(columns, self.transforms, keys), key)


def _keys(root: int, transforms: Sequence[Transform]) -> list[int]:
    """One key per transform, or two of a kind would make the same draws."""
    return [order.key(root, place) for place in range(len(transforms))]


def _tensors(
    columns: dict[str, Array], transforms: Sequence[Transform], keys: Sequence[int]
) -> dict[str, Tensor]:
    for transform, key in zip(transforms, keys, strict=True):
        columns["image"] = transform(columns["image"], columns["id"], key)
    return {name: torch.from_numpy(values) for name, values in columns.items()}


def _check_transforms(dataset: Dataset, transforms: Sequence[Transform]) -> None:
    if transforms and "image" not in dataset.manifest.columns:
        raise Refusal(
            f"'{dataset.manifest.name}' is a table, transforms are for images",
            path="data.transforms",
            value=len(transforms),
            remedy="remove them",
        )


def _check_size(dataset: Dataset, split: str) -> None:
    size = sum(shard.bytes for shard in dataset.manifest.split(split).shards)
    if size > order.WHOLE_BYTES:
        raise Refusal(
            f"split '{split}' has {size / 2**30:.1f} GiB, more than the "
            f"{order.WHOLE_BYTES / 2**30:.0f} GiB that are read whole",
            path=dataset.url,
            value=size,
            remedy="pack fewer rows or smaller pictures",
        )
