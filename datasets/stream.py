"""Shards -> batches: which rows by order.py's arithmetic, how they become tensors by gather.py.

Images stay uint8 NHWC; normalising happens on the device.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datasets import order
from datasets.batch import Batch, picture
from datasets.decoding import Decoding
from datasets.foreign.pool import pools
from datasets.frames import Frame
from datasets.gather import Ahead, Gatherer, Held, HeldRows, Order
from datasets.packed.shelf import cache_bytes
from datasets.refusal import Refusal
from datasets.sampling.lines import Line
from datasets.sampling.samplers import Sampler
from datasets.shards import Dataset
from datasets.transforms import Transform

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    """How pictures are shown: a box of each (`frame`, for pictures in files), `size` pixels a side, then transforms.

    `views` is how often, each with draws of its own; `threads` decode (0: as many as there are cores); `pin` asks for memory
    that a CUDA device copies from by itself; pictures of splits of up to `decoded_bytes` stay decoded; `processes` decode in
    place of the threads where pictures are in files, none are kept, and all transforms are ours.
    """

    frame: Frame | None = None
    size: int = 0
    transforms: Sequence[Transform] = ()
    views: int = 1
    threads: int = 0
    pin: bool = False
    decoded_bytes: int = 0
    processes: bool = False

    def __post_init__(self) -> None:
        if self.views < 1 or min(self.size, self.threads, self.decoded_bytes) < 0:
            raise ValueError(f"no picture can be shown like this: {self}")

    def gatherer(self, dataset: Dataset, split: str) -> Gatherer:
        """What makes the batches of a split. Raises Refusal where the view does not fit the data."""
        manifest = dataset.manifest
        _check_images(dataset, self.transforms, self.views)
        rows: HeldRows | Decoding
        if manifest.codec == "raw":
            _check_size(dataset, split)
            columns = dataset.columns(split)
            costly = any(getattr(each, "costly", False) for each in self.transforms)
            if not costly and not pools(self.transforms):
                return Held(columns, self.transforms, self.views)
            rows = HeldRows(columns)
        elif self.frame is None or self.size < 1:
            raise Refusal(
                f"the pictures of '{manifest.name}' have many sizes: how large does the model take them?",
                path="data.size",
                remedy="set data.size=224, say",
            )
        else:
            rows = Decoding(
                dataset,
                split,
                frame=self.frame,
                size=self.size,
                decoded_bytes=self.decoded_bytes,
            )
        in_files = isinstance(rows, Decoding) and rows.kept is None
        return Ahead(
            rows,
            self.transforms,
            views=self.views,
            threads=self.threads,
            pin=self.pin,
            processes=self.processes and in_files and not pools(self.transforms),
        )


AS_STORED = View()


class TrainStream:
    """This rank's part of every global batch. Position is one integer: `epoch(..., start=step)`.

    With `guests` each batch begins with the row of the slot before this rank's first, for who mixes samples (mixing.py); a
    rank that is alone needs none. Raises Refusal when there are more ranks than lanes, and for what `check_lanes`
    and the view refuse.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        *,
        sampler: Sampler,
        seed: int,
        rank: int = 0,
        world: int = 1,
        view: View = AS_STORED,
        guests: bool = False,
    ) -> None:
        self.sampler, self.seed, self.rank, self.world = sampler, seed, rank, world
        self.plan, self.guests = sampler.plan, guests and world > 1
        rows = dataset.manifest.split(split).rows
        if sampler.rows != rows:
            raise ValueError(f"a sampler of {sampler.rows} rows for a split of {rows}")
        self.num_transforms = len(view.transforms)
        order.slots(self.plan, rank, world)  # refuses too many ranks before anything is read
        check_lanes(dataset, split, sampler)
        self._gatherer = view.gatherer(dataset, split)

    def __len__(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return self.plan.steps

    def epoch(self, phase: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of the steps from `start` on; a function of (seed, phase, epoch) and the rank."""
        if start < 0:
            raise ValueError(f"an epoch has no step {start}")
        batches = self._gatherer.batches(self._orders(phase, epoch, start))
        return map(_with_guest, batches) if self.guests else batches

    def _orders(self, phase: int, epoch: int, start: int) -> Iterator[Order]:
        plan, root = self.plan, order.key(self.seed, phase, epoch)
        line = self.sampler.epoch(seed=self.seed, phase=phase, epoch=epoch)
        # What happens to a sample depends on the epoch, not on the step that it falls into.
        keys, frame = _keys(root, self.num_transforms), order.key(root, "frame")
        for step in range(start, plan.steps):
            rows = line.rows(step, self.rank, self.world)
            weightless = not len(rows)
            if weightless:
                rows = line.rows(step)[:1]
            if self.guests:
                rows = np.concatenate([self._guest(line, step), rows])
            yield Order(rows, keys, frame, order.extended(root, step), weightless)

    def _guest(self, line: Line, step: int) -> NDArray[np.int64]:
        """The row of the slot before this rank's first; before the batch's first comes its last."""
        found = line.rows(step, (self.rank - 1) % self.world, self.world)
        if not len(found):  # of a ragged batch the neighbour may have none
            first, _ = order.slots(self.plan, self.rank, self.world, self.plan.rows_at(step))
            found = np.roll(line.rows(step), -first)
        return found[-1:]


def check_lanes(dataset: Dataset, split: str, sampler: Sampler) -> None:
    """Refuse a remote set whose lanes read from more shards at a time than the host's cache holds.

    Every record batch would be fetched anew for each of its rows. Of all lanes, whatever the number of hosts: a recipe
    that one place takes, every place takes.
    """
    if dataset.stats is None:  # nothing is fetched
        return
    budget, needed, lanes = cache_bytes(), sampler.window_bytes, sampler.plan.lanes
    size = sum(shard.bytes for shard in dataset.manifest.split(split).shards)
    if not needed and size > budget:
        logger.warning(
            "split '%s' has %d bytes, MANTA_CACHE_BYTES=%d: rows come from all of it in every step, so what was "
            "evicted is fetched again",
            split,
            size,
            budget,
        )
    if needed > budget:
        most = budget * lanes // needed
        fewer = f"use data.lanes={most} or less, or " if most else ""
        raise Refusal(
            f"{lanes} lanes read windows of {needed // lanes} bytes each at a time, {needed} in all, "
            f"and the host's cache holds {budget}",
            path="data.lanes",
            value=lanes,
            remedy=f"{fewer}set MANTA_CACHE_BYTES={needed} or more",
        )


# The root of what a frame draws when pictures are judged.
JUDGED = order.key("evaluation", "frame")


class EvalStream:
    """Each row of a split exactly once over all ranks: rank r reads its contiguous share.

    `batch` is the rows of this rank's batches, the last of which may be smaller; a rank whose share
    is empty has none. With `rows` these alone are read, in this order.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        *,
        batch: int,
        rank: int = 0,
        world: int = 1,
        view: View = AS_STORED,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        if batch < 1:
            raise Refusal(
                f"{batch} is not a batch", path="data.batch", value=batch, remedy="use 1 or more"
            )
        self.batch, self.num_transforms = batch, len(view.transforms)
        whole = dataset.manifest.split(split).rows
        self.rows = np.arange(whole, dtype=np.int64) if rows is None else rows
        self.share = order.share(len(self.rows), rank, world)
        self._gatherer = view.gatherer(dataset, split)

    def __len__(self) -> int:
        """Batches of this rank."""
        return (len(self.share) + self.batch - 1) // self.batch

    def __iter__(self) -> Iterator[Batch]:
        return self._gatherer.batches(self._orders())

    def _orders(self) -> Iterator[Order]:
        keys = _keys(order.key("evaluation"), self.num_transforms)
        for start in range(self.share.start, self.share.stop, self.batch):
            rows = self.rows[start : min(start + self.batch, self.share.stop)]
            yield Order(rows, keys, JUDGED, order.key("evaluation", start))


def _with_guest(batch: Batch) -> Batch:
    return replace(batch, guest=True)


def _keys(root: int, num_transforms: int) -> list[int]:
    """One key per transform, or two of a kind would make the same draws."""
    return [order.key(root, place) for place in range(num_transforms)]


def _check_images(dataset: Dataset, transforms: Sequence[Transform], views: int) -> None:
    """Refuse transforms and views of what has no pictures, or has a column where a view belongs."""
    columns = dataset.manifest.columns
    if "image" not in columns and (transforms or views > 1):
        many, path = (len(transforms), "transforms") if transforms else (views, "views")
        raise Refusal(
            f"'{dataset.manifest.name}' is a table, {path} are for images",
            path=f"data.train.{path}",
            value=many,
            remedy="remove them",
        )
    taken = columns.keys() & {picture(view) for view in range(1, views)}
    if taken:
        raise Refusal(
            f"'{dataset.manifest.name}' has a column '{min(taken)}', where a view would be",
            path="data.train.views",
            value=views,
            remedy="pack the data without that column",
        )


def _check_size(dataset: Dataset, split: str) -> None:
    size = sum(shard.bytes for shard in dataset.manifest.split(split).shards)
    if size > order.WHOLE_BYTES:
        raise Refusal(
            f"split '{split}' has {size / 2**30:.1f} GiB, more than the "
            f"{order.WHOLE_BYTES / 2**30:.0f} GiB of raw columns that are held in memory",
            path=dataset.url,
            value=size,
            remedy="pack fewer rows or smaller pictures",
        )
