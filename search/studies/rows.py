"""What a study's table is made of: runs that came to something, arms over seeds, arms beside each other, claims beside ours."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from search.studies import statistics
from search.studies.folder import Entry, Folder
from search.studies.statistics import Difference, Mean
from search.studies.study import Claim, Study

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids: TypeAlias = NDArray[np.int64]
    Hits: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Result:
    """A cell and what came of it. `state` is finished, stale, collapsed, diverged, failed, stopped, running or missing."""

    entry: Entry
    state: str
    score: float | None = None
    seconds: float = 0.0
    samples: int = 0
    opened: int = 0  # times that its test split was
    precision: str = ""
    commit: str = ""
    why: str = ""

    @property
    def counts(self) -> bool:
        """Whether it is part of the mean: what diverged or collapsed is named instead."""
        return self.score is not None and self.state in ("finished", "stale")


@dataclass(frozen=True)
class Row:
    """An arm: its runs and, of those that count, the mean."""

    arm: str
    values: Mapping[str, Any]
    results: list[Result]

    @functools.cached_property
    def mean(self) -> Mean | None:
        scores = [each.score for each in self.results if each.counts and each.score is not None]
        return statistics.mean(scores) if scores else None

    @property
    def scores(self) -> dict[int, float]:
        """Seed -> score, of the runs that count."""
        return {
            each.entry.seed: each.score
            for each in self.results
            if each.counts and each.score is not None
        }

    @property
    def seconds(self) -> float:
        return sum(each.seconds for each in self.results)

    @property
    def samples(self) -> int:
        return sum(each.samples for each in self.results)

    def told(self) -> list[str]:
        """The runs that do not count, or not quite: `1 diverged (seed 2)`."""
        listed = []
        for state in ("diverged", "collapsed", "failed", "stopped", "running", "missing", "stale"):
            seeds = [str(each.entry.seed) for each in self.results if each.state == state]
            if seeds:
                many = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"
                listed.append(f"{len(seeds)} {state} ({many})")
        return listed


@dataclass(frozen=True)
class Compared:
    """An arm against another one. `verdict` is better, worse, tie or untested."""

    arm: str
    other: str
    gap: Difference
    adjusted: float  # p after Holm, over the table's comparisons
    verdict: str
    detectable: float | None  # the difference that so many seeds find four times in five
    rows: str = ""  # of single runs: how many rows only the one gets right


@dataclass(frozen=True)
class Judged:
    """A claim beside ours."""

    claim: Claim
    ours: str
    verdict: (
        str  # reproduced, not reproduced, cannot tell, not comparable, not run, data not at hand
    )
    because: str = ""


@dataclass(frozen=True)
class Table:
    """A study as it stands."""

    folder: Folder
    study: Study
    state: Mapping[str, Any]
    rows: list[Row]
    compared: list[Compared] = field(default_factory=list)
    claims: list[Judged] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    ties: list[str] = field(default_factory=list)  # arms that cannot be told from the best one
    untested: list[str] = field(default_factory=list)  # arms with runs too few to hold against it
    # (arm, seed) -> what was read of a run's predictions, once
    predictions: dict[tuple[str, int], tuple[Ids, Hits] | None] = field(
        default_factory=dict, repr=False
    )

    @property
    def baseline(self) -> str:
        return self.study.baseline or self.rows[0].arm

    def versus(self, arm: str) -> Compared | None:
        """The arm against the one that it is held against in the table's row."""
        within = self.study.compare not in ("baseline", "all")  # then each has its own
        found = [each for each in self.compared if each.arm == arm]
        return next((each for each in found if within or each.other == self.baseline), None)

    @property
    def best(self) -> Row | None:
        """The arm with the best mean."""
        sign = 1 if self.study.upwards else -1
        there = [row for row in self.rows if row.mean]
        return max(there, key=lambda row: sign * row.mean.mean if row.mean else 0.0, default=None)
