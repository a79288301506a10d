"""An epoch's line of rows, cut into steps: permuted whole where the set is small, shard by shard and window by window where not.

A set of up to 16 GiB (by its manifest, never by the machine) is one permutation. Of a larger one the shards are permuted,
the lanes are cut from their line, and rows are permuted in windows within each lane, a window being as long as the longest
shard: a rank then reads little more than its share, from a few shards at a time, and no host holds a permutation of the set.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np

from datasets import order
from datasets.order import Integers, Plan
from datasets.packed.manifest import Split


class Line(Protocol):
    """The rows of one epoch's steps; the global batch is the same for any number of ranks."""

    def rows(self, step: int, rank: int = 0, world: int = 1) -> Integers:
        """Row numbers that a rank reads at a step of the epoch, in slot order; of the ragged batch perhaps none."""
        ...


def of_epoch(split: Split, plan: Plan, *, seed: int, phase: int, epoch: int) -> Line:
    """The line of a split's epoch: a function of the manifest, the plan and the seed."""
    if not window_bytes(split):
        return Whole(plan, order.line(plan.rows, seed=seed, phase=phase, epoch=epoch))
    sizes = np.array([shard.rows for shard in split.shards], np.int64)
    return Windowed(plan, sizes, root=order.key("windowed", seed, phase, epoch))


def window_bytes(split: Split) -> int:
    """What a lane reads from at a time: the largest shard; 0 of a set that is permuted whole."""
    sizes = [shard.bytes for shard in split.shards]
    return max(sizes) if sum(sizes) > order.WHOLE_BYTES else 0


class Whole:
    """All rows permuted at once."""

    def __init__(self, plan: Plan, line: Integers) -> None:
        self.plan, self.line = plan, line
        self._tables: dict[tuple[int, int], Integers] = {}

    def rows(self, step: int, rank: int = 0, world: int = 1) -> Integers:
        if step >= self.plan.full_steps:
            return order.rows(self.plan, self.line, step, rank, world)
        table = self._tables.get((rank, world))
        if table is None:
            # The whole epoch's rows in one go: step by step the arithmetic costs as much as the gather.
            table = self._tables[rank, world] = order.table(self.plan, self.line, rank, world)
        found: Integers = table[step]
        return found


class Windowed:
    """Shards permuted, then rows within windows of each lane. Memory grows with shards and lanes, not with rows."""

    def __init__(self, plan: Plan, shard_rows: Integers, *, root: int) -> None:
        self.plan, self.root = plan, root
        shards = order.permutation(len(shard_rows), order.extended(root, "shards"))
        self.window = int(shard_rows.max())
        self._firsts = (np.cumsum(shard_rows) - shard_rows)[
            shards
        ]  # a shard's first row, in line order
        self._starts = np.concatenate(
            [[0], np.cumsum(shard_rows[shards])]
        )  # and its place in the line
        self.bounds = np.array(plan.bounds, np.int64)
        self._permuted = lru_cache(maxsize=2 * plan.lanes + 2)(self._permute)

    def rows(self, step: int, rank: int = 0, world: int = 1) -> Integers:
        if not 0 <= step < self.plan.steps:
            raise IndexError(f"step {step} is not one of {self.plan.steps}")
        if step == self.plan.full_steps:
            first, last = order.slots(self.plan, rank, world, self.plan.ragged)
            start = self.plan.full_steps * self.plan.batch
            return self._at(np.arange(start + first, start + last))
        order.slots(self.plan, rank, world)  # refuses too many ranks
        lanes = range(rank * self.plan.lanes // world, (rank + 1) * self.plan.lanes // world)
        return self._at(np.concatenate([self._places(lane, step) for lane in lanes]))

    def _places(self, lane: int, step: int) -> Integers:
        """Where in the line a lane's rows of a step are."""
        width = int(self.bounds[lane + 1] - self.bounds[lane])
        first, last = step * width, (step + 1) * width
        parts = [np.empty(0, np.int64)]  # a lane of a mixture may have no slot of a set
        for window in range(first // self.window, (last - 1) // self.window + 1):
            start = window * self.window
            places = self._permuted(lane, window)
            parts.append(places[max(first - start, 0) : last - start])
        return np.concatenate(parts)

    def _permute(self, lane: int, window: int) -> Integers:
        """The places of a window's rows, in the order in which they are read."""
        steps = self.plan.full_steps
        width = int(self.bounds[lane + 1] - self.bounds[lane])
        start = window * self.window
        size = min(self.window, steps * width - start)
        drawn = order.permutation(size, order.extended(self.root, lane, window))
        return steps * int(self.bounds[lane]) + start + drawn

    def _at(self, places: Integers) -> Integers:
        """Rows at places of the line."""
        shards = np.searchsorted(self._starts, places, side="right") - 1
        found: Integers = self._firsts[shards] + places - self._starts[shards]
        return found
