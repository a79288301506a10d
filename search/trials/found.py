"""A search as it is on record: goals, space and trials, read from its folder while it runs or afterwards."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cluster.run import Run
from datasets import store
from search.tune import reading
from search.tune.folder import Folder
from search.tune.records import CHANGES, ELSEWHERE, EVALUATIONS, SAME, SECONDS, WHY
from trainers.recipe import Recipe
from trainers.searching import Objective
from trainers.space import Dimension, Space

if TYPE_CHECKING:
    import pandas as pd
    from optuna.trial import FrozenTrial

TYPES: dict[str, Any] = {
    "seconds": float,
    "evaluations": "int64",
    "reached": float,
    "same_as": "Int64",
    "why": object,
}


@dataclass(frozen=True)
class Found:
    """A search and what it has found so far."""

    folder: Folder
    trials: list[FrozenTrial]  # those that it began, by number, as they were when it was read

    @cached_property
    def recipe(self) -> Recipe:
        return self.folder.recipe

    @cached_property
    def goals(self) -> Sequence[Objective]:
        assert self.recipe.search
        return self.recipe.search.goals(self.recipe)

    @cached_property
    def space(self) -> Space:
        assert self.recipe.search
        return Space.parse(self.recipe.search.space)

    @cached_property
    def state(self) -> dict[str, Any]:
        """search.json: status, the chosen trial, the retrained runs and their scores."""
        return self.folder.state

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a trial, by number: `state` (complete, pruned, fail, running), the goals' values, what was drawn by its
        dotted path, `reached` (the last intermediate value), `seconds`, `evaluations`, `same_as`, `why`.

        Of a path that a trial does not have there is NaN; None is a null that was drawn.
        """
        import pandas as pd

        names = [goal.metric for goal in self.goals]
        types = {"state": object, **dict.fromkeys(names, float)}
        types |= {each.path: _type(each) for each in self.space.dimensions}
        types |= TYPES
        rows = [_row(trial, names) for trial in self.trials]
        index = pd.Index([trial.number for trial in self.trials], name="trial", dtype="int64")
        columns = {
            name: pd.Series([row.get(name, math.nan) for row in rows], index=index, dtype=kind)
            for name, kind in types.items()
        }
        return pd.DataFrame(columns, index=index)

    @cached_property
    def labels(self) -> dict[str, str]:
        """A short name for each searched path, as far as it tells them apart: `lr`, `optim.name`."""
        paths = [dimension.path for dimension in self.space.dimensions]
        found = {path: _short(path) for path in paths}
        # Beside the table's other columns, too.
        said = [*found.values(), "trial", "state", *TYPES, *(goal.metric for goal in self.goals)]
        return {path: label if said.count(label) == 1 else path for path, label in found.items()}

    @property
    def complete(self) -> pd.DataFrame:
        """The trials that ran to their end under their own number, the best first."""
        table = self.table
        done = table[(table["state"] == "complete") & table["same_as"].isna()]
        metrics = [goal.metric for goal in self.goals]
        upwards = [goal.mode == "min" for goal in self.goals]
        ranked = done.reset_index().sort_values([*metrics, "trial"], ascending=[*upwards, True])
        return ranked.set_index("trial")

    @property
    def front(self) -> list[int]:
        """The finished trials that no other beats in one goal without losing in another."""
        import numpy as np

        table = self.complete
        signs = [1.0 if goal.mode == "max" else -1.0 for goal in self.goals]
        worth = table[[goal.metric for goal in self.goals]].to_numpy(dtype=float) * signs
        beaten = [bool(((worth >= one).all(1) & (worth > one).any(1)).any()) for one in worth]
        return sorted(int(number) for number in table.index[~np.array(beaten, dtype=bool)])

    @property
    def curves(self) -> dict[int, pd.Series]:
        """Of each trial the values that it reported, by evaluation: the best so far of the first goal."""
        import pandas as pd

        found = {}
        for trial in self.trials:
            if trial.intermediate_values:
                values = sorted(trial.intermediate_values.items())
                found[trial.number] = pd.Series(dict(values), dtype=float)
        return found

    def run(self, number: int) -> Run:
        """The run of a trial (of its first seed)."""
        return Run(self.folder.trial(number))

    @property
    def retrained(self) -> list[Run]:
        """The winner's runs over new seeds; nothing before they ended."""
        # A folder may have been moved since: best/seed-N/NAME is looked for where it is now.
        inside = [str(url).split("/")[-3:] for url in self.state.get("retrained", ())]
        return [Run(store.join(self.folder.url, *names)) for names in inside]


def read(url: str) -> Found:
    """The search at a folder, local or s3://. Raises Refusal where there is none, or no records of it."""
    folder = Folder.open(url)
    # Its driver writes on: all that is said is said of one moment.
    recorded = reading.of_folder(folder).get_trials(deepcopy=False)
    own = [each for each in recorded if CHANGES in each.user_attrs]
    return Found(folder, [each for each in own if ELSEWHERE not in each.user_attrs])


def _type(dimension: Dimension) -> Any:
    """Of a column: numbers as pandas has them, all else as it was drawn."""
    plain = all(type(value) in (int, float) for value in dimension.values)
    return None if plain else object


def _short(path: str) -> str:
    *before, last = path.split(".")
    if last != "name" or not before:
        return last
    return f"{before[-2] if before[-1] == 'main' and len(before) > 1 else before[-1]}.{last}"


def _row(trial: FrozenTrial, names: Sequence[str]) -> dict[str, Any]:
    told, values = trial.user_attrs, trial.values or ()
    complete = trial.state.name == "COMPLETE"
    reached = [value for _, value in sorted(trial.intermediate_values.items())]
    return {
        "state": trial.state.name.lower(),
        **json.loads(told[CHANGES]),
        **(dict(zip(names, values, strict=True)) if complete else {}),
        "seconds": told.get(SECONDS, math.nan),
        "evaluations": told.get(EVALUATIONS, len(reached)),
        "reached": reached[-1] if reached else math.nan,
        "same_as": told.get(SAME),
        "why": told.get(WHY),
    }
