"""The table of a study, from its folder alone: a row an arm, differences to the baseline, claims, what is to be known beside them."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from cluster.environment import code
from cluster.run import Run
from datasets import store
from search import numbers
from search.studies import arms as arms_of
from search.studies import statistics
from search.studies.folder import Entry, Folder
from search.studies.statistics import Difference, Mean
from search.studies.study import Claim, Study
from search.trials.doubt import hits_of
from trainers.data import Data

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids: TypeAlias = NDArray[np.int64]
    Hits: TypeAlias = NDArray[np.bool_]

ROUNDING = 1e-9
CHANCE = 0.05


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
    verdict: str  # reproduced, not reproduced, not comparable, not run, data not at hand
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


def read(folder: Folder) -> Table:
    """The table of a study's folder, finished or not."""
    study, state = folder.study, folder.state
    results: dict[str, list[Result]] = {arm: [] for arm in state.get("arms", {})}
    now = code()
    for entry in folder.entries:
        if entry.arm in results:
            results[entry.arm].append(_result(folder, study, entry, now))
    rows = [Row(arm, values, results[arm]) for arm, values in state.get("arms", {}).items()]
    table = Table(folder, study, state, rows)
    compared = _compared(table)
    table = replace(table, compared=compared)
    return replace(
        table,
        claims=[_judged(table, claim) for claim in study.claims],
        warnings=_warnings(table),
        ties=_ties(table),
    )


def unrun(study: Study, folder: Folder) -> Table:
    """The table of a study of which nothing has been run: its arms, and why its claims cannot be judged."""
    listed = arms_of.arms(study)
    rows = [Row(arm.label, arm.values, []) for arm in listed]
    absent = next(filter(None, (_absent(arm.recipe.data) for arm in listed)), "")
    verdict = ("data not at hand", f"there is no {absent}") if absent else ("not run", "")
    claims = [Judged(claim, "–", *verdict) for claim in study.claims]
    state = {"status": "not run", "arms": {arm.label: dict(arm.values) for arm in listed}}
    return Table(folder, study, state, rows, claims=claims)


def _absent(data: Data) -> str:
    """What the data would be read from, where it is not there."""
    path = data.url or (data.source.arguments.get("path") if data.source else None)
    return str(path) if path and not store.exists(str(path)) else ""


def difference(table: Table, arm: str, other: str) -> Compared:
    """Two arms on the seeds that both have, not adjusted for other comparisons."""
    by_name = {row.arm: row for row in table.rows}
    found = _difference(table, by_name[arm], by_name[other])
    return replace(found, verdict=_verdict(table.study, found))


def _result(folder: Folder, study: Study, entry: Entry, now: str) -> Result:
    if not entry.run:
        return Result(entry, entry.status, why=entry.why)
    run = Run(folder.run_url(entry))
    summary, env = run.summary, run.json("env.json")
    told = Result(
        entry,
        entry.status,
        seconds=float(summary.get("seconds") or 0.0),
        samples=int(summary.get("samples") or 0),
        opened=int((summary.get("opened") or {}).get("test", 0)),
        precision=str((summary.get("place") or {}).get("precision", "")),
        commit=str(env.get("commit") or "")[:12],
        why=entry.why,
    )
    if entry.status == "failed":
        return replace(told, state="diverged" if entry.diverged else "failed")
    if entry.status != "finished":
        return told
    score = run.scores.get(study.metric)
    if score is None:
        return replace(told, state="failed", why=f"its run has no {study.metric}")
    told = replace(told, score=float(score))
    if not math.isfinite(told.score or 0.0):
        return replace(told, state="diverged", score=None, why=f"{study.metric} is no number")
    if why := _collapsed(run, study.metric, float(score)):
        return replace(told, state="collapsed", why=why)
    return replace(told, state="finished" if env.get("code") == now else "stale")


def _collapsed(run: Run, metric: str, score: float) -> str:
    """Why a score is none: an accuracy that cannot be told from naming the largest class, a fit no better than the mean."""
    split, _, name = metric.partition("/")
    if run.scores.get(f"{split}/r2", 1.0) <= 0:
        return "no better than the mean of all values"
    counts = (run.json("data.json").get("counts") or {}).get(split)
    if name != "accuracy" or not counts or len(counts) < 2:
        return ""
    total, most = sum(counts.values()), max(counts.values())
    chance = statistics.better_than(most / total, round(score * total), total) > CHANCE
    return "no better than naming the largest class" if chance else ""


def _compared(table: Table) -> list[Compared]:
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
    found = [_difference(table, by_name[arm], by_name[other]) for arm, other in pairs]
    adjusted = statistics.holm([each.gap.p for each in found])
    return [
        replace(each, adjusted=p, verdict=_verdict(table.study, replace(each, adjusted=p)))
        for each, p in zip(found, adjusted, strict=True)
    ]


def _ties(table: Table) -> list[str]:
    """The arms that cannot be told from the best one, Holm over these comparisons, the best not among them."""
    best = table.best
    if best is None:
        return []
    others = [row for row in table.rows if row.mean and row.arm != best.arm]
    found = [_difference(table, row, best, rows=False) for row in others]
    adjusted = statistics.holm([each.gap.p for each in found])
    judged = [replace(each, adjusted=p) for each, p in zip(found, adjusted, strict=True)]
    return [each.arm for each in judged if _verdict(table.study, each) in ("tie", "untested")]


