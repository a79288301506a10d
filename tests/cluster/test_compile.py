"""Compiled networks learn what plain ones do, in this process and in DDP with synchronised norms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cluster.run import Run
from tests.cluster.conftest import DIGITS, SMALL
from tests.commands import cli
from trainers import checkpoint

STEPS = ["phases.0.epochs=null", "phases.0.steps=4", "keep.metric=null"]


def weights(out: Path, *words: str) -> dict[str, torch.Tensor]:
    said = cli("train", DIGITS, *SMALL, *STEPS, *words, "--out", out, "--quiet")
    assert said.code == 0, said.err
    (folder,) = out.iterdir()
    assert Run.open(str(folder)).scores["test/accuracy"] > 0.05
    return load_file(f"{checkpoint.latest(str(folder))}/model.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_networks_learn_the_same(tmp_path: Path) -> None:
    plain = weights(tmp_path / "plain")
    for workers in (1, 2):
        found = weights(tmp_path / str(workers), "scale.compile=true", f"scale.workers={workers}")
        assert found.keys() == plain.keys()
        for name, value in plain.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
