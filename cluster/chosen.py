"""Rows of a split as a checkpoint is shown them: of its run's data, or of other data with classes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from cluster.saved import Saved
from cluster.session import device_here
from datasets import subsets
from datasets.batch import Batch
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.stream import EvalStream
from trainers import build, feed, shown, summary
from trainers.build import Shape
from trainers.evaluation import EVAL_ROWS
from trainers.part import SourcePart
from trainers.recipe import Recipe


@dataclass(frozen=True)
class Chosen:
    """`recipe` is the run's, with the data that are read."""

    saved: Saved
    data: Dataset
    split: str
    shape: Shape
    rows: NDArray[np.int64]
    recipe: Recipe

    @classmethod
    def of(
        cls,
        saved: Saved,
        split: str,
        *,
        data: str | None = None,
        subset: int | None = None,
        seed: int = 0,
    ) -> Chosen:
        """`data` is another source, `subset` the number of rows, drawn with every class in proportion."""
        recipe = saved.run.recipe
        if data is None:
            opened = saved.dataset(split)
        else:
            part = SourcePart.model_validate(data)
            recipe = recipe.override(
                {"data.source": {"name": part.name, **part.arguments}, "data.subset": None}
            )
            opened = feed.dataset(recipe.data)
        return cls._over(saved, opened, split, recipe, subset, seed)

    @classmethod
    def _over(
        cls,
        saved: Saved,
        data: Dataset,
        split: str,
        recipe: Recipe,
        subset: int | None = None,
        seed: int = 0,
    ) -> Chosen:
        manifest = data.manifest
        whole = manifest.split(split).rows
        subsets.check_labels(data, "data")
        rows = np.arange(whole, dtype=np.int64)
        if subset and subset < whole:
            columns = data.columns(split)
            _check_whole(columns["label"], subset)
            rows = subsets.chosen(
                columns["label"], columns["id"], fraction=subset / whole, seed=seed
            )
        shape = saved.shape
        height, width, channels = manifest.shape
        stored = (height or shape.size, width or shape.size, channels)
        shape = replace(shape, classes=manifest.classes, stored=stored)
        return cls(saved, data, split, shape, rows, recipe)

    def other_classes(self, saved: Saved) -> Chosen:
        """The same split with the classes that the run has not learnt from."""
        recipe = saved.run.recipe
        chosen = recipe.data.subset
        if chosen is None or not chosen.classes:
            raise Refusal(
                "the run has learnt from all classes, so none is new",
                path="data.subset.classes",
                remedy="train with some: data.subset.classes=[...]",
            )
        whole = recipe.override({"data.subset": None})
        opened = feed.dataset(whole.data)
        left = [name for name in opened.manifest.classes if name not in chosen.classes]
        return self._over(saved, subsets.of_classes(opened, left), self.split, whole)

    @property
    def whole(self) -> int:
        """The rows of the split."""
        return self.data.manifest.split(self.split).rows

    @cached_property
    def device(self) -> torch.device:
        return device_here(self.recipe.scale)

    def count_opening(self) -> None:
        """Note that the run's test split is looked at, where it is."""
        if self.split == "test" and self.recipe is self.saved.run.recipe:
            summary.count_opening(self.saved.run.url, self.split)

    def batches(self) -> Iterator[Batch]:
        """Ready for the model, on the device. Who reads them has counted the opening, once for all passes."""
        ready = build.readying(self.shape, self.device)
        view = shown.view(self.recipe, self.shape, self.device)
        stream = EvalStream(self.data, self.split, batch=EVAL_ROWS, view=view, rows=self.rows)
        return map(ready, stream)


def _check_whole(labels: NDArray[np.int64], subset: int) -> None:
    """Refuse so few rows, drawn in proportion, that some class may have none."""
    sizes = np.bincount(labels)
    sizes = sizes[sizes > 0]
    # A class's first comes at the share 1/2n of the order (subsets.chosen): by then each other has so many.
    least = int(np.floor(sizes / (2 * sizes.min()) + 0.5).sum())
    if subset < least:
        raise Refusal(
            f"{subset} pictures of {len(sizes)} classes, each in proportion, leave some class out",
            path="subset",
            value=subset,
            remedy=f"use {least} or more",
        )
