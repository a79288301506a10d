"""A trial as Ray Tune steps it: each step is work until the next evaluation; the process serves one trial after another."""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Iterable
from typing import Any

from ray import tune

from cluster import trial
from cluster.environment import commit_variable
from cluster.run import Run
from cluster.trial import Judged, Trial
from search.tune import costs
from trainers.choice import Choice
from trainers.recipe import Recipe
from trainers.searching import COSTS, Objective

ENDED = "ended"  # of a result: finished, stopped, resting or failed
Result = dict[str, Any]


class Trainable(tune.Trainable):
    """The runs of a trial, one for each seed, one after the other. The first alone may be ended early.

    A result has `judged` (evaluations so far) and `value` (the best so far), or `ended` with `values`, or `why`.
    """

    def setup(self, config: dict[str, Any]) -> None:
        os.environ.update(commit_variable())
        self._runs: list[tuple[Recipe, str, str | None]] = []
        self._trial: Trial | None = None
        self.reset_config(config)

    def reset_config(self, config: dict[str, Any]) -> bool:
        """Another trial. What was before was ended early by the scheduler, or has ended by itself."""
        self._end("pruned")
        tree = json.loads(config["trial"])
        self._runs = [
            (Recipe.check(each["recipe"]), each["folder"], each.get("parent"))
            for each in tree["runs"]
        ]
        self._turn = tree.get("turn")  # evaluations, after which it rests
        self._goals = [Objective.model_validate(goal) for goal in tree["goals"]]
        self._seed = 0
        self._best: float | None = None
        self._begun = time.perf_counter()
        return True

    def step(self) -> Result:
        # What a trial raises is its result: Tune would try again what only comes again, and lose the reason.
        try:
            return self._step()
        except Exception as error:  # noqa: BLE001
            folder = self._runs[self._seed][1]
            why = trial.failed(folder, error, ours=self._trial is not None)
            self._end("failed")
            return self._ended("failed", why=why)

    def cleanup(self) -> None:
        self._end("pruned")

    def _step(self) -> Result:
        while True:
            recipe, folder, parent = self._runs[self._seed]
            if self._trial is None:
                self._trial = Trial(recipe, folder, parent)
                self._best = best_of(self._trial.earlier, recipe.keep.mode)
            judged = self._trial.advance()
            if judged:
                if (
                    self._turn
                    and judged.number % self._turn == 0
                    and judged.step < self._trial.steps
                ):
                    return self._rested(judged)
                if self._seed == 0:
                    return self._judged(judged)
                continue
            status = self._trial.status
            self._end(status)
            if status != "finished":
                return self._ended("stopped")
            self._seed += 1
            if self._seed == len(self._runs):
                return self._ended("finished", values=self._values())

    def _judged(self, judged: Judged) -> Result:
        """The best value so far of the first goal that is a score."""
        keep = self._runs[0][0].keep
        scores = [judged.scores[str(keep.metric)]]
        if self._best is not None:
            scores.append(self._best)
        self._best = best_of(scores, keep.mode)
        assert self._trial
        # After its last evaluation a trial has cost all that it can: to end it early would only lose its score.
        last = len(self._runs) == 1 and judged.step >= self._trial.steps
        found = {"judged": judged.number, "value": self._best, "last": last}
        return {**found, "seconds": self._seconds()}

    def _rested(self, judged: Judged) -> Result:
        """Its turn is over: others go on first. What counts is where it stands, not where it was best."""
        assert self._trial
        self._trial.rest()
        self._end("stopped")
        score = judged.scores[str(self._runs[0][0].keep.metric)]
        return {**self._ended("resting"), "judged": judged.number, "value": score}

    def _values(self) -> list[float]:
        """Of each goal, the mean over the seeds."""
        per_run = [
            [_value(Run(folder), goal) for goal in self._goals] for _, folder, _ in self._runs
        ]
        return [statistics.fmean(column) for column in zip(*per_run, strict=True)]

    def _ended(self, how: str, **more: Any) -> Result:
        return {ENDED: how, "done": True, "seconds": self._seconds(), **more}

    def _seconds(self) -> float:
        return time.perf_counter() - self._begun

    def _end(self, status: str) -> None:
        ended, self._trial = self._trial, None
        if ended:
            ended.close(status)


def best_of(scores: Iterable[float], mode: str) -> float | None:
    """The best of the scores that are numbers; None without any."""
    found = [float(score) for score in scores if not math.isnan(score)]
    return (max if mode == "max" else min)(found, default=None)


def _value(run: Run, goal: Objective) -> float:
    """Of a finished run: its best validation score, or what its model costs."""
    if goal.metric in COSTS:
        return costs.of(run, goal.metric)
    keep = run.recipe.keep.model_copy(update={"metric": goal.metric, "mode": goal.mode})
    table = run.metrics()
    if goal.metric not in table:
        return float("nan")
    rows = table[table["split"] == "val"].dropna(subset=goal.metric)
    scores = [
        (int(phase), int(step), float(score))
        for phase, step, score in rows[["phase", "step", goal.metric]].itertuples(index=False)
    ]
    best = Choice(keep, scores).best
    return best.score if best else float("nan")
