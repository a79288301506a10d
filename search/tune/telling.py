"""What a search says on stderr: a line for each trial that ends, and what else is going on."""

from __future__ import annotations

import sys
from typing import Any

from search.tune.records import Records
from search.tune.tuner import Ended
from trainers.recipe import Recipe


class Teller:
    """A line for each trial that ends, on stderr."""

    def __init__(self, recipe: Recipe, records: Records, quiet: bool) -> None:
        assert recipe.search
        self.goals = recipe.search.goals(recipe)
        self.records, self.quiet = records, quiet
        best = records.best()  # of an earlier start
        self.best = (best.number, best.values[0]) if best else None

    def __call__(self, trial: Ended) -> None:
        said = ", ".join(f"{path.split('.')[-1]} {_short(v)}" for path, v in trial.changes.items())
        values = ", ".join(
            f"{goal.metric} {value:.4g}"
            for goal, value in zip(self.goals, trial.values, strict=False)
        )
        how = {"pruned": "ended early at ", "failed": "failed: "}.get(trial.how, "")
        if trial.how == "pruned" and trial.why:
            how = "made way: "
        same = f" ({trial.why})" if trial.how == "known" else ""
        took = f", {trial.seconds:.0f} s" if trial.seconds else ""
        most = self.records.expected()
        of = f" of {most}" if most else ""
        self.line(
            f"trial {trial.number:04d}{of}: {how}{values or trial.why}{took}{same}{self._best(trial)} | {said}"
        )

    def _best(self, trial: Ended) -> str:
        if len(self.goals) > 1 or trial.how not in ("finished", "known") or not trial.values:
            return ""
        sign = 1 if self.goals[0].mode == "max" else -1
        value = trial.values[0]
        # Of equal ones the first, as the winner is chosen.
        former = (sign * self.best[1], -self.best[0]) if self.best else None
        if value == value and (former is None or (sign * value, -trial.number) > former):
            self.best = (trial.number, value)
        return f" (best {self.best[1]:.4g}, trial {self.best[0]:04d})" if self.best else ""

    def line(self, text: str) -> None:
        if not self.quiet:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
