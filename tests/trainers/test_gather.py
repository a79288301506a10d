"""Losses over pairs on two and three real ranks: the same triplets, loss and gradient as one process with the global batch."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datasets.batch import Batch
from datasets.order import Plan
from tests.trainers.ranks import CUTS, Found, drawn, met, share, told
from trainers import build, parallel, rooms
from trainers.build import Shape
from trainers.recipe import Recipe
from trainers.stage import Stage, scaled
from trainers.task import Scalar

TASKS: dict[str, dict[str, Any]] = {
    "triplet": {"distance": "euclidean"},
    "triplet cosine": {"distance": "cosine", "mining": "semi_hard"},
    "triplet all": {"mining": "all", "margin": None},
    "contrastive": {},
    "ntxent": {"temperature": 0.5},
    "simclr": {"temperature": 0.5, "projection": 6},
    "simsiam": {"projection": 8},
}
OF_OWN_ROWS = ("simsiam",)  # the others' loss is of the global batch on every rank


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(16, 12), torch.nn.Tanh(), torch.nn.Linear(12, 4)
    )


def made(name: str) -> Any:
    """A task by pairs on the small network, with nothing of ranks in it."""
    net = network()  # seeds what follows, a projection's weights too
    return rooms.door("tasks", name.split()[0]).build({"model": net}, TASKS[name])


def batch_of(rows: slice, total: int, *, weightless: bool = False) -> Batch:
    columns = {
        "image": drawn(total, 1, 4, 4),
        "image_2": drawn(total, 1, 4, 4, seed=1),
        "label": torch.arange(total) // 2 % 4,
        "id": torch.arange(total),
    }
    return Batch({n: c[rows] for n, c in columns.items()}, key=0, weightless=weightless)


def spent(task: Any, batch: Batch, total: int, world: int) -> Found:
    """Loss, logs, gradients, and the rows that were mined."""
    mined: list[list[Tensor]] = []
    if hasattr(task, "mined"):
        before = task.mined

        def noting(*given: Tensor) -> Any:
            found = before(*given)
            mined.append([rows.clone() for rows in found])
            return found

        task.mined = noting
    if world > 1:  # as a stage does: batch norm of the global batch
        parallel.SyncBatchNorm.convert(task)
        for module in task.modules():
            if isinstance(module, parallel.SyncBatchNorm):
                module.counted = not batch.weightless
    wrapped = parallel.wrap(task)
    with parallel.through(task, wrapped):
        (step,) = task.training_step(batch)
        rows = 0 if batch.weightless else len(batch)
        scaled(step, rows, total, world).backward()
    return {
        "loss": step.loss.detach(),
        "rows": rows,
        "logs": {name: value.detach() for name, value in step.logs.items()},
        "grads": [p.grad for p in task.parameters()],
        "mined": mined,
    }


# --- what each rank does


def losses(rank: int, world: int) -> Found:
    total = sum(CUTS[world])
    return {
        name: spent(made(name), batch_of(share(rank, world), total), total, world) for name in TASKS
    }


def keeping_step(rank: int, world: int) -> Found:
    """The last rank only keeps step, with a row of which nothing may be seen."""
    total = 4 * (world - 1)
    last = rank == world - 1
    rows = slice(0, 1) if last else slice(4 * rank, 4 * rank + 4)
    batch = batch_of(rows, total, weightless=last)
    if last:
        batch.columns.update({name: image * 1e3 for name, image in batch.pictures.items()})
    return {name: spent(made(name), batch, total, world) for name in TASKS}


def phase(rank: int, world: int) -> Found:
    """Two steps of a recipe's phase: synchronised norms, DDP and the optimizer are part of it."""
    recipe = Recipe.load(
        str(rooms.ROOT / "recipes" / "digits_triplet.yaml"),
        ["model.width=4", "scale.device=cpu"],
    )
    net = build.model(recipe, Shape(10, channels=1, size=8))
    rows, cuts = sum(CUTS[world]), (0, *itertools.accumulate(CUTS[world]))
    plan = Plan(rows * 3, rows, world, cuts=cuts)
    stage = Stage(recipe, 0, net, plan=plan, device=torch.device("cpu"), bf16=False)
    return two_steps(stage, net, share(rank, world), rows)


def two_steps(stage: Stage, net: torch.nn.Module, own: slice, rows: int) -> Found:
    logs = []
    for step in range(2):
        columns = {
            "image": drawn(rows, 1, 8, 8, seed=step),
            "label": torch.arange(rows) // 2,
            "id": torch.arange(rows),
        }
        logs.append(stage.spend(Batch({n: c[own] for n, c in columns.items()}, key=step), step, ()))
    return {"state": {n: v.clone() for n, v in net.state_dict().items()}, "logs": logs}


