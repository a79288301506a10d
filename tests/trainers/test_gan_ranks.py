"""Adversaries on two and three ranks take the steps that one process takes with the same global batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.batch import Batch
from datasets.order import Plan
from tests.trainers.ranks import CUTS, Found, Scenario, drawn, met, share, told
from trainers import build, rooms
from trainers.average import Average
from trainers.build import Shape
from trainers.recipe import Recipe
from trainers.stage import Stage

CHANGES: dict[str, Any] = {
    "model": {"latent": 6, "width": 4},
    "scale.device": "cpu",
    "phases.0.task.critic_steps": 2,
    "phases.0.task.augment": ["color", "translation", "cutout"],
    # With a small eps Adam's first steps make much of rounding.
    "phases.0.optim.generator.eps": 1e-2,
    "phases.0.optim.critic.eps": 1e-2,
}


def stepped(name: str, own: slice, plan: Plan) -> Found:
    """Two steps on these rows of noise: weights, running statistics, averages, and what is judged then."""
    recipe = Recipe.load(str(rooms.ROOT / "recipes" / "dcgan_digits.yaml"))
    recipe = recipe.override({**CHANGES, "model": {"name": name, **CHANGES["model"]}})
    network = build.model(recipe, Shape(1, channels=1, size=8))
    stage = Stage(recipe, 0, network, plan=plan, device=torch.device("cpu"), bf16=False)
    stage.average = Average(stage.task, 0.5)
    ids = torch.arange(plan.batch)
    for step in range(2):
        pictures = drawn(plan.batch, 1, 8, 8, seed=step).tanh()
        stage.spend(Batch({"image": pictures[own], "id": ids[own]}, key=step), step, ())
        stage.average.update(step + 1)
    found = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found |= {f"average {name}": tensor.clone() for name, tensor in stage.average.held.items()}
    stage.task.eval()
    with stage.judged(), torch.no_grad():
        found["sample"] = stage.task.predict(Batch({"id": ids}, key=own.start))["sample"]
    return found


def dcgan(rank: int, world: int) -> Found:
    plan = Plan(sum(CUTS[world]) * 3, sum(CUTS[world]), world, cuts=_cuts(world))
    return stepped("dcgan", share(rank, world), plan)


def sngan(rank: int, world: int) -> Found:
    plan = Plan(sum(CUTS[world]) * 3, sum(CUTS[world]), world, cuts=_cuts(world))
    return stepped("sngan", share(rank, world), plan)


def _cuts(world: int) -> tuple[int, ...]:
    return tuple(sum(CUTS[world][:rank]) for rank in range(world + 1))


SCENARIOS: dict[str, Scenario] = {"dcgan": dcgan, "sngan": sngan}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return met(tmp_path_factory.mktemp("ranks"), SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("world", CUTS)
def test_ranks_take_the_steps_of_one_process(folder: Path, name: str, world: int) -> None:
    rows = sum(CUTS[world])
    alone = stepped(name, slice(0, rows), Plan(rows * 3, rows, 1))
    for found in told(folder, world):
        assert found[name].keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(found[name][key], value, rtol=1e-4, atol=1e-5, msg=key)
