"""Best checkpoints, patience, the test split that is opened once, weights to begin with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cluster.session import Local
from datasets.shards import Dataset
from tests.trainers.runs import Places, rows, same, steps_saved, summary, weights
from trainers import checkpoint
from trainers.engine import fit
from trainers.recipe import Recipe


def test_the_best_checkpoint_gives_the_final_scores(quick: Recipe, local: Places) -> None:
    """The second phase ruins the net; what was best is in the first."""
    session = local()
    learning = {"phases.0.train": ["*"], "phases.0.steps": 48, "phases.0.optim.main.lr": 0.1}
    ruin = {**learning, "phases.1.optim.main.lr": 1e5}
    *_, last = fit(quick.override(ruin), session)
    found = summary(session)
    assert found["best"]["step"] <= 48 and found["best"]["metric"] == "val/accuracy"
    assert last.scores["val/accuracy"] == found["best"]["score"]
    val = {r["step"]: r["val/accuracy"] for r in rows(session) if r["split"] == "val"}
    assert found["best"]["score"] == max(val.values()) > val[56] + 0.2
    assert found["best"]["step"] in steps_saved(session)
    best = json.loads(Path(session.folder, "checkpoints", "best.json").read_bytes())
    assert best == found["best"]
    assert found["steps"] == 56


def test_small_is_best_when_the_recipe_says_so(digits: Recipe, local: Places) -> None:
    session = local()
    list(fit(digits.override("keep.metric=val/loss", "keep.mode=min"), session))
    val = {r["step"]: r["val/loss"] for r in rows(session) if r["split"] == "val"}
    assert summary(session)["best"]["score"] == min(val.values())


def test_patience_ends_a_phase_and_not_the_run(quick: Recipe, local: Places) -> None:
    session = local()
    still = {
        "phases.0.optim.main.lr": 0.0,
        "phases.0.steps": 40,
        "keep.patience": 2,
        "phases.1.epochs": 1,
    }
    found = list(fit(quick.override(still), session))
    # One evaluation to set the best, two that are no better; then the second phase of four steps.
    assert found[-1].step == 12 + 4
    assert [row["phase"] for row in rows(session) if row["split"] == "train"] == [0] * 12 + [1] * 4


def test_resuming_after_an_early_stop_knows_of_it(quick: Recipe, local: Places) -> None:
    still = {
        "phases.0.optim.main.lr": 0.0,
        "phases.0.steps": 40,
        "keep.patience": 2,
        "phases.1.epochs": 1,
    }
    recipe, one, two = quick.override(still), local("one"), local("two")
    list(fit(recipe, one))
    reports = fit(recipe, two)
    for _ in range(14):
        next(reports)
    reports.send("stop")
    list(fit(recipe, two))
    assert rows(one) == rows(two) and same(weights(one), weights(two))


def test_the_test_split_is_opened_once_and_last(
    digits: Recipe, local: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    columns = Dataset.columns

    def watched(self: Dataset, split: str) -> Any:
        opened.append(split)
        return columns(self, split)

    monkeypatch.setattr(Dataset, "columns", watched)
    session = local()
    for report in fit(digits, session):
        if "test/accuracy" not in report.scores:
            assert "test" not in opened
    assert opened.count("test") == 1
    assert summary(session)["opened"] == {"test": 1}
    assert [r["step"] for r in rows(session) if r["split"] == "test"] == [38]


def test_a_phase_may_begin_with_another_runs_weights(
    quick: Recipe, uninterrupted: Local, local: Places
) -> None:
    url = checkpoint.latest(uninterrupted.folder)
    session = local()
    recipe = quick.override(
        {"phases.0.init": url, "phases.0.optim.main.lr": 0.0, "phases.0.steps": 1}
    )
    reports = fit(recipe, session)
    next(reports)
    reports.send("save")
    reports.close()
    expected = load_file(f"{url}/model.safetensors")
    assert same(load_file(f"{checkpoint.latest(session.folder)}/model.safetensors"), expected)


def test_a_head_of_other_outputs_is_left_as_it_is(
    quick: Recipe, uninterrupted: Local, local: Places
) -> None:
    """Features of ten classes, begun with on five: pretraining on another set."""
    url = checkpoint.latest(uninterrupted.folder)
    session = local()
    classes = [str(number) for number in range(5)]
    phase = {
        "task": "classify",
        "steps": 1,
        "init": url,
        "optim": {"main": {"name": "sgd", "lr": 0.0}},
    }
    recipe = quick.override(
        {"phases": [phase], "data.subset": {"classes": classes}, "data.batch": 64}
    )
    reports = fit(recipe, session)
    next(reports)
    reports.send("save")
    reports.close()
    found = load_file(f"{checkpoint.latest(session.folder)}/model.safetensors")
    expected = load_file(f"{url}/model.safetensors")
    assert found["head.weight"].shape == (5, 8) and expected["head.weight"].shape == (10, 8)
    body = {n: t for n, t in found.items() if not n.startswith("head.") and "running" not in n}
    assert len(body) > 5
    assert all(torch.equal(t, expected[n]) for n, t in body.items() if "num_batches" not in n)
