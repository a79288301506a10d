"""Claims: numbers that somebody printed, beside what came out here."""

from __future__ import annotations

from dataclasses import replace

from cluster.run import Run
from search import numbers
from search.studies import comparing
from search.studies.amounts import points, range_of, span, spread
from search.studies.rows import Judged, Result, Row, Table
from search.studies.statistics import Difference, Mean
from search.studies.study import Claim

# The half width up to which an interval says of a level that it is the claimed one, and not merely in reach:
NARROW = 0.05  # of a share
RELATIVE = 0.1  # of any other score, as a part of the claim
REPRODUCED, NOT_REPRODUCED, CANNOT_TELL = "reproduced", "not reproduced", "cannot tell"


def judged(table: Table, claim: Claim) -> Judged:
    """Whether what was claimed is what came out here."""
    study, by_name = table.study, {row.arm: row for row in table.rows}
    metric = claim.metric or study.metric
    if metric != study.metric:
        return judged(_of_metric(table, metric), claim)
    if not {claim.arm, claim.over or claim.arm} <= by_name.keys():
        return Judged(claim, "–", "not comparable", "it is of arms of another scale")
    found: Mean | Difference | None = by_name[claim.arm].mean
    if claim.over is not None:
        found = comparing.difference(table, claim.arm, claim.over).gap
        found = found if found.n else None
    if found is None:
        return Judged(claim, "–", "not run", "no run of it counts")
    ours = numbers.score(metric, found.mean) if claim.over is None else points(metric, found.mean)
    if claim.scale is not None and claim.scale != study.scale:
        because = "it is of other data"
        if claim.over is not None:
            verdict = comparing.difference(table, claim.arm, claim.over).verdict
            same = verdict in ("better", "worse") and (found.mean > 0) == (claim.value > 0)
            seen = "is not seen" if verdict in ("tie", "untested") else "is the other"
            because += f"; here the direction {'is the same' if same else seen}"
        return Judged(claim, ours, "not comparable", because)
    return Judged(claim, ours, *_told(table, claim, found))


def _told(table: Table, claim: Claim, found: Mean | Difference) -> tuple[str, str]:
    """(verdict, why) of a claim that is of the same data."""
    metric, tolerance, allowed = table.study.metric, claim.tolerance, "tolerance"
    if tolerance is None and claim.over is not None and claim.value == 0 and table.study.margin:
        tolerance, allowed = table.study.margin, "margin"  # up to it a difference is none
    if found.n == 1:
        return CANNOT_TELL, "one run has no interval"
    if found.low is None or found.high is None or (found.sd or 0.0) <= comparing.ROUNDING:
        if tolerance is None:
            return CANNOT_TELL, "all seeds agree, which gives no interval: say a tolerance"
        low = high = found.mean
        interval = "all seeds agree"
    else:
        low, high = found.low, found.high
        shown = range_of(metric, found) if isinstance(found, Mean) else span(metric, low, high)
        interval = f"our 95 % interval {shown}"
    if tolerance is not None:
        if numbers.is_fraction(metric):  # a share is no less than 0, no more than 1
            low, high = max(low, 0.0 if claim.over is None else -1.0), min(high, 1.0)
        far = max(abs(low - claim.value), abs(high - claim.value))
        near = max(low - claim.value, claim.value - high, 0.0)
        because = f"{allowed} {spread(metric, tolerance)}, {interval}"
        if far <= tolerance + comparing.ROUNDING:
            return REPRODUCED, because
        return (NOT_REPRODUCED if near > tolerance else CANNOT_TELL), because
    if not low <= claim.value <= high:
        return NOT_REPRODUCED, interval
    wide = _too_wide(table, claim, low, high)
    return (CANNOT_TELL, f"{interval} {wide}") if wide else (REPRODUCED, interval)


def _too_wide(table: Table, claim: Claim, low: float, high: float) -> str:
    """Why an interval that holds the claim does not speak for it; "" where it does.

    Of a difference it has to tell the claim from none and from twice as much; of a level from those that are noticeably
    others. What is in reach of everything is confirmed by nothing.
    """
    metric, half = table.study.metric, (high - low) / 2
    if claim.over is not None:
        if claim.value == 0:
            return "does not show that there is none: say a tolerance"
        if low <= 0 <= high:
            return "holds 0 as well"
        if _tie(table, claim):
            return "is no more than a tie in this table, of several comparisons"
        narrow, own = abs(claim.value), ", the claim itself"
        return f"is wider than ± {spread(metric, narrow)}{own}" if half > narrow else ""
    narrow = NARROW if numbers.is_fraction(metric) else RELATIVE * abs(claim.value)
    return f"is wider than ± {spread(metric, narrow)}" if half > narrow else ""


def _tie(table: Table, claim: Claim) -> bool:
    """Whether the table itself holds the two beside each other and cannot tell them apart."""
    pair = {claim.arm, claim.over}
    return any({each.arm, each.other} == pair and each.verdict == "tie" for each in table.compared)


def _of_metric(table: Table, metric: str) -> Table:
    """The same runs by another of their scores."""

    def scored(each: Result) -> Result:
        if not each.counts:
            return each
        found = Run(table.folder.run_url(each.entry)).scores.get(metric)
        return replace(each, score=found, state=each.state if found is not None else "missing")

    rows = [Row(row.arm, row.values, [scored(each) for each in row.results]) for row in table.rows]
    # Its direction, its margin, its comparisons and the rows of its split are the other score's.
    study = table.study.model_copy(update={"metric": metric, "mode": None, "margin": 0.0})
    return replace(table, study=study, rows=rows, compared=[], predictions={})
