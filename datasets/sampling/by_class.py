"""Batches made class by class: as many of each class, or some classes with some samples each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from datasets import order
from datasets.order import Integers, Plan
from datasets.refusal import Refusal

Drawn = Callable[[int, int], Integers]  # (class, how often it was gone through) -> its rows


class Classes:
    """The rows of each class that has any, in an order that is drawn anew each time it is gone through."""

    def __init__(self, labels: Integers) -> None:
        self.labels = labels
        by_class = np.argsort(labels, kind="stable").astype(np.int64, copy=False)
        sizes = np.bincount(labels)
        self.rows = [rows for rows in np.split(by_class, np.cumsum(sizes)[:-1]) if len(rows)]

    def __len__(self) -> int:
        return len(self.rows)

    def drawn(self, root: int) -> Drawn:
        """The rows of a class in the order of its n-th time."""

        @lru_cache(maxsize=4 * len(self.rows))
        def permuted(label: int, time: int) -> Integers:
            rows = self.rows[label]
            return rows[order.permutation(len(rows), order.extended(root, label, time))]

        return permuted


class Balanced:
    """Batches in which no class has two samples more than another: classes take turns from slot to slot.

    An epoch is N // B steps. A class is gone through from the start when it is used up, in a new order.
    """

    promise = "classes equal in every batch, within one"

    def __init__(self, labels: Integers, *, batch: int, lanes: int) -> None:
        self.classes, self.rows, self.window_bytes = Classes(labels), len(labels), 0
        self.plan = _full(len(labels), batch, lanes)

    def epoch(self, *, seed: int, phase: int, epoch: int) -> _Turns:
        return _Turns(self.plan, self.classes, order.key("balanced", seed, phase, epoch))

    def broken(self, used: Integers, *, whole: bool) -> Iterator[str]:
        labels = self.classes.labels[used]
        present = np.unique(self.classes.labels)
        for step, batch in enumerate(
            labels[: len(labels) // self.plan.batch * self.plan.batch].reshape(-1, self.plan.batch)
        ):
            counts = np.bincount(batch, minlength=present[-1] + 1)[present]
            if counts.max() - counts.min() > 1:
                yield f"its batch {step} has {counts.min()} to {counts.max()} samples of a class"
                return


class _Turns:
    """The line of a balanced epoch: slot g of the epoch belongs to the class whose turn it is."""

    def __init__(self, plan: Plan, classes: Classes, root: int) -> None:
        self.plan, self.classes = plan, classes
        self.turns = order.permutation(len(classes), order.extended(root, "turns"))
        self._drawn = classes.drawn(order.extended(root, "rows"))

    def rows(self, step: int, rank: int = 0, world: int = 1) -> Integers:
        first, last = order.slots(self.plan, rank, world)
        slots = step * self.plan.batch + np.arange(first, last)
        rounds, turns = np.divmod(slots, len(self.classes))
        found = np.empty(len(slots), np.int64)
        for place, (number, turn) in enumerate(zip(rounds.tolist(), turns.tolist(), strict=True)):
            label = int(self.turns[turn])
            time, nth = divmod(number, len(self.classes.rows[label]))
            found[place] = self._drawn(label, time)[nth]
        return found


class ClassesBySamples:
    """Batches of P classes with K samples each (P x K): for losses over pairs.

    An epoch is N // B steps. In C // P steps no class comes twice; a class with fewer than K rows repeats them.
    """

    def __init__(self, labels: Integers, samples: int, *, batch: int, lanes: int) -> None:
        self.classes, self.samples = Classes(labels), samples
        self.rows, self.window_bytes = len(labels), 0
        self.plan = _full(len(labels), batch, lanes)
        self.num_classes, rest = divmod(batch, samples)
        if rest or self.num_classes > len(self.classes):
            most = max(1, min(len(self.classes), batch // samples)) * samples
            raise Refusal(
                f"a batch of {batch} is no {samples} samples of each of at most {len(self.classes)} classes",
                path="data.batch",
                value=batch,
                remedy=f"use data.batch={most}, say, or another number of samples",
            )
        self.promise = f"{self.num_classes} classes with {samples} samples each in every batch"

    def epoch(self, *, seed: int, phase: int, epoch: int) -> _Picks:
        return _Picks(self, order.key("pxk", seed, phase, epoch))

    def broken(self, used: Integers, *, whole: bool) -> Iterator[str]:
        batch = self.plan.batch
        for step, rows in enumerate(used[: len(used) // batch * batch].reshape(-1, batch)):
            labels, counts = np.unique(self.classes.labels[rows], return_counts=True)
            if len(labels) != self.num_classes or (counts != self.samples).any():
                yield f"its batch {step} has {len(labels)} classes with {counts.min()} to {counts.max()} samples"
                return


class _Picks:
    """The line of a P x K epoch: which classes each step takes, and how often each was taken before."""

    def __init__(self, sampler: ClassesBySamples, root: int) -> None:
        self.sampler, self.plan = sampler, sampler.plan
        classes, wide = sampler.classes, sampler.num_classes
        steps_a_round = len(classes) // wide
        rounds = -(-self.plan.full_steps // steps_a_round)
        picked = [
            order.permutation(len(classes), order.extended(root, "round", number))
            for number in range(rounds)
        ]
        taken = np.concatenate([one[: steps_a_round * wide] for one in picked])
        self.picks = taken.reshape(-1, wide)[: self.plan.full_steps]
        self.before = _counted(taken).reshape(-1, wide)
        self._drawn = classes.drawn(order.extended(root, "rows"))

    def rows(self, step: int, rank: int = 0, world: int = 1) -> Integers:
        first, last = order.slots(self.plan, rank, world)
        pairs = zip(self.picks[step].tolist(), self.before[step].tolist(), strict=True)
        whole = np.concatenate([self._samples(label, before) for label, before in pairs])
        return whole[first:last]

    def _samples(self, label: int, before: int) -> Integers:
        """K rows of a class, after as many times K as it was taken before."""
        size, samples = len(self.sampler.classes.rows[label]), self.sampler.samples
        time, nth = divmod(before, max(1, size // samples))
        return self._drawn(label, time)[(nth * samples + np.arange(samples)) % size]


def _full(rows: int, batch: int, lanes: int) -> Plan:
    """As many full batches as the rows would fill: there is no tail where rows come more than once."""
    steps = Plan(rows, batch, lanes).full_steps  # refuses where there is none
    return Plan(steps * batch, batch, lanes)


def _counted(values: Integers) -> Integers:
    """How often each value came before."""
    by_value = np.argsort(values, kind="stable")
    ordered = values[by_value]
    fresh = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    starts = np.maximum.accumulate(np.where(fresh, np.arange(len(values)), 0))
    found = np.empty(len(values), np.int64)
    found[by_value] = np.arange(len(values)) - starts
    return found
