"""The table of a study, from its folder alone: a row an arm, differences to the baseline, claims, what is to be known beside them."""

from __future__ import annotations

import math
from dataclasses import replace

from cluster.environment import code
from cluster.run import Run
from datasets import store
from datasets.refusal import Refusal
from search import numbers
from search.studies import arms as arms_of
from search.studies import claims, comparing, statistics, words
from search.studies.folder import Entry, Folder
from search.studies.rows import Judged, Result, Row, Table
from search.studies.study import Study
from trainers.data import Data

CHANCE = 0.05


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
    table = replace(table, compared=comparing.compared(table))
    beside = comparing.beside_best(table)
    return replace(
        table,
        claims=[claims.judged(table, claim) for claim in study.claims],
        warnings=_warnings(table),
        ties=[arm for arm, verdict in beside.items() if verdict == "tie"],
        untested=[arm for arm, verdict in beside.items() if verdict == "untested"],
    )


def unrun(study: Study, folder: Folder) -> Table:
    """The table of a study of which nothing has been run: its arms, and why its claims cannot be judged."""
    listed = arms_of.arms(study)
    rows = [
        Row(arm.label, arm.values, [_unbegun(arm.label, seed) for seed in study.run_seeds])
        for arm in listed
    ]
    absent = next(filter(None, (_absent(arm.recipe.data) for arm in listed)), "")
    verdict = ("data not at hand", f"there is no {absent}") if absent else ("not run", "")
    unjudged = [Judged(claim, "–", *verdict) for claim in study.claims]
    state = {"status": "not run", "arms": {arm.label: dict(arm.values) for arm in listed}}
    return Table(folder, study, state, rows, claims=unjudged)


def _unbegun(arm: str, seed: int) -> Result:
    return Result(Entry(arm, seed, "", ""), "missing")


def _absent(data: Data) -> str:
    """What the data would be read from, where it is not there."""
    path = data.url or (data.source.arguments.get("path") if data.source else None)
    return str(path) if path and not store.exists(str(path)) else ""


def _result(folder: Folder, study: Study, entry: Entry, now: str) -> Result:
    if not entry.run:
        return Result(entry, entry.status, why=entry.why)
    run = Run(folder.run_url(entry))
    try:
        summary, env = run.summary, run.json("env.json")
    except Refusal as refusal:  # one damaged run does not hide the others
        return Result(entry, "failed", why=f"{refusal.error} ({entry.run})")
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
    if why := _collapsed(run, study.metric.partition("/")[0]):
        return replace(told, state="collapsed", why=why)
    return replace(told, state="finished" if env.get("code") == now else "stale")


def _collapsed(run: Run, split: str) -> str:
    """Why a run's scores of a split are none, whichever is asked for: what it says cannot be told from naming the largest
    class, or a fit is no better than the mean."""
    if run.scores.get(f"{split}/r2", 1.0) <= 0:
        return "no better than the mean of all values"
    accuracy = run.scores.get(f"{split}/accuracy")
    counts = (run.json("data.json").get("counts") or {}).get(split)
    if accuracy is None or not counts or len(counts) < 2:
        return ""
    total, most = sum(counts.values()), max(counts.values())
    chance = statistics.better_than(most / total, round(accuracy * total), total) > CHANCE
    return "no better than naming the largest class" if chance else ""


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


def _warnings(table: Table) -> list[str]:
    """What a reader of the table must know, gravest first."""
    study, found = table.study, []
    ceiling = study.best_possible
    for row in table.rows if ceiling is not None else ():
        assert ceiling is not None
        sign = 1 if study.upwards else -1
        over = {seed: x for seed, x in row.scores.items() if sign * x > sign * ceiling}
        if over:
            which = f"seed{'s' if len(over) > 1 else ''} {', '.join(map(str, over))}"
            best = numbers.score(study.metric, sign * max(sign * x for x in over.values()))
            found.append(
                f"Too good: {row.arm}, {which}, up to {best}, beyond the declared "
                f"{numbers.score(study.metric, ceiling)}. Look for a leak before believing it."
            )
    for row in table.rows:
        for state in ("diverged", "collapsed", "failed"):
            met = [each for each in row.results if each.state == state]
            if met:
                which = ", ".join(str(each.entry.seed) for each in met)
                many = f"seed{'s' if len(met) > 1 else ''} {which}"
                found.append(f"{row.arm}, {many}, {state}: {met[0].why}")
        for each in row.results:
            if each.opened > 1:
                found.append(
                    f"{row.arm}, seed {each.entry.seed}: its test split was opened {each.opened} times."
                )
    left = [Entry(**each) for each in table.state.get("left_out", ())]
    if left:
        found.append(words.left_out(left, study))
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
