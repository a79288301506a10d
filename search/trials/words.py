"""A search in plain words and a handful of numbers: what won, whether that is more than noise, what it cost."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from datasets.page import Tile
from search import numbers
from search.sheets import named
from search.trials import doubt
from search.trials.doubt import Doubt
from search.trials.found import Found


@dataclass(frozen=True)
class Cost:
    """Trial-seconds: what was spent, and what trials that were ended early would have taken more to run to their end."""

    spent: float
    saved: float


def cost(found: Found) -> Cost:
    """A pruned trial is taken to go on at its own pace, for as many evaluations as the finished ones had (their median)."""
    table = found.table
    spent = float(table["seconds"].fillna(0.0).sum())
    # Only the first seed's evaluations are counted, and trials that are ended early have no other.
    whole = found.complete["evaluations"].median() * _seeds(found)
    pruned = table[(table["state"] == "pruned") & (table["evaluations"] > 0)]
    left = (whole - pruned["evaluations"]).clip(lower=0) / pruned["evaluations"]
    saved = float((pruned["seconds"] * left).sum()) if whole == whole else 0.0
    return Cost(spent, saved)


def sentences(found: Found, doubts: Doubt) -> list[str]:
    """What one would say aloud, each a sentence."""
    complete = found.complete
    if not len(complete):
        yet = "" if found.state.get("status") == "finished" else " yet"
        return [f"No trial has run to its end{yet}: {_counted(found)}."]
    if len(found.goals) > 1:
        return [*_of_several(found), *_retrained(found)]
    metric = found.goals[0].metric
    best = int(complete.index[0])
    score = numbers.score(metric, float(complete[metric].iloc[0]))
    said = [f"Trial {best:04d} is the best: {named(metric)} {score} ({_counted(found)})."]
    return [*said, *_runner_up(found, doubts), *_optimism(doubts), *_retrained(found)]


def failures(found: Found) -> list[str]:
    """Why trials failed, the most frequent first."""
    table = found.table
    failed = table[table["state"] == "fail"]["why"].dropna().value_counts()
    return [f"{times} failed: {why}" for why, times in failed.head(5).items()]


def tiles(found: Found, doubts: Doubt) -> list[Tile]:
    """The key numbers, the most asked for first."""
    metric = found.goals[0].metric
    listed = []
    test = f"test/{metric.partition('/')[2]}"
    if told := (found.state.get("scores") or {}).get(test):
        spread = "one run"
        if told.get("sd") is not None:
            spread = f"± {_points(test, told['sd'])} over {told['n']} seeds"
        score = numbers.score(test, told["mean"])
        listed.append(Tile(f"Winner, {named(test)}", score, spread, "main"))
    if len(found.complete):
        score = numbers.score(metric, float(found.complete[metric].iloc[0]))
        runs = f"mean of {_seeds(found)} runs" if _seeds(found) > 1 else "one run"
        listed.append(Tile(f"Best {named(metric)}", score, runs))
    if doubts.optimism:
        whole = doubts.optimism
        interval = f"95 %: {100 * whole.low:.1f} to {numbers.percent(whole.high)}"
        listed.append(
            Tile("Without the luck of being chosen", numbers.percent(whole.corrected), interval)
        )
    states = found.table["state"].value_counts()
    ended = f"{states.get('pruned', 0)} ended early, {states.get('fail', 0)} failed"
    listed.append(Tile("Trials", numbers.count(len(found.table)), ended))
    paid = cost(found)
    if paid.spent:
        saved = f"{numbers.seconds(paid.saved)} saved by ending early" if paid.saved else ""
        listed.append(Tile("Trial time", numbers.seconds(paid.spent), saved))
    return listed


def setting(value: Any) -> str:
    """A searched value on one line: numbers to three digits, all else as a recipe has it; – where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, str) else json.dumps(value)
    if value != value:
        return "–"
    whole = float(value).is_integer() or abs(value) >= 1000
    return numbers.number(value) if whole else f"{value:.3g}"


def _seeds(found: Found) -> int:
    assert found.recipe.search
    return found.recipe.search.seeds


def _counted(found: Found) -> str:
    """`of 12 trials, 9 ran to the end, 2 failed and 1 is still running`: each is in one of these groups."""
    again = found.table["same_as"].notna()
    states = found.table.loc[~again, "state"].value_counts()
    words = {
        "complete": "ran to the end",
        "pruned": "ended early",
        "fail": "failed",
        "running": "is still running" if states.get("running") == 1 else "are still running",
    }
    told = [f"{states[name]} {word}" for name, word in words.items() if states.get(name)]
    told += [f"{again.sum()} had the point of another"] if again.any() else []
    if not told:
        return "no trial was begun"
    listed = " and ".join(filter(None, (", ".join(told[:-1]), told[-1])))
    return f"of {_several(len(found.table), 'trial')}, {listed}"


