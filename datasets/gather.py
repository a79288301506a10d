"""From row numbers to batches: at once where all is in memory and quick, else by threads, several batches ahead."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.batch import Batch, picture
from datasets.foreign.pool import pools
from datasets.packed.columns import Array
from datasets.pictures.decode import one_thread
from datasets.readers.pool import pickled, readers
from datasets.readers.process import Part, Pickled
from datasets.showing import Rows, Showing, transformed
from datasets.transforms import Transform

AHEAD_BYTES = 256 * 2**20  # of batches that are being made, at most, but for two of them
CHUNK = 32  # pictures a thread takes at once, or as many more as have
CHUNK_BYTES = 2**14  # so many bytes: of small ones a call costs more than its pictures


class Order(NamedTuple):
    """A batch to be made: rows of the split, the keys of its transforms and its frame, and its own.

    These are the keys of the first view; `seen` gives those of the others.
    """

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

    def __init__(
        self, columns: Mapping[str, Array], transforms: Sequence[Transform], views: int = 1
    ) -> None:
        self.columns = {n: values for n, values in columns.items() if values.dtype != object}
        self.transforms, self.views = transforms, views

    def batches(self, orders: Iterable[Order]) -> Iterator[Batch]:
        for order in orders:
            columns = {
                name: values.take(order.rows, axis=0) for name, values in self.columns.items()
            }
            if self.transforms or self.views > 1:
                stored, ids = columns["image"], columns["id"]
                for view in range(self.views):
                    own = stored.copy() if view and not self.transforms else stored
                    own = transformed(self.transforms, order.keys, view, own, ids)
                    columns[picture(view)] = own
            tensors = {name: torch.from_numpy(values) for name, values in columns.items()}
            yield Batch(tensors, order.key, order.weightless)


class HeldRows:
    """Columns in memory, for transforms that are slow enough to be worth threads."""

    def __init__(self, columns: Mapping[str, Array]) -> None:
        self.image = columns["image"]
        self.others = {n: c for n, c in columns.items() if n != "image" and c.dtype != object}
        self.shape: tuple[int, ...] = self.image.shape[1:]

    def prefetch(self, rows: NDArray[np.int64]) -> None:
        pass  # all is here

    def take(
        self, rows: NDArray[np.int64], frames: Sequence[int], out: Sequence[Tensor]
    ) -> dict[str, Array]:
        for pixels in out:
            self.image.take(rows, axis=0, out=pixels.numpy(), mode="clip")  # "raise" buffers
        return {name: values.take(rows, axis=0) for name, values in self.others.items()}

    def hold(self, rows: NDArray[np.int64]) -> None:
        pass

    def interrupt(self) -> None:
        pass  # nobody waits

    def close(self) -> None:
        pass


@dataclass
class _Making:
    """A batch whose pictures threads are writing."""

    order: Order
    images: list[Tensor]
    parts: list[Future[dict[str, Array]]] = field(default_factory=list)


class Ahead:
    """Rows taken and transformed by threads, several batches ahead; each picture as often as there are views.

    With `processes` each thread has a process do it once there is one that is up; the batches are the same.
    """

    def __init__(
        self,
        rows: Rows,
        transforms: Sequence[Transform] = (),
        *,
        views: int = 1,
        threads: int = 0,
        pin: bool = False,
        processes: bool = False,
    ) -> None:
        self.rows, self.views, self.pin = rows, views, pin
        self.showing = Showing(rows, transforms, views)
        self.threads = threads or max(1, len(os.sched_getaffinity(0)))
        self.chunk = max(CHUNK, CHUNK_BYTES // max(1, math.prod(rows.shape)))
        self.workers = pools(transforms)
        self.pickled: Pickled | None = None
        if processes:
            self.pickled = pickled(self.showing)
            readers().want(self.threads)

    def batches(self, orders: Iterable[Order]) -> Iterator[Batch]:
        """Batches in turn. Closing the iterator stops the threads; a picture that does not decode is a Refusal.

        Processes that transform stay for the next epoch, unless this one is left before its end.
        """
        pool = ThreadPoolExecutor(self.threads, "decode", initializer=one_thread)
        waiting: deque[_Making] = deque()
        ordered, early = iter(orders), True
        for workers in self.workers:
            workers.enter()
        try:
            while True:
                while len(waiting) < self._depth(waiting) and (order := next(ordered, None)):
                    waiting.append(self._begin(order, pool))
                if not waiting:
                    early = False
                    return
                batch = self._finish(waiting.popleft())
                early = bool(waiting)
                yield batch
                early = True
        finally:
            for workers in self.workers:  # first: a slow transform would hold up whoever leaves
                workers.leave(early=early)
            pool.shutdown(wait=False, cancel_futures=True)
            self.rows.interrupt()
            pool.shutdown(wait=True)
            self.rows.close()

    def _depth(self, waiting: Sequence[_Making]) -> int:
        """How many batches are made at once: enough for every thread, within the budget of memory."""
        if not waiting:
            return 2
        images = waiting[0].images
        wanted = 1 + -(-self.threads * self.chunk * 2 // len(images[0]))
        return max(2, min(wanted, AHEAD_BYTES // max(1, sum(image.nbytes for image in images))))

    def _begin(self, order: Order, pool: ThreadPoolExecutor) -> _Making:
        """Allocate a batch and hand out its pictures."""
        self.rows.prefetch(order.rows)
        shape = (len(order.rows), *self.rows.shape)
        images = [_empty(shape, pin=self.pin) for _ in range(self.views)]
        making = _Making(order, images)
        for start in range(0, len(order.rows), self.chunk):
            cut = slice(start, start + self.chunk)
            part = pool.submit(self._make, order, order.rows[cut], [image[cut] for image in images])
            making.parts.append(part)
        return making

    def _make(
        self, order: Order, rows: NDArray[np.int64], out: Sequence[Tensor]
    ) -> dict[str, Array]:
        """In a thread: a stretch of a batch's pictures, written into `out`; their other columns."""
        if self.pickled:
            self.rows.hold(rows)
            made = readers().make(self.pickled, Part(rows, order.keys, order.frame), out)
            if made is not None:
                return made
        return self.showing.make(rows, order.keys, order.frame, out)

    def _finish(self, making: _Making) -> Batch:
        """Wait for a batch's threads."""
        parts = [part.result() for part in making.parts]
        columns = {
            name: torch.from_numpy(np.concatenate([part[name] for part in parts]))
            for name in parts[0]
        }
        for view, image in enumerate(making.images):
            columns[picture(view)] = image
        return Batch(columns, making.order.key, making.order.weightless)


def _empty(shape: tuple[int, ...], *, pin: bool) -> Tensor:
    """Memory for a batch's pictures, uint8."""
    if pin:
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
    # numpy asks for huge pages: the first writing costs a page fault for 2 MiB and not for each 4 KiB.
    return torch.from_numpy(np.empty(shape, np.uint8))
