"""What learns beside a CLIP that rests, on two and three real ranks: loss, gradient and cache of one process with the global batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.batch import Batch
from tests.trainers.ranks import CUTS, Found, drawn, met, share, told
from trainers import parallel, rooms
from trainers.stage import scaled

TASKS: dict[str, dict[str, Any]] = {
    "coop": {"context": 4},
    "cocoop": {"context": 4},
    "clip_linear": {"begin": "texts"},
    "zero_shot": {},
    "tip_adapter": {"shots": 32, "learn": True},
}


def spent(name: str, rows: slice, total: int, world: int) -> Found:
    """Two steps of the same batch: the first fills a cache."""
    torch.manual_seed(0)
    model = rooms.door("models", "clip").build({"size": 8}, {"layers": 1}).requires_grad_(False)
    context = {"model": model, "classes": ["one", "two", "three"], "counts": []}
    task = rooms.door("tasks", name).build(context, TASKS[name])
    columns = {
        "image": drawn(total, 3, 8, 8),
        "label": torch.arange(total) % 3,
        "id": torch.arange(total),
    }
    batch = Batch({n: c[rows] for n, c in columns.items()}, key=0)
    wrapped = parallel.wrap(task)
    for _ in range(2):
        task.zero_grad()
        with parallel.through(task, wrapped):
            (step,) = task.training_step(batch)
            scaled(step, len(batch), total, world).backward()
    grads = {n: p.grad for n, p in task.named_parameters() if p.requires_grad}
    kept = {n: b.clone() for n, b in task.named_buffers() if n.startswith("cache.")}
    return {"grads": grads, "kept": kept}


def beside(rank: int, world: int) -> Found:
    total = sum(CUTS[world])
    return {name: spent(name, share(rank, world), total, world) for name in TASKS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return met(tmp_path_factory.mktemp("ranks"), {"beside": beside})


@pytest.mark.parametrize("world", CUTS)
@pytest.mark.parametrize("name", TASKS)
def test_gradient_and_cache_are_those_of_one_process(folder: Path, world: int, name: str) -> None:
    expected = spent(name, slice(None), sum(CUTS[world]), 1)
    assert any(grad.abs().sum() > 0 for grad in expected["grads"].values())
    for found in told(folder, world):
        for key, grad in expected["grads"].items():
            mine = found["beside"][name]["grads"][key]
            torch.testing.assert_close(mine, grad, rtol=1e-3, atol=1e-6, msg=key)
        for key, kept in expected["kept"].items():
            assert torch.equal(found["beside"][name]["kept"][key], kept), key