def _several(count: int, noun: str) -> str:
    return f"{numbers.count(count)} {noun}{'' if count == 1 else 's'}"


def _runner_up(found: Found, doubts: Doubt) -> list[str]:
    metric, complete = found.goals[0].metric, found.complete
    if len(complete) < 2:
        return []
    versus = doubts.runner_up
    second = int(complete.index[1])
    ahead = abs(float(complete[metric].iloc[0]) - float(complete[metric].iloc[1]))
    if versus is None:
        if not ahead:
            return [f"The runner-up, trial {second:04d}, came to the same."]
        said = f"The runner-up, trial {second:04d}, is {_points(metric, ahead)} behind"
        seeds = doubt.of_seeds(found)
        if seeds and seeds[2]:
            within = "within" if ahead < 2 * seeds[2] else "beyond"
            spread = _points(metric, seeds[2])
            return [f"{said}, {within} twice the spread of the winner's own seeds (sd {spread})."]
        return [f"{said}; whether that is noise, {_unknown(metric)}."]
    rows = versus.only_best - versus.only_other
    more = f"{abs(rows)} of {versus.rows} validation rows {'more' if rows > 0 else 'fewer'} than"
    more = more if rows else "as many validation rows as"
    told = "beyond" if versus.p <= doubt.CHANCE else "within"
    said = (
        f"It gets {more} the runner-up, trial {versus.other:04d}, right: {told} noise on the same rows "
        f"({versus.only_best} that only the best gets, {versus.only_other} only the other; "
        f"McNemar's exact test, p = {versus.p:.2g})."
    )
    if doubts.compared < 2:
        return [said]
    alike = (
        f"{doubts.alike} of the {doubts.compared} other finished trials cannot be told from "
        "the best in this way, tested one by one."
        if doubts.alike
        else f"The {doubts.compared} other finished trials are all told from it in this way, one by one."
    )
    return [said, alike]


def _unknown(metric: str) -> str:
    if metric == doubt.ACCURACY:
        return "more seeds would tell (search.seeds, or search.retrain)"
    return "a run of several seeds would tell (search.retrain)"


def _optimism(doubts: Doubt) -> list[str]:
    if doubts.optimism is None:
        return []
    found = doubts.optimism
    # Of the two as they are printed, or the sentence would not add up.
    points = f"{round(100 * found.score, 1) - round(100 * found.corrected, 1):.1f}"
    looks = f"looks better than it is, here by about {points} points"
    if float(points) <= 0:
        looks = "may look better than it is, though nothing of that shows here"
    return [
        f"The best of {found.trials} on one validation set of {found.rows} rows {looks}: "
        f"{numbers.percent(found.corrected)} is what is to be expected of new rows "
        f"(95 % interval {100 * found.low:.1f} to {numbers.percent(found.high)}, bootstrap of the choice among those that "
        "ran to their end)."
    ]


def _retrained(found: Found) -> list[str]:
    scores = found.state.get("scores") or {}
    metrics = [goal.metric for goal in found.goals]
    names = [*metrics, *(f"test/{metric.partition('/')[2]}" for metric in metrics)]
    told = [(name, scores[name]) for name in names if name in scores]
    if not told:
        return []
    seeds = int(told[0][1]["n"])
    said = " and ".join(f"{named(name)} {_mean(name, each)}" for name, each in told)
    many = f"over {seeds} new seeds" if seeds > 1 else "with one new seed"
    who = "it" if len(metrics) == 1 else f"trial {int(found.complete.index[0]):04d}"
    opened = any(name.startswith("test/") for name, _ in told)
    tail = "; the test split was opened once a run" if opened else ""
    return [f"Trained anew {many}, {who} comes to {said}{tail}."]


def _of_several(found: Found) -> list[str]:
    front = found.front
    names = " and ".join(named(goal.metric) for goal in found.goals)
    listed = ", ".join(f"{number:04d}" for number in front[:8])
    more = f" and {len(front) - 8} more" if len(front) > 8 else ""
    are = "is" if len(front) == 1 else "are"
    ended = _several(len(found.complete), "finished trial")
    return [
        f"{len(front)} of {ended} {are} beaten by no other in {names}: "
        f"{listed}{more} ({_counted(found)})."
    ]


def _mean(metric: str, told: dict[str, float]) -> str:
    spread = f" ± {_points(metric, told['sd'])} (sd)" if told.get("sd") is not None else ""
    return f"{numbers.score(metric, told['mean'])}{spread}"


def _points(metric: str, value: float) -> str:
    """A difference of scores."""
    if numbers.is_fraction(metric):
        return f"{100 * value:.1f} points"
    return numbers.number(value) if math.isfinite(value) else "n/a"
