"""A search in plain words and a handful of numbers: what won, whether that is more than noise, what it cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from datasets.page import Tile
from search import numbers
from search.sheets import heading
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
    whole = found.complete["evaluations"].median()
    pruned = table[(table["state"] == "pruned") & (table["evaluations"] > 0)]
    left = (whole - pruned["evaluations"]).clip(lower=0) / pruned["evaluations"]
    saved = float((pruned["seconds"] * left).sum()) if whole == whole else 0.0
    return Cost(spent, saved)


def sentences(found: Found, doubts: Doubt) -> list[str]:
    """What one would say aloud, each a sentence."""
    complete = found.complete
    if not len(complete):
        return [f"No trial has run to its end yet: {_counted(found)}."]
    if len(found.goals) > 1:
        return [*_of_several(found), *_retrained(found)]
    metric = found.goals[0].metric
    best = int(complete.index[0])
    score = numbers.score(metric, float(complete[metric].iloc[0]))
    said = [f"Trial {best:04d} is the best: {_named(metric)} {score} ({_counted(found)})."]
    return [*said, *_runner_up(found, doubts), *_optimism(doubts), *_retrained(found)]


def tiles(found: Found, doubts: Doubt) -> list[Tile]:
    """The key numbers, the most asked for first."""
    metric = found.goals[0].metric
    listed = []
    test = f"test/{metric.partition('/')[2]}"
    if told := (found.state.get("scores") or {}).get(test):
        spread = (
            f"± {_points(test, told['sd'])} over {told['n']} seeds"
            if told.get("sd") is not None
            else ""
        )
        listed.append(
            Tile(f"Winner, {_named(test)}", numbers.score(test, told["mean"]), spread, "main")
        )
    if len(found.complete):
        score = float(found.complete[metric].iloc[0])
        listed.append(Tile(f"Best {_named(metric)}", numbers.score(metric, score), "one run"))
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


def _counted(found: Found) -> str:
    states = found.table["state"].value_counts()
    again = int(found.table["same_as"].notna().sum())
    words = {"complete": "ran to the end", "pruned": "ended early", "fail": "failed"}
    told = [f"{states[name]} {word}" for name, word in words.items() if states.get(name)]
    told += [f"{states['running']} running still"] if states.get("running") else []
    told += [f"{again} asked for a known point again"] if again else []
    return f"of {len(found.table)} trials {', '.join(told)}" if told else "no trial was begun"


def _runner_up(found: Found, doubts: Doubt) -> list[str]:
    metric, complete = found.goals[0].metric, found.complete
    if len(complete) < 2:
        return []
    versus = doubts.runner_up
    second = int(complete.index[1])
    ahead = abs(float(complete[metric].iloc[0]) - float(complete[metric].iloc[1]))
    if versus is None:
        said = f"The runner-up, trial {second:04d}, is {_points(metric, ahead)} behind"
        seeds = doubt.of_seeds(found)
        if seeds and seeds[2]:
            within = "within" if ahead < 2 * seeds[2] else "beyond"
            spread = _points(metric, seeds[2])
            return [f"{said}, {within} twice the spread of the winner's own seeds (sd {spread})."]
        return [f"{said}; whether that is noise, {_unknown(metric)}."]
    rows = versus.only_best - versus.only_other
    more = f"{rows} of {versus.rows} validation rows more than" if rows else "as many rows as"
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
    gain = max(0.0, found.gain)
    return [
        f"The best of {found.trials} on one validation set of {found.rows} rows looks better than it is, here by about "
        f"{100 * gain:.1f} points: {numbers.percent(found.corrected)} is what is to be expected of new rows "
        f"(95 % interval {100 * found.low:.1f} to {numbers.percent(found.high)}, bootstrap of the choice)."
    ]


def _retrained(found: Found) -> list[str]:
    scores = found.state.get("scores") or {}
    metric = found.goals[0].metric
    names = [metric, f"test/{metric.partition('/')[2]}"]
    told = [(name, scores[name]) for name in names if name in scores]
    if not told:
        return []
    seeds = int(told[0][1]["n"])
    said = " and ".join(f"{_named(name)} {_mean(name, each)}" for name, each in told)
    many = f"over {seeds} new seeds" if seeds > 1 else "with one new seed"
    return [f"Trained anew {many}, it comes to {said}; the test split was opened once a run."]


def _of_several(found: Found) -> list[str]:
    front = found.front
    names = " and ".join(_named(goal.metric) for goal in found.goals)
    listed = ", ".join(f"{number:04d}" for number in front[:8])
    more = f" and {len(front) - 8} more" if len(front) > 8 else ""
    return [
        f"{len(front)} of {len(found.complete)} finished trials are beaten by no other in {names}: "
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


def _named(metric: str) -> str:
    split, _, name = metric.rpartition("/")
    where = {"val": "validation ", "test": "test "}.get(split, "")
    said = heading(name)
    return f"{where}{said if said.isupper() else said[:1].lower() + said[1:]}"
