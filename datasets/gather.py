"""From row numbers to batches: columns held in memory are picked at once, encoded pictures are read ahead by threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.batch import Batch
from datasets.frames import Frame
from datasets.packed.columns import Array, ColumnType
from datasets.packed.records import Ragged
from datasets.pictures.decode import Undecodable, one_thread, show
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.transforms import Transform

AHEAD_BYTES = 256 * 2**20  # of batches that are being made, at most, but for two of them
CHUNK = 32  # pictures a thread takes at once


@dataclass(frozen=True, slots=True)
class Order:
    """A batch to be made: rows of the split, the keys of its transforms and its frame, and its own."""

    rows: NDArray[np.int64]
    keys: Sequence[int]
    frame: int
    key: int
    weightless: bool = False


class Gatherer(Protocol):
    def batches(self, orders: Iterable[Order]) -> Iterator[Batch]:
        """The batches of the orders, in turn."""
        ...


class Held:
    """Columns in memory, or mapped from disk: a batch is one `take` a column."""

    def __init__(self, columns: Mapping[str, Array], transforms: Sequence[Transform]) -> None:
        self.columns = {n: values for n, values in columns.items() if values.dtype != object}
        self.transforms = transforms

    def batches(self, orders: Iterable[Order]) -> Iterator[Batch]:
        for order in orders:
            columns = {
                name: values.take(order.rows, axis=0) for name, values in self.columns.items()
            }
            for transform, key in zip(self.transforms, order.keys, strict=True):
                columns["image"] = transform(columns["image"], columns["id"], key)
            tensors = {name: torch.from_numpy(values) for name, values in columns.items()}
            yield Batch(tensors, order.key, order.weightless)


@dataclass
class _Making:
    """A batch whose pictures threads are writing."""

    order: Order
    image: Tensor
    parts: list[Future[dict[str, Array]]] = field(default_factory=list)


class Decoded:
    """Encoded pictures: boxes are drawn, only what they show is decoded and resized, several batches ahead.

    `threads` decode; `size` is the pictures' side as the batch holds them.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        *,
        frame: Frame,
        size: int,
        transforms: Sequence[Transform] = (),
        threads: int = 0,
        pin: bool = False,
    ) -> None:
        self.shelf, self.frame, self.size = dataset.shelf(split), frame, size
        self.transforms, self.pin = transforms, pin
        self.channels = dataset.manifest.shape[2]
        self.threads = threads or max(1, len(os.sched_getaffinity(0)))
        types = {name: ColumnType.parse(words) for name, words in dataset.manifest.columns.items()}
        self.small = [name for name, kind in types.items() if kind is not None and kind.numeric]

    def batches(self, orders: Iterable[Order]) -> Iterator[Batch]:
        """Batches in turn. Closing the iterator stops the threads; a picture that does not decode is a Refusal."""
        pool = ThreadPoolExecutor(self.threads, "decode", initializer=one_thread)
        waiting: deque[_Making] = deque()
        ordered = iter(orders)
        try:
            while True:
                while len(waiting) < self._depth(waiting) and (order := next(ordered, None)):
                    waiting.append(self._begin(order, pool))
                if not waiting:
                    return
                yield self._finish(waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self.shelf.close()

    def _depth(self, waiting: Sequence[_Making]) -> int:
        """How many batches are made at once: enough for every thread, within the budget of memory."""
        if not waiting:
            return 2
        one = waiting[0].image
        wanted = 1 + -(-self.threads * CHUNK * 2 // len(one))
        return max(2, min(wanted, AHEAD_BYTES // max(1, one.nbytes)))

    def _begin(self, order: Order, pool: ThreadPoolExecutor) -> _Making:
        """Allocate a batch and hand out its pictures."""
        rows = order.rows
        numbers, places = self.shelf.locate(rows)
        self.shelf.prefetch(dict.fromkeys(numbers.tolist()))
        image = torch.empty(
            (len(rows), self.size, self.size, self.channels), dtype=torch.uint8, pin_memory=self.pin
        )
        making = _Making(order, image)
        for start in range(0, len(rows), CHUNK):
            cut = slice(start, start + CHUNK)
            part = pool.submit(self._make, order, numbers[cut], places[cut], image[cut])
            making.parts.append(part)
        return making

    def _make(
        self,
        order: Order,
        numbers: NDArray[np.int64],
        places: NDArray[np.int64],
        image: Tensor,
    ) -> dict[str, Array]:
        """In a thread: a stretch of a batch's pictures, written into `image`; their other columns."""
        opened = [self.shelf.open(number) for number in numbers.tolist()]
        rows = list(zip(opened, places.tolist(), strict=True))
        small = {
            name: np.stack([columns[name][row] for columns, row in rows]) for name in self.small
        }
        height, width = small["height"], small["width"]
        boxes = self.frame(height, width, small["id"], order.frame).tolist()
        sizes = zip(height.tolist(), width.tolist(), strict=True)
        for (columns, row), box, (tall, wide), out in zip(rows, boxes, sizes, image, strict=True):
            top, left, high, broad, mirror = box
            pictures, tiles = columns["image"], columns["tiles"]
            assert isinstance(pictures, Ragged) and isinstance(tiles, Ragged)
            try:
                show(
                    pictures[row].data,
                    (top, left, high, broad),
                    out,
                    height=tall,
                    width=wide,
                    tiles=tiles[row],
                    mirror=bool(mirror),
                )
            except Undecodable as error:
                raise Refusal(
                    f"the picture with id {int(columns['id'][row])} {error}",
                    path=self.shelf.url,
                    remedy="pack the data set again, leaving out what does not decode",
                ) from error
        return small

    def _finish(self, making: _Making) -> Batch:
        """Wait for a batch's threads."""
        parts = [part.result() for part in making.parts]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in self.small}
        columns = {name: torch.from_numpy(values) for name, values in joined.items()}
        image = making.image
        if self.transforms:
            pixels = image.numpy()
            for transform, key in zip(self.transforms, making.order.keys, strict=True):
                pixels = transform(pixels, joined["id"], key)
            image = torch.from_numpy(pixels)
        order = making.order
        return Batch({**columns, "image": image}, order.key, order.weightless)
