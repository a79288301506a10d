"""A transform of one's own, from the working directory, in a run: tried before it starts, the same on any number of workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.run import Run
from tests.cluster.conftest import DIGITS, SMALL
from tests.commands import cli

AUGMENT = """
import numpy as np

def noisy(image, *, strength):
    noise = np.random.randint(-strength, strength + 1, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)

def upright(image):
    return image.transpose(1, 0, 2)[:, :-1]
"""
STEPS = ["phases.0={task: classify, steps: 4, optim: {main: {name: sgd, lr: 0.1}}}"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_augment.py").write_text(AUGMENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def losses(home: Path, out: str, *words: str) -> list[float]:
    noisy = "data.train.transforms=[flip, {python:own_augment:noisy: {strength: 20}}]"
    said = cli("train", DIGITS, *SMALL, *STEPS, noisy, *words, "--out", home / out, "--quiet")
    assert said.code == 0, said.err
    (folder,) = (home / out).iterdir()
    return Run.open(str(folder)).metrics().query("split == 'train'")["loss"].tolist()  # type: ignore[no-any-return]


def test_a_run_with_a_function_of_ones_own(home: Path) -> None:
    assert len(losses(home, "one")) == 4


def test_what_does_not_keep_the_shape_is_refused_before_anything_is_written(home: Path) -> None:
    wrong = "data.train.transforms=[flip, python:own_augment:upright]"
    said = cli("train", DIGITS, *SMALL, *STEPS, wrong, "--out", home / "runs", "--quiet")
    assert said.code == 2
    (line,) = said.err.splitlines()
    assert "data.train.transforms.1" in line and "python:own_augment:upright" in line
    assert not (home / "runs").exists()


@pytest.mark.slow
def test_ray_workers_find_it_and_draw_the_same(home: Path) -> None:
    one = losses(home, "one", "model.width=4")
    two = losses(home, "two", "model.width=4", "scale.workers=2")
    assert two == pytest.approx(one, rel=1e-4)
