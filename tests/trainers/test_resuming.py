"""Stopped, killed or gone on with: the engine ends as if nothing had been."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cluster.session import Local
from tests.trainers.runs import Places, losses, rows, same, summary, weights
from trainers import checkpoint
from trainers.engine import fit
from trainers.recipe import Recipe


@pytest.mark.parametrize("step", [1, 4, 5, 6, 7, 10, 13])
def test_stopped_and_resumed_at_any_step_it_ends_the_same(
    step: int, quick: Recipe, uninterrupted: Local, local: Places
) -> None:
    session = local()
    reports = fit(quick, session)
    for _ in range(step):
        next(reports)
    stopped = reports.send("stop")
    assert (stopped.step, stopped.checkpoint) == (step, checkpoint.folder(session.folder, step))
    assert summary(session)["status"] == "stopped"
    assert next(reports, None) is None
    rest = list(fit(quick, session))
    assert [report.step for report in rest] == [*range(step + 1, 15), 14]
    assert same(weights(session), weights(uninterrupted))
    assert rows(session) == rows(uninterrupted)
    assert rest[-1].scores == summary(uninterrupted)["scores"]


@pytest.mark.parametrize(("step", "resumed_at"), [(2, 0), (5, 3), (8, 6), (11, 9)])
def test_killed_at_any_step_it_ends_the_same(
    step: int, resumed_at: int, quick: Recipe, uninterrupted: Local, local: Places
) -> None:
    """Without a last word: it goes on from the checkpoint before, and writes those steps again."""
    session, saving = local(), quick.override({"keep.every_steps": 3, "keep.metric": None})
    reports = fit(saving, session)
    for _ in range(step):
        next(reports)
    reports.close()
    with Path(session.folder, "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "split": "tr')
    first, *_ = list(fit(saving, session))
    assert first.step == resumed_at + 1
    assert same(weights(session), weights(uninterrupted))
    seen = [(row["step"], row["split"]) for row in rows(session)]
    assert len(seen) == len(set(seen))
    assert [s for s, split in seen if split == "train"] == list(range(1, 15))


def test_a_run_that_died_before_its_final_scores_gets_them(
    quick: Recipe, uninterrupted: Local, local: Places
) -> None:
    session = local()
    reports = fit(quick, session)
    for _ in range(14):
        next(reports)
    reports.close()
    assert [report.step for report in fit(quick, session)] == [14]
    assert summary(session)["scores"] == summary(uninterrupted)["scores"]
    assert summary(session)["opened"] == {"test": 1}
    assert rows(session) == rows(uninterrupted)


def test_draws_of_the_consumer_change_nothing(digits: Recipe, local: Places) -> None:
    one, two = local("one"), local("two")
    losses(digits.override("model.dropout=0.5"), one, 5)
    reports = fit(digits.override("model.dropout=0.5"), two)
    for _ in range(5):
        next(reports)
        torch.rand(7)
    reports.send("stop")
    assert same(weights(one), weights(two))


def test_the_pointer_to_the_best_is_mended_on_resuming(digits: Recipe, local: Places) -> None:
    """A kill may come between a checkpoint and best.json."""
    session = local()
    recipe = digits.override("phases.0.epochs=2")
    list(fit(recipe, session))
    pointer = Path(session.folder, "checkpoints", "best.json")
    true = json.loads(pointer.read_text())
    pointer.write_text(json.dumps({**true, "step": 1}))
    list(fit(recipe, session))
    assert json.loads(pointer.read_text()) == true


# --- a recipe that goes on from another's checkpoint


def test_a_child_with_another_optimizer_begins_its_moments_anew(
    digits: Recipe, local: Places, caplog: pytest.LogCaptureFixture
) -> None:
    session = local()
    parent = digits.override("phases.0.epochs=1", "evals={}", "keep.metric=null")
    list(fit(parent, session))
    child = parent.override("phases.0.epochs=2", "phases.0.optim.main.name=adam")
    reports = list(fit(child, session))
    assert (reports[0].step, reports[-1].step) == (20, 38)
    assert "begin anew" in caplog.text


def test_a_child_that_keeps_another_metric_forgets_the_scores(
    digits: Recipe, local: Places
) -> None:
    session = local()
    parent = digits.override("phases.0.epochs=1", "keep.metric=val/loss", "keep.mode=min")
    list(fit(parent, session))
    child = parent.override("phases.0.epochs=2", "keep.metric=val/accuracy", "keep.mode=max")
    list(fit(child, session))
    best = summary(session)["best"]
    assert best["metric"] == "val/accuracy"
    assert best["score"] <= 1
    assert best["step"] > 19
