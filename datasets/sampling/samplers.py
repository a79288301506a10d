"""Samplers: the line of rows of each epoch, and what its ledger must show. A sampler holds sizes and labels, no pictures.

Every sampler is a function of (seed, phase, epoch, step): the global batches are the same for any number of ranks, and a
position is one integer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from datasets import order
from datasets.order import Integers, Plan
from datasets.packed.manifest import Split
from datasets.sampling import lines
from datasets.sampling.lines import Line, Whole


class Sampler(Protocol):
    """Which rows fill the steps of an epoch. `plan` tells how many steps there are, and which rank fills which slots."""

    @property
    def plan(self) -> Plan: ...

    @property
    def rows(self) -> int:
        """Of the split that it is for."""
        ...

    @property
    def promise(self) -> str:
        """What an epoch's batches keep to, in a few words for people."""
        ...

    @property
    def window_bytes(self) -> int:
        """Of the shards that all lanes read from at a time; 0 where rows come from the whole set."""
        ...

    def epoch(self, *, seed: int, phase: int, epoch: int) -> Line:
        """The rows of an epoch's steps."""
        ...

    def broken(self, used: Integers, *, whole: bool) -> Iterator[str]:
        """Breaches of the promise by the rows used in the steps of an epoch, in the order of steps and slots.

        `whole` where all of its steps are there. It counts, and knows nothing of how rows are drawn.
        """
        ...


class Shuffled:
    """Every row once an epoch, in a new order each time; what does not fill a batch is the tail's."""

    promise = "every sample at most once"

    def __init__(self, split: Split, plan: Plan) -> None:
        if plan.rows != split.rows:
            raise ValueError(f"a plan of {plan.rows} rows for a split of {split.rows}")
        self.split, self.plan, self.rows = split, plan, split.rows
        self.window_bytes = plan.lanes * lines.window_bytes(split)

    def epoch(self, *, seed: int, phase: int, epoch: int) -> Line:
        return lines.of_epoch(self.split, self.plan, seed=seed, phase=phase, epoch=epoch)

    def broken(self, used: Integers, *, whole: bool) -> Iterator[str]:
        rows, counts = np.unique(used, return_counts=True)
        if (counts > 1).any():
            yield f"{int((counts > 1).sum())} samples were used more than once"
        expected = self.plan.full_steps * self.plan.batch + self.plan.ragged
        if whole and len(rows) != expected:
            yield f"{len(rows)} samples were used, not {expected}"


class Resampled:
    """Of each class as many rows as `counts` says, each as often as any other of its class, or once more.

    `labels` (N,) of all rows; `counts` (C,), which rows are left out or repeated is drawn anew each epoch.
    """

    def __init__(
        self, labels: Integers, counts: Integers, *, batch: int, lanes: int, tail: str
    ) -> None:
        self.labels, self.counts, self.rows = labels, counts, len(labels)
        self.sizes = np.bincount(labels, minlength=len(counts))
        self.plan = Plan(int(counts.sum()), batch, lanes, tail)  # type: ignore[arg-type]
        self.window_bytes = 0
        self.promise = f"at most {counts.max()} samples of a class"

    def epoch(self, *, seed: int, phase: int, epoch: int) -> Line:
        root = order.key("resampled", seed, phase, epoch)
        # All rows, class by class, each class in an order of its own.
        drawn = order.hashes(order.extended(root, "rows"), np.arange(len(self.labels)), 0)
        by_class = np.lexsort((drawn, self.labels)).astype(np.int64, copy=False)
        firsts = np.cumsum(self.sizes) - self.sizes
        parts = [
            by_class[first + np.arange(count) % size]
            for first, size, count in zip(firsts, self.sizes, self.counts, strict=True)
            if count
        ]
        rows = np.concatenate(parts)
        line = rows[order.permutation(len(rows), order.extended(root, "line"))]
        return Whole(self.plan, line)

    def broken(self, used: Integers, *, whole: bool) -> Iterator[str]:
        times = np.bincount(used, minlength=len(self.labels))
        most = -(-self.counts // np.maximum(self.sizes, 1))[self.labels]
        if (times > most).any():
            row = int((times > most).argmax())
            yield f"row {row} was used {times[row]} times, at most {most[row]} were due"
        found = np.bincount(self.labels[used], minlength=len(self.counts))
        if whole and self.plan.ragged == self.plan.rows % self.plan.batch:
            for label in np.flatnonzero(found != self.counts)[:1]:
                yield f"class {label} was used {found[label]} times, not {self.counts[label]}"
        elif (found > self.counts).any():
            yield "a class was used more often than was due"