def judged(rank: int, world: int) -> Found:
    """Evaluators of features; rank 0 has most rows, the last one none."""
    rows = {0: slice(0, 30), 1: slice(30, 40), world - 1: slice(40, 40)}[rank]
    return {name: scores(name, rows) for name in ("embedding", "health", "knn")}


def scores(name: str, rows: slice) -> dict[str, float]:
    evaluator = rooms.door("evals", name).build({"classes": list("abcde")}, {})
    outputs = {"embedding": drawn(40, 6), "active": drawn(40, 9) > 1.5}
    batch = Batch({"label": (torch.arange(40) % 5)[rows], "id": torch.arange(40)[rows]}, key=0)
    evaluator.update({k: v[rows] for k, v in outputs.items()}, batch)
    return {f.name: f.value for f in evaluator.findings() if isinstance(f, Scalar)}


SCENARIOS = {each.__name__: each for each in (losses, keeping_step, phase, judged)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return met(tmp_path_factory.mktemp("ranks"), SCENARIOS)


@pytest.fixture(params=CUTS)
def ranks(request: pytest.FixtureRequest, folder: Path) -> list[Found]:
    return told(folder, request.param)


def agree(found: Found, expected: Found, loss: Tensor) -> None:
    torch.testing.assert_close(loss, expected["loss"])
    assert found["loss"] > 0 and found["logs"].keys() == expected["logs"].keys()
    for name, value in expected["logs"].items():
        torch.testing.assert_close(found["logs"][name], value, msg=name)
    assert len(found["mined"]) == len(expected["mined"])
    for mine, theirs in zip(found["mined"], expected["mined"], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True)), "other triplets"
    for mine, theirs in zip(found["grads"], expected["grads"], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def agree_all(found: list[Found], expected: Found, name: str) -> None:
    total = sum(each["rows"] for each in found)
    mean = sum((each["loss"] * (each["rows"] / total) for each in found), torch.zeros(()))
    for each in found:
        agree(each, expected, mean if name in OF_OWN_ROWS else each["loss"])


@pytest.mark.parametrize("name", TASKS)
def test_loss_triplets_and_gradient_are_those_of_one_process(ranks: list[Found], name: str) -> None:
    total = sum(CUTS[len(ranks)])
    expected = spent(made(name), batch_of(slice(None), total), total, 1)
    assert any(grad.abs().sum() > 0 for grad in expected["grads"])
    agree_all([found["losses"][name] for found in ranks], expected, name)


@pytest.mark.parametrize("name", TASKS)
def test_a_rank_that_only_keeps_step_is_in_no_pair(ranks: list[Found], name: str) -> None:
    total = 4 * (len(ranks) - 1)
    expected = spent(made(name), batch_of(slice(None), total), total, 1)
    agree_all([found["keeping_step"][name] for found in ranks], expected, name)


def test_a_phase_of_triplets_is_that_of_one_process(ranks: list[Found]) -> None:
    recipe = Recipe.load(
        str(rooms.ROOT / "recipes" / "digits_triplet.yaml"),
        ["model.width=4", "scale.device=cpu"],
    )
    rows = sum(CUTS[len(ranks)])
    net = build.model(recipe, Shape(10, channels=1, size=8))
    device = torch.device("cpu")
    stage = Stage(recipe, 0, net, plan=Plan(rows * 3, rows, 1), device=device, bf16=False)
    expected = two_steps(stage, net, slice(None), rows)
    for found in ranks:
        for name, value in expected["state"].items():
            torch.testing.assert_close(found["phase"]["state"][name], value, rtol=2e-4, atol=2e-5)
        for mine, theirs in zip(found["phase"]["logs"], expected["logs"], strict=True):
            assert mine.keys() == theirs.keys()
            torch.testing.assert_close(mine["loss"], theirs["loss"], rtol=1e-4, atol=1e-5)
    assert torch.equal(expected["state"]["head.weight"], ranks[0]["phase"]["state"]["head.weight"])


@pytest.mark.parametrize("name", ["embedding", "health", "knn"])
def test_features_are_judged_as_on_one_process(ranks: list[Found], name: str) -> None:
    # Of two ranks the second is the last one, which has no row.
    expected = scores(name, slice(0, 40 if len(ranks) == 3 else 30))
    for found in ranks:
        assert found["judged"][name] == pytest.approx(expected, rel=1e-6)
