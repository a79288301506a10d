"""A run of digits that kept a ledger, and one of birds with boxes and parts."""

from __future__ import annotations

import pytest

from cluster.run import Run, run
from tests.search.explanation import birds
from trainers.recipe import Recipe


@pytest.fixture(scope="session")
def of_digits(digits: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs: good enough to be right mostly, with mistakes to explain."""
    recipe = digits.override({"data.ledger": True, "model.width": 16})
    return run(recipe, out=str(tmp_path_factory.mktemp("explained")))


@pytest.fixture(scope="session")
def of_birds(digits: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("birds")
    recipe = digits.override(
        {
            "name": "birds",
            "data.source": {"name": "cub200", "path": str(birds.drawn(folder))},
            "data.size": 48,
            "data.batch": 16,
            "data.train": {"transforms": []},
            "model.width": 16,
            "phases.0.epochs": 10,
        }
    )
    return run(recipe, out=str(folder / "runs"))
