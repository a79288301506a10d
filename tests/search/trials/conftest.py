"""Searches that a test may lead as it likes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import bucket as bucket
from tests.search.trials.searched import Searched
from trainers.recipe import Recipe

Make = Callable[..., Searched]


@pytest.fixture
def make(digits: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """`make(space={...}, objectives=[...])`: a search of the digits recipe in which nothing has happened yet."""
    monkeypatch.delenv("MANTA_STORAGE", raising=False)

    def begun(out: str = "runs", **search: Any) -> Searched:
        return Searched(digits, out if "://" in out else str(tmp_path / out), search)

    return begun


@pytest.fixture
def seen(make: Make) -> Searched:
    """One of everything: five that ended, one ended early, one failed, one that runs."""
    search = make()
    sgd = {"phases.0.optim.main.name": "sgd", "phases.0.optim.main.momentum": 0.9}
    for score, lr, batch in ((0.90, 0.1, 32), (0.95, 0.03, 64), (0.85, 1e-3, 128)):
        point = {**sgd, "phases.0.optim.main.lr": lr, "data.batch": batch}
        search.ended(score, point=point, curve=[score - 0.2, score - 0.1, score])
    adamw = {"phases.0.optim.main.name": "adamw"}
    for score, lr in ((0.93, 1e-3), (0.80, 1e-4)):
        point = {**adamw, "phases.0.optim.main.lr": lr, "data.batch": 64}
        search.ended(score, point=point, curve=[score - 0.2, score - 0.1, score])
    search.pruned([0.2], point={**adamw, "phases.0.optim.main.lr": 0.1, "data.batch": 32})
    search.failed("Refusal: the batch <b>burnt</b> & fell")
    search.ask()
    return search
