"""Every shipped recipe loads, says what it is, and trains two steps of each phase to a report's worth of files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.run import run
from datasets.sources.fashion_mnist import INSTALLED
from tests.published import is_made
from trainers import rooms
from trainers.data import Data
from trainers.recipe import Recipe

RECIPES = sorted((rooms.ROOT / "recipes").glob("*.yaml"))
# Their steps, or their test splits, cost minutes on a CPU.
SLOW = {"fashion_efficientnet", "cifar100_cutmix"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_a_lab_note_and_round_trips(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    schema, what, *_ = text.splitlines()
    assert schema == "# yaml-language-server: $schema=../docs/recipe.schema.json"
    assert what.startswith("# ")
    recipe = Recipe.load(str(path))
    verb = "search" if recipe.search else "train"
    assert f"python launch.py {verb} recipes/{path.name}" in text
    assert recipe.name == path.stem
    assert Recipe.check(yaml.safe_load(recipe.yaml())) == recipe


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=pytest.mark.slow if p.stem in SLOW else ()) for p in RECIPES],
    ids=lambda path: path.stem,
)
def test_recipe_trains_two_steps_in_process(
    path: Path,
    tmp_path: Path,
    published: Callable[[Data], str],
    tiny_clip: Callable[[int], str],
) -> None:
    recipe = Recipe.load(str(path))
    source = recipe.data.source
    if source and source.name == "fashion_mnist" and not Path(INSTALLED).exists():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    short: dict[str, Any] = {
        "scale.device": "cpu",
        "scale.workers": 1,
        "log.tensorboard": False,
        "search": None,
    }
    if is_made(recipe.data):  # the real set is not at hand: a small one of its form is
        short |= {"data.url": published(recipe.data), "data.batch": 8}
        short |= {"model.pretrained": False} if recipe.model.pretrained else {}
        short |= {"data.size": 64} if recipe.model.name.startswith("torchvision:resnet") else {}
        if "architecture" in recipe.model.arguments:
            short |= {"model.architecture": "tiny", "data.size": 32}
    for index in range(len(recipe.phases)):
        short |= {f"phases.{index}.epochs": None, f"phases.{index}.steps": 2}
    task = recipe.phases[0].task
    if rooms.door("tasks", task.name).constants.get("KEEPS_MODEL"):  # beside one that has learnt
        short["phases.0.init"] = tiny_clip(short.get("data.size", recipe.data.size))
    if "betas" in task.arguments:  # one pair an epoch, and there is none whole
        short |= {"phases.0.task.alphas": [1.0], "phases.0.task.betas": [1.0]}
    done = run(recipe.override(short), out=str(tmp_path))
    assert done.finished
    assert done.summary["steps"] == 2 * len(recipe.phases)
    assert done.scores
    table = done.metrics()
    assert table[table["split"] == "train"]["step"].tolist() == [
        *range(1, done.summary["steps"] + 1)
    ]
    losses = table.loc[
        table["split"] == "train", [c for c in table if c.endswith("loss") and "/" not in c]
    ]
    assert losses.notna().any(axis=1).all()
    assert done.best.url
    assert json.loads((Path(done.url) / "model.json").read_text())["parameters"] > 0
