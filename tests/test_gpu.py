"""What only a GPU can show. Skipped, and said so, where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cluster.doctor import gpu
from cluster.run import run
from trainers.recipe import Recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, there is none"),
]
RECIPE = "recipes/digits.yaml"


def test_the_device_is_taken_with_bf16_and_channels_last(tmp_path: Path) -> None:
    done = run(Recipe.load(RECIPE), out=str(tmp_path))
    place = done.summary["place"]
    assert place["device"] == "cuda:0"
    assert place["precision"] == ("bf16" if torch.cuda.is_bf16_supported() else "fp32")
    assert done.scores["test/accuracy"] >= 0.95


def test_fp32_on_cuda_agrees_with_the_cpu_at_first(tmp_path: Path) -> None:
    recipe = Recipe.load(RECIPE).override("phases.0.epochs=1", "scale.precision=fp32")
    losses = {}
    for device in ("cpu", "cuda"):
        done = run(recipe.override({"scale.device": device}), out=str(tmp_path / device))
        losses[device] = done.metrics().query("split == 'train'")["loss"].head(5).tolist()
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-3)


def test_all_gpus_by_nccl(tmp_path: Path) -> None:
    done = run(Recipe.load(RECIPE).override("scale.workers=auto"), out=str(tmp_path))
    assert done.summary["place"]["workers"] == max(1, torch.cuda.device_count())
    assert done.scores["test/accuracy"] >= 0.95


def test_the_doctor_finds_them_sound() -> None:
    found = gpu.gpus(torch.cuda.device_count())
    assert found.check.ok, found.check
    assert len(found.names) == torch.cuda.device_count() and found.bytes > 2**30
