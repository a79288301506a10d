"""A search folder as its driver leaves it, without Ray: the records are Optuna's, the trials' runs as much as is read."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from datasets import store
from search.trials import found
from search.trials.found import Found
from search.tune import samplers, schedulers
from search.tune.folder import RECIPE, Folder
from search.tune.records import Asked, Records
from search.tune.storage import Journal, database
from trainers.recipe import Recipe
from trainers.space import Space

LR, NAME = "phases.0.optim.main.lr", "phases.0.optim.main.name"
MOMENTUM, DROPOUT, BATCH = "phases.0.optim.main.momentum", "model.dropout", "data.batch"
SPACE = {
    NAME: "choice(sgd, adamw)",
    LR: "loguniform(1e-4, 1e-1)",
    MOMENTUM: f"uniform(0.5, 0.99) if {NAME} == sgd",
    BATCH: "choice(32, 64, 128)",
}


class Searched:
    """A search whose trials end as a test says, one after the other."""

    def __init__(self, recipe: Recipe, out: str, search: Mapping[str, Any]) -> None:
        tree = recipe.plain()
        tree["search"] = {"space": SPACE, "sampler": "random", **search}
        self.recipe = Recipe.check(tree)
        seeks = self.recipe.search
        assert seeks
        self.folder = Folder.of(self.recipe, "ab12" * 16, out)
        store.write_bytes(store.join(self.folder.url, RECIPE), self.recipe.yaml().encode())
        self.folder.amend(status="running", study=self.folder.name)
        self._journal = None if seeks.storage else Journal(self.folder.url)
        kept = self._journal.storage() if self._journal else database(str(seeks.storage))
        self.goals = seeks.goals(self.recipe)
        self.records = Records.open(
            self.folder.name,
            kept,
            self.goals,
            sampler=samplers.random,
            pruner=schedulers.none(),
            space=Space.parse(seeks.space),
            tree=self.recipe.plain(),
            owner=self.folder.name,
        )

    def ask(self, point: Mapping[str, Any] | None = None) -> Asked:
        """A trial that runs; of this point, or the sampler's."""
        if point:
            self.records.enqueue([point])
        asked = self.records.ask()
        assert asked
        self.keep()
        return asked

    def ended(
        self,
        *values: float,
        point: Mapping[str, Any] | None = None,
        curve: Sequence[float] = (),
        seconds: float | None = 10.0,
        hits: Sequence[bool] | np.ndarray | None = None,
    ) -> int:
        """A trial that ran to its end; its number. `hits` are the validation rows that it got right."""
        number = self._reported(point, curve, seconds)
        if hits is not None:
            self.predict(number, hits)
        self.records.complete(number, list(values))
        self.keep()
        return number

    def pruned(
        self,
        curve: Sequence[float],
        point: Mapping[str, Any] | None = None,
        seconds: float | None = 4.0,
    ) -> int:
        number = self._reported(point, curve, seconds)
        self.records.prune(number)
        self.keep()
        return number

    def failed(self, why: str, point: Mapping[str, Any] | None = None) -> int:
        number = self._reported(point, (), None)
        self.records.fail(number, why)
        self.keep()
        return number

    def predict(
        self, number: int, hits: Sequence[bool] | np.ndarray, first_id: int = 1000, **more: Any
    ) -> None:
        """The trial's predictions.parquet, as the end of a run writes it."""
        label = np.arange(len(hits)) % 10
        columns = {
            "split": ["val"] * len(hits),
            "id": np.arange(len(hits)) + first_id,
            "label": label,
            "prediction": np.where(hits, label, (label + 1) % 10),
            **more,
        }
        buffer = io.BytesIO()
        pa.parquet.write_table(
            pa.table({name: c for name, c in columns.items() if c is not None}), buffer
        )
        url = store.join(self.folder.trial(number), "predictions.parquet")
        store.write_bytes(url, buffer.getvalue())

    def keep(self) -> None:
        """Copy the journal to where the folder is, as a driver does."""
        if self._journal:
            self._journal.keep()

    def read(self) -> Found:
        return found.read(self.folder.url)

    def _reported(
        self, point: Mapping[str, Any] | None, curve: Sequence[float], seconds: float | None
    ) -> int:
        number = self.ask(point).number
        for evaluation, value in enumerate(curve, start=1):
            self.records.report(number, evaluation, value)
        if seconds is not None:
            self.records.spent(number, seconds)
        return number


def row(score: float, rows: int = 200) -> np.ndarray:
    """Hits of a trial with this accuracy, the first rows right."""
    return np.arange(rows) < round(score * rows)
