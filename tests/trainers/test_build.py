"""From a recipe's data to the packed set that it means."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from datasets.refusal import Refusal
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


def test_a_task_of_plain_pixels_refuses_to_have_them_normalised(digits: Recipe) -> None:
    recipe = digits.override({"phases.0.task": "adversarial"})
    manifest = feed.dataset(recipe.data).manifest
    with pytest.raises(Refusal, match="pixels of 0 to 1") as caught:
        build.shape(recipe, manifest)
    assert (caught.value.path, caught.value.value) == ("phases.0.task", "adversarial")
    plain = recipe.override({"data.mean": [0.0], "data.std": [1.0]})
    assert build.shape(plain, manifest).std == (1.0,)
