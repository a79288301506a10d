"""The two workloads of the step benchmarks: digits with a small conv net, synthetic pictures with ResNet-20."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datasets.packing import writing
from datasets.source import Columns
from trainers.recipe import Recipe
from trainers.rooms import ROOT

SYNTHETIC_ROWS, CLASSES = 12_800, 10
MakeRecipe = Callable[[int], Recipe]

_RESNET20 = {
    "name": "resnet20-synthetic",
    "model": "resnet20",
    "phases": [
        {
            "task": "classify",
            "steps": 1,
            "optim": {"main": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}},
            "schedule": {"name": "cosine", "warmup_steps": 50},
        }
    ],
}


class Workload(NamedTuple):
    """A recipe for a number of steps, and how many of them make a block that is timed."""

    title: str
    recipe: MakeRecipe
    steps: int
    folder: Path


@contextmanager
def on_one_thread() -> Iterator[tuple[Workload, Workload]]:
    """Digits at batch 64 (200 steps a block), ResNet-20 at batch 128 (10 steps a block), with scratch folders."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="manta-bench-") as name:
            folder = Path(name)
            yield (
                Workload(
                    "digits, small_cnn, batch 64",
                    lambda steps: digits(batch=64, steps=steps),
                    steps=200,
                    folder=folder / "digits",
                ),
                Workload(
                    "synthetic 32x32x3, ResNet-20, batch 128",
                    lambda steps: resnet20(folder, batch=128, steps=steps),
                    steps=10,
                    folder=folder / "resnet20",
                ),
            )
    finally:
        torch.set_num_threads(before)


def digits(*, batch: int, steps: int) -> Recipe:
    """recipes/digits.yaml (random crops, label smoothing, cosine and all), trained for `steps`."""
    recipe = Recipe.load(str(ROOT / "recipes" / "digits.yaml"))
    return _quiet(recipe, batch, steps)


def resnet20(folder: Path, *, batch: int, steps: int) -> Recipe:
    """ResNet-20 on synthetic 32x32x3 pictures, packed into `folder` at the first call."""
    url = folder / "synthetic"
    if not url.exists():
        _pack_synthetic(url)
    return _quiet(Recipe.check({**_RESNET20, "data": {"url": str(url)}}), batch, steps)


def _quiet(recipe: Recipe, batch: int, steps: int) -> Recipe:
    """No evaluation and no checkpoint within timed blocks; the log stays as it is. One thread, plain batch norm."""
    return recipe.override(
        {
            "data.batch": batch,
            "phases.0.epochs": None,
            "phases.0.steps": steps,
            "evals": {},
            "keep": {"metric": None, "every_steps": None, "every_seconds": None},
            "scale.device": "cpu",
            "scale.threads": 1,
            "scale.sync_bn": False,
        }
    )


def _pack_synthetic(url: Path) -> None:
    """Noise around one tint a class: learnable, so that losses move; never called data."""
    draw = np.random.default_rng(0)
    label = draw.integers(0, CLASSES, SYNTHETIC_ROWS)
    tint = draw.integers(64, 192, (CLASSES, 1, 1, 3))
    noise = draw.integers(-64, 64, (SYNTHETIC_ROWS, 32, 32, 3))
    columns: Columns = {
        "id": np.arange(SYNTHETIC_ROWS, dtype=np.int64),
        "label": label.astype(np.int64),
        "image": (tint[label] + noise).astype(np.uint8),
    }
    writing.write(
        str(url),
        {"train": columns},
        name="synthetic",
        kind="image",
        shape=(32, 32, 3),
        classes=tuple(f"tint {number}" for number in range(CLASSES)),
        packed={"source": "benchmarks/workloads.py"},
    )
