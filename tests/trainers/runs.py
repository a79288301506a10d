"""What a run of the engine left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from cluster.session import Local
from trainers import checkpoint, saving
from trainers.checkpoint import State
from trainers.engine import fit
from trainers.recipe import Recipe

TIMES = {"seconds", "wait_seconds", "images_per_second", "step_seconds", "allreduce_share"}
Places = Callable[..., Local]
Row = dict[str, Any]


def losses(recipe: Recipe, session: Local, steps: int) -> list[float]:
    """The losses of the first steps."""
    reports = fit(recipe, session)
    for _ in range(steps):
        next(reports)
    reports.send("stop")
    return [row["loss"] for row in rows(session) if row["split"] == "train"]


def rows(session: Local) -> list[Row]:
    """metrics.jsonl without what depends on the clock."""
    lines = Path(session.folder, "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def summary(session: Local) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(session.folder, "summary.json").read_bytes())
    return found


def weights(session: Local) -> dict[str, Tensor]:
    url = checkpoint.latest(session.folder)
    return {**load_file(f"{url}/model.safetensors"), **load_file(f"{url}/optim.safetensors")}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def steps_saved(session: Local) -> list[int]:
    folder = Path(session.folder, "checkpoints")
    return sorted(int(path.name[5:]) for path in folder.glob("step-*"))


def saved(run: str, state: State, **parts: Any) -> str:
    """A checkpoint of these parts; its url."""
    return saving.write(run, saving.snapshot(state, **parts))
