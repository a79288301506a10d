"""Several sets in one batch: each has its share of the slots, keeps its own order, and begins anew in its own time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from datasets import order
from datasets.order import Integers, Plan
from datasets.packed.manifest import Split
from datasets.refusal import Refusal
from datasets.sampling import lines
from datasets.sampling.lines import Line


class Mixture:
    """Slots are given to sets once, by largest remainder of their weights, and spread over the batch; no set has none.

    Rows are numbered through the sets in turn. An epoch is as long as one of the first set.
    """

    def __init__(
        self, splits: Sequence[Split], weights: Sequence[float], *, batch: int, lanes: int
    ) -> None:
        if len(splits) > batch:
            raise Refusal(
                f"a batch of {batch} has no slot for each of {len(splits)} sets",
                path="data.batch",
                value=batch,
                remedy=f"use data.batch={len(splits)} or more",
            )
        self.splits, self.counts = splits, shares(weights, batch)
        self.sets = _spread(self.counts)  # (B,) the set of each slot
        self.firsts = np.cumsum([0, *(split.rows for split in splits)])
        self.rows = int(self.firsts[-1])
        even = Plan(batch, batch, lanes).bounds
        self.plans = []
        for number, split in enumerate(splits):
            cuts = tuple(int((self.sets[:bound] == number).sum()) for bound in even)
            self.plans.append(Plan(split.rows, self.counts[number], lanes, cuts=cuts))
        self.plan = Plan(self.plans[0].full_steps * batch, batch, lanes)
        self.window_bytes = sum(lanes * lines.window_bytes(split) for split in splits)
        told = ", ".join(map(str, self.counts))
        self.promise = f"{told} samples of the sets in every batch"

    def epoch(self, *, seed: int, phase: int, epoch: int) -> _Mixed:
        return _Mixed(self, seed, phase, epoch)

    def broken(self, used: Integers, *, whole: bool) -> Iterator[str]:
        sets = np.searchsorted(self.firsts, used, side="right") - 1
        batch = self.plan.batch
        for step, own in enumerate(sets[: len(sets) // batch * batch].reshape(-1, batch)):
            found = np.bincount(own, minlength=len(self.splits))
            if not np.array_equal(found, self.counts):
                yield f"its batch {step} has {found.tolist()} samples of the sets"
                return
        for number, plan in enumerate(self.plans):
            times = np.bincount(used[sets == number] - self.firsts[number])
            most = -(-self.plan.full_steps // plan.full_steps) + 1
            if len(times) and times.max() > most:
                yield f"a sample of set {number} was used {times.max()} times"


class _Mixed:
    """The line of an epoch of a mixture: each set's own line at its own step of its own epoch."""

    def __init__(self, mixture: Mixture, seed: int, phase: int, epoch: int) -> None:
        self.mixture, self.plan, self.epoch = mixture, mixture.plan, epoch
        self.seed, self.phase = seed, phase
        self._line = lru_cache(maxsize=2 * len(mixture.splits))(self._make_line)

    def rows(self, step: int, rank: int = 0, world: int = 1) -> Integers:
        first, last = order.slots(self.plan, rank, world)
        sets = self.mixture.sets[first:last]
        found = np.empty(last - first, np.int64)
        done = self.epoch * self.plan.steps + step
        for number, plan in enumerate(self.mixture.plans):
            epoch, own_step = divmod(done, plan.full_steps)
            rows = self._line(number, epoch).rows(own_step, rank, world)
            found[sets == number] = rows + self.mixture.firsts[number]
        return found

    def _make_line(self, number: int, epoch: int) -> Line:
        split, plan = self.mixture.splits[number], self.mixture.plans[number]
        seed = order.key(self.seed, "set", number)
        return lines.of_epoch(split, plan, seed=seed, phase=self.phase, epoch=epoch)


def shares(weights: Sequence[float], batch: int) -> tuple[int, ...]:
    """Slots of each set, by largest remainder; none is without. The batch has a slot for each."""
    quotas = [batch * weight / sum(weights) for weight in weights]
    counts = [max(1, int(quota + 1e-9)) for quota in quotas]
    while sum(counts) != batch:
        missing = 1 if sum(counts) < batch else -1
        # The set that is furthest from its quota, but for those that would be left without.
        able = [n for n, count in enumerate(counts) if missing > 0 or count > 1]
        chosen = max(able, key=lambda n: (missing * (quotas[n] - counts[n]), -n))
        counts[chosen] += missing
    return tuple(counts)


def _spread(counts: Sequence[int]) -> Integers:
    """The set of each slot, each set's slots as evenly over the batch as they go."""
    places = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    sets = np.repeat(np.arange(len(counts)), counts)
    return sets[np.lexsort((sets, places))].astype(np.int64)
