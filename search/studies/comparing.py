"""Arms beside each other: seed by seed and, where the metric counts them, row by row."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.run import Run
from search.studies import statistics
from search.studies.rows import Compared, Row, Table
from search.studies.statistics import Difference
from search.studies.study import Study
from search.trials.doubt import hits_of

if TYPE_CHECKING:
    from search.studies.rows import Hits, Ids

ROUNDING = 1e-9


def compared(table: Table) -> list[Compared]:
    names = [row.arm for row in table.rows]
    if not names:
        return []
    base = table.baseline
    pairs = [(arm, base) for arm in names if arm != base]
    by_name = {row.arm: row for row in table.rows}
    if table.study.compare == "all":
        order = [base, *(arm for arm in names if arm != base)]
        pairs = [(arm, other) for n, other in enumerate(order) for arm in order[n + 1 :]]
    elif table.study.compare != "baseline":
        pairs = [*_within(table)]
    found = [_between(table, by_name[arm], by_name[other]) for arm, other in pairs]
    adjusted = statistics.holm([each.gap.p for each in found])
    return [
        replace(each, adjusted=p, verdict=_verdict(table.study, replace(each, adjusted=p)))
        for each, p in zip(found, adjusted, strict=True)
    ]


def difference(table: Table, arm: str, other: str) -> Compared:
    """Two arms on the seeds that both have, not adjusted for other comparisons."""
    by_name = {row.arm: row for row in table.rows}
    found = _between(table, by_name[arm], by_name[other])
    return replace(found, verdict=_verdict(table.study, found))


def beside_best(table: Table) -> dict[str, str]:
    """The verdict, against the best arm, of each other one that has runs: better, worse, tie or untested.

    Those that the table holds against it have the table's verdict; of the rest Holm over the comparisons with it.
    """
    best = table.best
    if best is None:
        return {}
    others = [row for row in table.rows if row.mean and row.arm != best.arm]
    found = [_between(table, row, best, rows=False) for row in others]
    adjusted = statistics.holm([each.gap.p for each in found])
    known = {frozenset((each.arm, each.other)): each.verdict for each in table.compared}
    return {
        each.arm: known.get(frozenset((each.arm, best.arm)))
        or _verdict(table.study, replace(each, adjusted=p))
        for each, p in zip(found, adjusted, strict=True)
    }


def _within(table: Table) -> Iterator[tuple[str, str]]:
    """Arms that differ in one factor alone, each beside the one of its first level."""
    factor = table.study.compare
    firsts: dict[str, str] = {}
    for row in table.rows:
        others = json.dumps({k: v for k, v in row.values.items() if k != factor}, default=str)
        first = firsts.setdefault(others, row.arm)
        if first != row.arm:
            yield row.arm, first


def _between(table: Table, row: Row, other: Row, *, rows: bool = True) -> Compared:
    """Paired by seed, and, where the metric counts rows, by row: with `rows` also the interval over those."""
    study = table.study
    nothing = Difference(0, math.nan, None, None, None, math.nan, "")
    if not study.paired:
        if not (row.scores and other.scores):
            return Compared(row.arm, other.arm, nothing, math.nan, "untested", None)
        gap = statistics.unpaired([*row.scores.values()], [*other.scores.values()])
        return Compared(row.arm, other.arm, gap, gap.p, "", None)
    seeds = sorted(row.scores.keys() & other.scores.keys())
    if not seeds:
        return Compared(row.arm, other.arm, nothing, math.nan, "untested", None)
    gap = statistics.paired(
        [row.scores[seed] for seed in seeds], [other.scores[seed] for seed in seeds]
    )
    ours, theirs = _hits(table, row, seeds), _hits(table, other, seeds)
    told = ""
    if ours and theirs:
        import numpy as np

        shared = np.intersect1d(ours[0], theirs[0], assume_unique=True)
        a, b = (hits[:, np.searchsorted(ids, shared)] for ids, hits in (ours, theirs))
        if len(shared) and len(seeds) > 1:
            # Where all seeds agree there is no interval over seeds, and so none over seeds and rows.
            if rows and gap.low is not None and gap.high is not None:
                low, high = statistics.over_rows(a.astype(float), b.astype(float))
                # Other rows can only add to what is unsure; the bootstrap's own luck must not take from it.
                low, high = min(low, gap.low), max(high, gap.high)
                gap = replace(gap, rows_low=low, rows_high=high)
        elif len(shared) and len(row.results) == len(other.results) == 1:
            # Of a study of several seeds, one pair that is left says nothing of seeds.
            only, others, p = statistics.mcnemar(a[0], b[0])
            gap = replace(gap, p=p, test="McNemar")
            told = f"{only} rows only {row.arm} gets right, {others} only {other.arm}"
    detectable = statistics.detectable(gap.sd, gap.n) if gap.sd is not None else None
    return Compared(row.arm, other.arm, gap, gap.p, "", detectable, told)


def _hits(table: Table, row: Row, seeds: Sequence[int]) -> tuple[Ids, Hits] | None:
    """(ids (N,), whether each was predicted right, seed x row); None where the metric is no share of rows, or none are kept."""
    split, _, name = table.study.metric.partition("/")
    if name != "accuracy":
        return None
    for each in row.results:
        key = (row.arm, each.entry.seed)
        if each.counts and key not in table.predictions:
            table.predictions[key] = hits_of(Run(table.folder.run_url(each.entry)), split)
    found = [told for seed in seeds if (told := table.predictions[row.arm, seed])]
    if len(found) < len(seeds):
        return None
    import numpy as np

    ids = functools.reduce(np.intersect1d, (own for own, _ in found))
    return ids, np.stack([hits[np.searchsorted(own, ids)] for own, hits in found])


def _verdict(study: Study, found: Compared) -> str:
    gap = found.gap
    if not gap.n or gap.p != gap.p:
        return "untested"
    if found.adjusted > statistics.ALPHA or abs(gap.mean) <= max(study.margin, ROUNDING):
        return "tie"
    return "better" if (gap.mean > 0) == study.upwards else "worse"
