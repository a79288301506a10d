"""Describe a recipe's model for the data that it names, or for a number of classes where they are not at hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from datasets import progress
from datasets.refusal import Refusal
from trainers import build, feed
from trainers.build import Shape
from trainers.describe import describe as count
from trainers.recipe import Recipe


def describe(recipe: Recipe, *, classes: int | None = None, rows: int = 1) -> dict[str, Any]:
    """`{parameters, trainable, modules, multiply_adds, input}`; the modules' outputs are of `rows` samples."""
    return count(recipe, shape_of(recipe, classes), rows=rows)


def shape_of(recipe: Recipe, classes: int | None) -> Shape:
    try:
        manifest = feed.dataset(recipe.data, shown=progress.shown).manifest
        shape = build.shape(recipe, manifest)
    except Refusal:
        if classes is None:
            raise
        # The data are not here; with the classes said, the model's own input is enough.
        channels, size = build.wanted(recipe)
        shape = Shape(classes, channels=channels or 3, size=recipe.data.size or size or 224)
    return replace(shape, num_classes=classes) if classes else shape
