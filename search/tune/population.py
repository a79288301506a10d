"""Population-based training (Jaderberg et al. 2017, arXiv 1711.09846): members rest in turns, and of the weak a better one's copy goes on.

A copy is a trial of its own, a child run that begins at its parent's newest checkpoint with some settings changed; the
member that made way for it is PRUNED. So every trial has one recipe, and each weight a line of recipes that led to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.pruners import NopPruner

from datasets import order
from search.tune.draws import Changes
from search.tune.records import Asked, Records
from trainers.space import Dimension, Space

FACTORS = (0.8, 1.25)  # by which numbers are changed, one or the other


class Turns(NopPruner):
    """The settings of `scheduler: pbt`; nobody is ended in the middle of a turn."""

    def __init__(self, interval: int, quantile: float, resample: float) -> None:
        self.interval, self.quantile, self.resample = interval, quantile, resample


@dataclass(frozen=True)
class Member:
    """A trial that rests after so many evaluations."""

    asked: Asked
    evaluations: int


@dataclass(frozen=True)
class Turn:
    """Who goes on, and whose place that one took, if it is a copy."""

    asked: Asked
    instead_of: Member | None = None


class Population:
    """The members that rest. `upwards` says whether more is better."""

    def __init__(self, records: Records, turns: Turns, *, upwards: bool, seed: int) -> None:
        self.records, self.turns, self.seed = records, turns, seed
        self.sign = 1.0 if upwards else -1.0
        self.resting: list[Member] = []

    def rest(self, asked: Asked, evaluations: int) -> None:
        self.resting.append(Member(asked, evaluations))

    def next(self, *, more: bool = False) -> Turn | None:
        """Who goes on now: the member that is furthest behind, or a copy in its place; None while nobody rests.

        None, too, while there are not enough members at that evaluation to tell the worst, and `more` are on their way.
        """
        if not self.resting:
            return None
        behind = min(member.evaluations for member in self.resting)
        known = self.records.values_at(behind)
        # Of those the worst: while it is judged, the best still rest, and can be copied.
        member = min(
            (each for each in self.resting if each.evaluations == behind),
            key=lambda each: self._rank(each.asked.number, known),
        )
        if more and int(len(known) * self.turns.quantile) == 0:
            return None
        self.resting.remove(member)
        parent = self._better(member, known)
        if parent is None:
            return Turn(member.asked)
        changes = self._explored(parent, member)
        why = f"a copy of trial {parent.asked.number:04d} took its place"
        self.records.prune(member.asked.number, why)
        return Turn(self.records.fork(parent.asked, changes), member)

    def _better(self, member: Member, known: Mapping[int, float]) -> Member | None:
        """Whom to copy, where the member is among the worst at its evaluation: any of the best that rest."""
        worst = sorted(known, key=lambda number: self._rank(number, known))
        count = int(len(worst) * self.turns.quantile)
        if member.asked.number not in worst[:count]:
            return None
        best = {*worst[-count:]}
        able = [each for each in self.resting if each.asked.number in best]
        able.sort(key=lambda each: each.asked.number)
        return able[int(self._random(member).integers(len(able)))] if able else None

    def _rank(self, number: int, known: Mapping[int, float]) -> tuple[float, int]:
        return self.sign * known[number], -number

    def _explored(self, parent: Member, member: Member) -> Changes:
        """The parent's settings, each drawn anew (`resample`) or else moved a little."""
        random, space = self._random(member, "explore"), self.records.space
        changes = dict(parent.asked.changes)
        for dimension in space.dimensions:
            if dimension.path in changes:
                changes[dimension.path] = self._moved(dimension, changes[dimension.path], random)
        return {path: changes[path] for path in _there(space, changes, self.records.tree)}

    def _moved(self, dimension: Dimension, value: Any, random: np.random.Generator) -> Any:
        anew = random.random() < self.turns.resample
        if dimension.grid:
            place = int(random.integers(len(dimension.grid)))
            if not anew:  # a neighbour
                at = next(n for n, each in enumerate(dimension.grid) if each == value)
                place = min(max(at + int(random.choice([-1, 1])), 0), len(dimension.grid) - 1)
            return dimension.grid[place]
        if anew and "normal" not in dimension.kind:
            return _drawn(dimension, random)
        moved = dimension.quantised(value * float(random.choice(FACTORS)))
        if "normal" in dimension.kind:
            return moved
        least, most = dimension.numbers[:2]
        moved = min(max(moved, least), most)
        return round(moved) if isinstance(value, int) else moved

    def _random(self, member: Member, what: str = "choose") -> np.random.Generator:
        """Of this member at this evaluation: the same after a restart."""
        key = order.key(self.seed, f"{what} {member.asked.number} {member.evaluations}")
        return np.random.Generator(np.random.PCG64(key))


def _drawn(dimension: Dimension, random: np.random.Generator) -> float:
    least, most = dimension.numbers[:2]
    if "log" in dimension.kind:
        least, most = float(np.log(least)), float(np.log(most))
        return dimension.quantised(float(np.exp(random.uniform(least, most))))
    return dimension.quantised(float(random.uniform(least, most)))


def _there(space: Space, changes: Changes, tree: Any) -> Iterable[str]:
    """The paths that a copy still has: what was changed may have ended a condition."""
    for dimension in space.dimensions:
        if dimension.path in changes and space.applies(dimension, changes.get, tree):
            yield dimension.path
