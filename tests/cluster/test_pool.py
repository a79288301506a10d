"""Runs served by this process, one after another; what each of several processes of Ray is given (tests/search/studies runs them)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster import capacity
from cluster.pool import Pool, Served, Wanted
from cluster.run import Run
from trainers.recipe import Recipe
from trainers.scale import Scale


def wanted(recipe: Recipe, folder: Path, seed: int, **changes: Any) -> Wanted:
    return Wanted(seed, recipe.override({"seed": seed, **changes}), str(folder / str(seed)))


def test_runs_are_served_in_turn_and_one_that_fails_stops_no_other(
    digits: Recipe, tmp_path: Path
) -> None:
    runs = [
        wanted(digits, tmp_path, 0),
        wanted(digits, tmp_path, 1, **{"phases.0.optim.main.lr": 1e6}),
        wanted(digits, tmp_path, 2),
    ]
    pool = Pool(digits.scale, parallel=1)
    served = [*pool.serve(lambda: runs.pop(0) if runs else None, lambda: False)]
    assert [(each.wanted.key, each.status) for each in served] == [
        *((0, "finished"), (1, "failed"), (2, "finished"))
    ]
    assert "became" in served[1].why and Run(served[1].wanted.folder).summary["status"] == "failed"
    assert Run(served[0].wanted.folder).summary["opened"] == {"test": 1}


def test_the_one_that_runs_saves_when_it_is_to_stop(digits: Recipe, tmp_path: Path) -> None:
    runs = [wanted(digits, tmp_path, 0, **{"phases.0.epochs": 500}), wanted(digits, tmp_path, 1)]
    folder = runs[0].folder
    begun = lambda: (Path(folder) / "metrics.jsonl").exists()  # noqa: E731
    served = [*Pool(digits.scale, parallel=1).serve(lambda: runs.pop(0), begun)]
    assert [each.status for each in served] == ["stopped"] and len(runs) == 1
    assert [*Path(folder, "checkpoints").glob("step-*/complete.json")]
    assert isinstance(served[0], Served)


@pytest.mark.parametrize(
    ("scale", "parallel", "gpus", "expected"),
    [
        ({"device": "cpu"}, None, 1.0, (8, {"CPU": 1.0})),
        ({"device": "cpu"}, 3, 1.0, (3, {"CPU": 1.0})),
        ({"device": "cuda"}, None, 1.0, (2, {"GPU": 1.0, "CPU": 1.0})),
        ({"device": "cuda"}, None, 0.25, (8, {"GPU": 0.25, "CPU": 0.5})),
        ({"device": "cuda"}, 4, 0.5, (4, {"GPU": 0.5, "CPU": 1.0})),
        ({"device": "cpu", "workers": 4}, None, 1.0, (2, {"memory": 64 * 2**20})),
        ({"device": "cuda", "workers": 2}, None, 0.25, (1, {"memory": 64 * 2**20})),
    ],
)
def test_what_fits_of_a_cluster_of_8_cores_and_2_gpus(
    scale: dict[str, Any],
    parallel: int | None,
    gpus: float,
    expected: tuple[int, dict[str, float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = SimpleNamespace(cluster_resources=lambda: {"CPU": 8.0, "GPU": 2.0})
    monkeypatch.setattr(capacity, "connected", lambda workers: there)
    assert capacity.processes(Scale(**scale), parallel, gpus) == expected
