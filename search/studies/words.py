"""A study in plain words: which arm is best, which cannot be told from it, what so many seeds can find."""

from __future__ import annotations

from search import numbers
from search.sheets import named
from search.studies.amounts import points, span
from search.studies.rows import Compared, Row, Table


def sentences(table: Table) -> list[str]:
    """What one would say aloud, each a sentence."""
    best = table.best
    if best is None or best.mean is None:
        return ["No run counts yet."]
    metric = table.study.metric
    said = [f"{best.arm} has the best mean: {named(metric)} {mean(table, best)}."]
    ties = table.ties
    rest = [row.arm for row in table.rows if row.mean and row.arm not in (best.arm, *ties)]
    if ties and not any(each.gap.test for each in table.compared):
        said.append(f"Nothing is tested: {_untested(table)}.")
    elif ties:
        everybody = len(ties) == len(table.rows) - 1 and len(ties) > 1
        which = "all others" if everybody else _listed(ties)
        said.append(f"A tie with {which}: the difference may be chance.")
    elif rest:
        said.append("It differs from every other arm beyond chance.")
    lost = [row.arm for row in table.rows if row.mean is None and row.results]
    if lost:
        said.append(f"Of {_listed(lost)} no run counts: {_why(table, lost)}.")
    if sensed := _power(table):
        said.append(sensed)
    return said


def _untested(table: Table) -> str:
    """Why: a test needs two seeds whose runs count, of both arms."""
    counted = [row for row in table.rows if row.mean]
    single = [row.arm for row in counted if row.mean and row.mean.n == 1]
    if len(single) == len(counted):
        return "of each arm one run counts" if _lost(table) else "there is one run of each"
    if single:
        return f"of {_listed(single)} one run counts"
    return "no two arms that are compared have two seeds in common"


def _lost(table: Table) -> bool:
    return any(not each.counts for row in table.rows for each in row.results)


def mean(table: Table, row: Row) -> str:
    """`98.5 % ± 0.8 (3 seeds)`."""
    found = row.mean
    if found is None:
        return "–"
    spread = f" ± {plain_points(table.study.metric, found.sd)}" if found.sd is not None else ""
    many = f"{found.n} seed{'s' if found.n > 1 else ''}"
    return f"{numbers.score(table.study.metric, found.mean)}{spread} ({many})"


def plain_points(metric: str, value: float) -> str:
    """A spread, without a sign or unit."""
    return f"{100 * value:.1f}" if numbers.is_fraction(metric) else f"{value:.2g}"


def gap(table: Table, found: Compared) -> str:
    """`+3.1 points (0.5 to 5.7 %)`, the interval over seeds."""
    metric, told = table.study.metric, found.gap
    if not told.n:
        return "–"
    said = points(metric, told.mean)
    if told.low is None or told.high is None:
        return said
    return f"{said} ({span(metric, told.low, told.high, '')})"


def p_value(p: float) -> str:
    """Two digits; what is tiny as less than a thousandth."""
    if p != p:
        return "–"
    return "< .001" if p < 0.001 else f"{p:.2g}".removeprefix("0") if p < 1 else "1"


def _power(table: Table) -> str:
    """What so many seeds can find, by the widest of the comparisons with the baseline."""
    there = [each for each in table.compared if each.detectable]
    if not there:
        return ""
    widest = max(there, key=lambda each: each.detectable or 0.0)
    n = widest.gap.n
    if numbers.is_fraction(table.study.metric) and (widest.detectable or 0.0) >= 1:
        return f"{n} seeds that spread so much ({widest.arm}, {widest.other}) could find next to nothing."
    size = plain_points(table.study.metric, widest.detectable or 0.0)
    unit = " points" if numbers.is_fraction(table.study.metric) else ""
    return (
        f"{n} seeds find a difference of {size}{unit} four times in five "
        f"(between {widest.arm} and {widest.other}, whose runs spread most)."
    )


def _why(table: Table, arms: list[str]) -> str:
    told = dict.fromkeys(
        f"{len(row.results)} {result.state}"
        if len({r.state for r in row.results}) == 1
        else result.state
        for row in table.rows
        if row.arm in arms
        for result in row.results
    )
    return ", ".join(told)


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
