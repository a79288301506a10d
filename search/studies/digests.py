"""The digest of the data that a cell's run reads: its arm's, or its own where the seed changes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datasets.shards import Dataset
from search.studies.arms import Arm, Cell
from trainers import feed
from trainers.recipe import Recipe


class Digests:
    """By what recipes say of their data, each opened once; those of the arms may be open already."""

    def __init__(self, arms: Sequence[Arm] = (), datasets: Mapping[str, Dataset] | None = None):
        opened = datasets or {}
        self._known = {
            _said(arm.recipe): opened[arm.label].manifest.digest
            for arm in arms
            if arm.label in opened
        }

    def of(self, cell: Cell) -> str:
        said = _said(cell.recipe)
        if said not in self._known:
            self._known[said] = feed.dataset(cell.recipe.data).manifest.digest
        return self._known[said]


def _said(recipe: Recipe) -> str:
    return recipe.data.model_dump_json()
