"""From a recipe's data to the packed set that it means."""

from __future__ import annotations

from pathlib import Path

from tests.datasets.test_raw import folder, small
from trainers import feed
from trainers.data import Data


def test_a_recipe_that_names_a_frame_keeps_its_files(tmp_path: Path) -> None:
    root = folder(tmp_path / "p", [small(n) for n in range(30)])
    tree = {"source": {"name": "imagefolder", "path": str(root)}}
    assert feed.dataset(Data.model_validate(tree)).manifest.codec == "raw"
    framed = {**tree, "train": {"frame": {"name": "random_resized_crop"}}}
    assert feed.dataset(Data.model_validate(framed)).manifest.codec == "encoded"
