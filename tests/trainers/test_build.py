"""From a recipe's data to the packed set that it means."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.datasets.test_raw import folder, small
from trainers import build, feed
from trainers.data import Data
from trainers.recipe import Recipe


def test_a_recipe_that_names_a_frame_keeps_its_files(tmp_path: Path) -> None:
    root = folder(tmp_path / "p", [small(n) for n in range(30)])
    tree = {"source": {"name": "imagefolder", "path": str(root)}}
    assert feed.dataset(Data.model_validate(tree)).manifest.codec == "raw"
    framed = {**tree, "train": {"frame": {"name": "random_resized_crop"}}}
    assert feed.dataset(Data.model_validate(framed)).manifest.codec == "encoded"


def test_a_channel_of_one_value_is_no_division_by_nothing() -> None:
    recipe = Recipe.load("recipes/digits.yaml")
    manifest = feed.dataset(recipe.data).manifest
    shape = build.shape(recipe, dataclasses.replace(manifest, std=(0.0,)))
    assert shape.std == (1.0,) and shape.mean == manifest.mean