def _within(table: Table) -> Iterator[tuple[str, str]]:
    """Arms that differ in one factor alone, each beside the one of its first level."""
    factor = table.study.compare
    firsts: dict[str, str] = {}
    for row in table.rows:
        others = json.dumps({k: v for k, v in row.values.items() if k != factor}, default=str)
        first = firsts.setdefault(others, row.arm)
        if first != row.arm:
            yield row.arm, first


def _difference(table: Table, row: Row, other: Row, *, rows: bool = True) -> Compared:
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
            if rows:
                low, high = statistics.over_rows(a.astype(float), b.astype(float))
                # Other rows can only add to what is unsure; the bootstrap's own luck must not take from it.
                low, high = min(low, gap.low or low), max(high, gap.high or high)
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


def _judged(table: Table, claim: Claim) -> Judged:
    """Whether what was claimed is what came out here."""
    study, by_name = table.study, {row.arm: row for row in table.rows}
    metric = claim.metric or study.metric
    if metric != study.metric:
        return _judged(_of_metric(table, metric), claim)
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


def spread(metric: str, value: float) -> str:
    """A size of differences."""
    return f"{100 * value:.3g} points" if numbers.is_fraction(metric) else f"{value:.3g}"


def _of_metric(table: Table, metric: str) -> Table:
    """The same runs by another of their scores."""

    def scored(each: Result) -> Result:
        if not each.counts:
            return each
        found = Run(table.folder.run_url(each.entry)).scores.get(metric)
        return replace(each, score=found, state=each.state if found is not None else "missing")

    rows = [Row(row.arm, row.values, [scored(each) for each in row.results]) for row in table.rows]
    return replace(table, study=table.study.model_copy(update={"metric": metric}), rows=rows)


def _places(table: Table) -> list[str]:
    """A sentence where runs were made with different precision: their recipes may say so no more."""
    met: dict[str, list[str]] = {}
    for row in table.rows:
        for each in row.results:
            if each.precision:
                met.setdefault(each.precision, []).append(f"{row.arm}, seed {each.entry.seed}")
    if len(met) < 2:
        return []
    few = min(met, key=lambda name: len(met[name]))
    listed = "; ".join(met[few][:6]) + (" and more" if len(met[few]) > 6 else "")
    return [f"Runs were made with {' and '.join(sorted(met))}: {few} are {listed}."]


def span(metric: str, low: float, high: float, unit: str = " points") -> str:
    """An interval of differences as its metric is read."""
    if numbers.is_fraction(metric):
        low, high = max(-1.0, low), min(1.0, high)  # further than that no difference can be
        return f"{100 * low:.1f} to {100 * high:.1f}{unit}".replace("-", "−")
    return f"{numbers.number(low)} to {numbers.number(high)}".replace("-", "−")


def range_of(metric: str, found: Mean) -> str:
    """The interval of a mean; of a share no further than a share can be."""
    if found.low is None or found.high is None:
        return "–"
    if numbers.is_fraction(metric):
        return span(metric, max(0.0, found.low), min(1.0, found.high), " %")
    return span(metric, found.low, found.high)


def points(metric: str, value: float) -> str:
    """A difference of scores, with its sign."""
    if value != value:
        return "–"
    if numbers.is_fraction(metric):
        return f"{100 * value:+.1f} points".replace("-", "−")
    return f"{'−' if value < 0 else '+'}{numbers.number(abs(value))}"


def _warnings(table: Table) -> list[str]:
    """What a reader of the table must know, gravest first."""
    study, found = table.study, []
    ceiling = study.best_possible
    for row in table.rows if ceiling is not None else ():
        assert ceiling is not None
        sign = 1 if study.upwards else -1
        over = {seed: x for seed, x in row.scores.items() if sign * x > sign * ceiling}
        if over:
            seeds = f"seed{'s' if len(over) > 1 else ''} {', '.join(map(str, over))}"
            best = numbers.score(study.metric, sign * max(sign * x for x in over.values()))
            found.append(
                f"Too good: {row.arm}, {seeds}, up to {best}, beyond the declared "
                f"{numbers.score(study.metric, ceiling)}. Look for a leak before believing it."
            )
    for row in table.rows:
        for state in ("diverged", "collapsed", "failed"):
            met = [each for each in row.results if each.state == state]
            if met:
                seeds = ", ".join(str(each.entry.seed) for each in met)
                many = f"seed{'s' if len(met) > 1 else ''} {seeds}"
                found.append(f"{row.arm}, {many}, {state}: {met[0].why}")
        for each in row.results:
            if each.opened > 1:
                found.append(
                    f"{row.arm}, seed {each.entry.seed}: its test split was opened {each.opened} times."
                )
    found += [f"Arms also differ in {each}." for each in table.state.get("confounds", ())]
    found += [f"{note[:1].upper()}{note[1:]}." for note in table.state.get("notes", ())]
    stale = sum(each.state == "stale" for row in table.rows for each in row.results)
    if stale:
        found.append(
            f"{stale} run{' is' if stale == 1 else 's are'} stale: made by other code than this; --rerun-stale makes them anew."
        )
    found += _places(table)
    few = [row.arm for row in table.rows if row.mean and row.mean.n == 1]
    if few:
        found.append(f"One run alone has no spread: {', '.join(few)}.")
    return found
