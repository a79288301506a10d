"""A run that many tests look at."""

from __future__ import annotations

import pytest
import torch

from cluster.session import Local
from trainers.engine import fit
from trainers.recipe import Recipe


@pytest.fixture(scope="module")
def quick(digits: Recipe) -> Recipe:
    """Four steps an epoch; dropout, momentum and two phases, the first not a whole number of epochs."""
    head = {
        "task": "classify",
        "steps": 6,
        "train": ["head.*"],
        "optim": {"main": {"name": "sgd", "lr": 0.05, "momentum": 0.9}},
    }
    whole = {
        "task": {"name": "classify", "label_smoothing": 0.1},
        "epochs": 2,
        "optim": {"main": {"name": "adam", "lr": 0.01}},
        "schedule": {"name": "plateau", "patience": 0, "factor": 0.5, "threshold": 0.5},
    }
    return digits.override(
        {"data.batch": 256, "model.dropout": 0.3, "model.width": 4, "phases": [head, whole]}
    )


@pytest.fixture(scope="module")
def uninterrupted(quick: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Local:
    session = Local(torch.device("cpu"), str(tmp_path_factory.mktemp("uninterrupted")))
    torch.set_num_threads(1)
    list(fit(quick, session))
    return session
