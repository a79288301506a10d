"""A small study of real runs: digits, a net of 8 channels, three epochs a run, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainers.recipe import Recipe

LR = "phases.0.optim.main.lr"


@pytest.fixture
def base(digits: Recipe, tmp_path: Path) -> Path:
    """The recipe of the study, as a file."""
    path = tmp_path / "base.yaml"
    recipe = digits.override(
        {"phases.0.epochs": 3, "scale.threads": 1, "phases.0.schedule": "constant"}
    )
    path.write_text(recipe.yaml())
    return path


@pytest.fixture
def written(base: Path, tmp_path: Path) -> Callable[..., Path]:
    """`written(seeds=2, ...)`: a study file of two learning rates."""

    def write(name: str = "small", **changes: Any) -> Path:
        tree = {
            "name": name,
            "question": "Which rate is better?",
            "recipe": str(base),
            "factors": {LR: [0.1, 0.02]},
            "seeds": 2,
            "metric": "test/accuracy",
            "parallel": 1,
            **changes,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            yaml.safe_dump({k: v for k, v in tree.items() if v is not None}, sort_keys=False)
        )
        return path

    return write
