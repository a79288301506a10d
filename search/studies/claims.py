"""Claims: numbers that somebody printed, beside what came out here."""

from __future__ import annotations

from dataclasses import replace

from cluster.run import Run
from search import numbers
from search.studies.amounts import points, range_of, span, spread
from search.studies.comparing import difference
from search.studies.rows import Judged, Result, Row, Table
from search.studies.statistics import Difference, Mean
from search.studies.study import Claim


def judged(table: Table, claim: Claim) -> Judged:
    """Whether what was claimed is what came out here."""
    study, by_name = table.study, {row.arm: row for row in table.rows}
    metric = claim.metric or study.metric
    if metric != study.metric:
        return judged(_of_metric(table, metric), claim)
    if not {claim.arm, claim.over or claim.arm} <= by_name.keys():
        return Judged(claim, "–", "not comparable", "it is of arms of another scale")
    row = by_name[claim.arm]
    found: Mean | Difference | None = row.mean
    if claim.over is not None:
        found = difference(table, claim.arm, claim.over).gap
        found = found if found.n else None
    if found is None:
        return Judged(claim, "–", "not run", "no run of it counts")
    ours = numbers.score(metric, found.mean) if claim.over is None else points(metric, found.mean)
    if claim.scale is not None and claim.scale != study.scale:
        because = "it is of other data"
        if claim.over is not None:
            verdict = difference(table, claim.arm, claim.over).verdict
            same = verdict in ("better", "worse") and (found.mean > 0) == (claim.value > 0)
            seen = "is not seen" if verdict in ("tie", "untested") else "is the other"
            because += f"; here the direction {'is the same' if same else seen}"
        return Judged(claim, ours, "not comparable", because)
    low, high = found.low, found.high
    if claim.tolerance is not None:
        holds = abs(found.mean - claim.value) <= claim.tolerance
        because = f"tolerance {spread(metric, claim.tolerance)}"
    elif low is not None and high is not None:
        holds = low <= claim.value <= high
        interval = range_of(metric, found) if isinstance(found, Mean) else span(metric, low, high)
        because = f"our 95 % interval {interval}"
    else:
        return Judged(claim, ours, "not comparable", "one run has no interval: say a tolerance")
    return Judged(claim, ours, "reproduced" if holds else "not reproduced", because)


def _of_metric(table: Table, metric: str) -> Table:
    """The same runs by another of their scores."""

    def scored(each: Result) -> Result:
        if not each.counts:
            return each
        found = Run(table.folder.run_url(each.entry)).scores.get(metric)
        return replace(each, score=found, state=each.state if found is not None else "missing")

    rows = [Row(row.arm, row.values, [scored(each) for each in row.results]) for row in table.rows]
    return replace(table, study=table.study.model_copy(update={"metric": metric}), rows=rows)
