"""From a recipe's data to the packed set that it means."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_views_that_no_task_looks_at_are_told(caplog: pytest.LogCaptureFixture) -> None:
    for views, told in ((1, 0), (3, 1)):
        recipe = Recipe.load("recipes/digits.yaml", [f"data.train.views={views}"])
        caplog.clear()
        build.shape(recipe, feed.dataset(recipe.data).manifest)
        assert [record.levelname for record in caplog.records] == ["WARNING"] * told
    assert "'classify' does not look at image_2, image_3" in caplog.text
