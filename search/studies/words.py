"""A study in plain words: which arm is best, which cannot be told from it, what so many seeds can find."""

from __future__ import annotations

from collections.abc import Sequence

from search import numbers
from search.sheets import named
from search.studies.amounts import points, span
from search.studies.folder import Entry
from search.studies.rows import Compared, Row, Table
from search.studies.study import Study

FULL = 4  # arms that are told one by one
LOST = ("collapsed", "diverged", "failed", "stopped", "running", "missing")


def sentences(table: Table) -> list[str]:
    """What one would say aloud, each a sentence."""
    best = table.best
    if best is None or best.mean is None:
        return ["No run counts yet."]
    scored = f"{named(table.study.metric)} {mean(table, best)}"
    lost = [row.arm for row in table.rows if row.mean is None]
    if len(lost) == len(table.rows) - 1:
        said = [f"{best.arm} alone has a score: {scored}.", "Nothing is compared."]
    else:
        said = [f"{best.arm} has the best mean: {scored}.", *_beside(table)]
    lost = [row.arm for row in table.rows if row.mean is None and row.results]
    if lost:
        said.append(f"Of {_listed(lost)} no run counts: {_why(table, lost)}.")
    if partly := _partly(table):
        said.append(partly)
    if sensed := _power(table):
        said.append(sensed)
    return said


def _beside(table: Table) -> list[str]:
    """How the best arm stands beside the others that have a score."""
    best, ties, untested = table.best, table.ties, table.untested
    others = [row.arm for row in table.rows if row.mean and row is not best]
    if len(untested) == len(others):
        return [f"Nothing is tested: {_untested(table)}."]
    told = [arm for arm in others if arm not in (*ties, *untested)]
    if any(each.gap.test == "McNemar" for each in table.compared):
        said = _of_single_runs(ties)
    elif ties:
        everybody = len(ties) == len(table.rows) - 1 and len(ties) > 1
        which = "all others" if everybody else _listed(ties)
        said = [f"A tie with {which}: the difference may be chance."]
    else:
        which = _listed(told) if untested else "every other arm"
        said = [f"It differs from {which} beyond chance."]
    if untested:
        said.append(f"Not tested beside it, for want of runs: {_listed(untested)}.")
    return said


def _of_single_runs(ties: list[str]) -> list[str]:
    """McNemar's test is of these trained networks on these rows; it knows nothing of other seeds."""
    found = "differs from every other beyond chance"
    if ties:
        found = f"cannot be told from {'that' if len(ties) == 1 else 'those'} of {_listed(ties)}"
    return [
        f"On these rows its one network {found} (McNemar).",
        "Of the arms one run each says nothing: another seed may turn it.",
    ]


def _partly(table: Table) -> str:
    """The runs that do not count, of arms of which others do; arm by arm where they are few."""
    found = {}
    for row in table.rows:
        away = [each.state for each in row.results if not each.counts]
        if row.mean and away:
            found[row.arm] = (len(away), len(row.results), _counted(away))
    if not found:
        return ""
    if len(found) <= FULL:
        told = [f"of {arm} {of - lost} of {of} ({why})" for arm, (lost, of, why) in found.items()]
        return f"Not all runs count: {_listed(told)}."
    gone, all_of = sum(each[0] for each in found.values()), sum(each[1] for each in found.values())
    states = [each.state for row in table.rows if row.arm in found for each in row.results]
    return f"Not all runs count: of {len(found)} arms {all_of - gone} of {all_of} ({_counted(states)})."


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


def left_out(left: Sequence[Entry], study: Study) -> str:
    """Which seeds of a study have run and are not in its table."""
    away, have = sorted({each.seed for each in left}), study.run_seeds
    runs = f"{len(left)} run{'s' if len(left) > 1 else ''}"
    return (
        f"Left out: seed{'s' if len(away) > 1 else ''} {_listed([*map(str, away)])}, of which {runs} came to an end. "
        f"This table is of seed{'s' if len(have) > 1 else ''} {_listed([*map(str, have)])} alone."
    )


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
    """What became of the runs of arms of which none counts, arm by arm where they are few."""
    states = {
        row.arm: [each.state for each in row.results] for row in table.rows if row.arm in arms
    }
    told = {arm: _counted(found) for arm, found in states.items()}
    if len({*told.values()}) == 1:
        return told[arms[0]] + (" each" if len(arms) > 1 else "")
    if len(told) <= FULL:
        return "; ".join(f"of {arm} {why}" for arm, why in told.items())
    return _counted([state for found in states.values() for state in found])


def _counted(states: list[str]) -> str:
    """`2 collapsed, 1 missing`"""
    return ", ".join(f"{states.count(state)} {state}" for state in LOST if state in states)


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
