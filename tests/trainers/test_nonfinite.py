"""Losses that are no numbers: the run ends before a checkpoint holds them, or their steps leave nothing behind; their batches come again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datasets.batch import Batch
from datasets.refusal import Refusal
from tests.trainers.runs import Places, rows, steps_saved, summary
from trainers import checkpoint, nonfinite
from trainers.engine import fit
from trainers.recipe import Recipe
from trainers.replay import replay
from trainers.stage import Stage
from trainers.task import Step
from trainers.tasks.classify import Classify


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Training steps (of this process, counted from 1) whose loss is not a number; may be changed."""
    wanted, done, real = [], [0], Classify.training_step

    def training_step(self: Classify, batch: Batch) -> Iterator[Step]:
        done[0] += 1
        for step in real(self, batch):
            yield step._replace(loss=step.loss * (math.nan if done[0] in wanted else 1.0))

    monkeypatch.setattr(Classify, "training_step", training_step)
    return wanted


def small(digits: Recipe, *changes: str) -> Recipe:
    return digits.override("phases.0.epochs=1", "keep.every_steps=3", *changes)


def test_the_run_ends_before_a_checkpoint_holds_it(
    digits: Recipe, local: Places, spoilt: list[int]
) -> None:
    spoilt.append(8)
    session = local()
    asked = small(digits, "data.ledger=true")
    with pytest.raises(Refusal, match=r"loss became nan at step 8 \(phase 0, epoch 1\)") as caught:
        list(fit(asked, session))
    assert "phases.0.nonfinite=skip" in caught.value.remedy and "--step 8" in caught.value.remedy
    assert max(steps_saved(session)) == 6
    url = checkpoint.latest(session.folder)
    assert all(tensor.isfinite().all() for tensor in checkpoint_weights(url).values())
    noted = json.loads(Path(session.folder, "nonfinite", "step-00000008.json").read_bytes())
    assert (noted["step"], noted["phase"], noted["epoch"]) == (8, 0, 0)
    assert noted["losses"] == {"loss": "nan"}
    again = replay(asked, 8)
    assert noted["sample_ids"] == again.batch["id"].tolist() and len(noted["sample_ids"]) == 64
    # Mended, it goes on from the checkpoint, and the note of a step that is done again is gone.
    spoilt.clear()
    list(fit(asked, session))
    assert nonfinite.steps(session.folder) == []
    assert [row["step"] for row in rows(session) if row["split"] == "train"] == list(range(1, 20))


def checkpoint_weights(url: str | None) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return {**load_file(f"{url}/model.safetensors"), **load_file(f"{url}/optim.safetensors")}


def test_a_step_that_is_skipped_leaves_nothing_behind(
    digits: Recipe, local: Places, spoilt: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt += [5, 6]
    seen: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    real = Stage.spend

    def spend(self: Stage, *args: object) -> object:
        before = {n: t.clone() for n, t in self.task.state_dict().items()}
        found = real(self, *args)  # type: ignore[arg-type]
        seen.append((before, {n: t.clone() for n, t in self.task.state_dict().items()}))
        return found

    monkeypatch.setattr(Stage, "spend", spend)
    session = local()
    *_, last = fit(small(digits, "phases.0.nonfinite=skip"), session)
    unmoved = [
        number
        for number, (before, after) in enumerate(seen, 1)
        if all(torch.equal(before[name], after[name]) for name in before)
    ]
    assert unmoved == [5, 6], "weights, running statistics and counters alike"
    assert nonfinite.steps(session.folder) == [5, 6]
    told = summary(session)
    assert told["nonfinite"] == 2 and told["status"] == "finished" and last.scores
    assert any("2 steps was no number (the first is step 5)" in note for note in told["notes"])


def test_micro_batches_skip_the_whole_step(
    digits: Recipe, local: Places, spoilt: list[int]
) -> None:
    spoilt.append(6)  # of four micro-batches a step: the second one's second
    session = local()
    list(fit(small(digits, "phases.0.nonfinite=skip", "scale.micro_batch=16"), session))
    assert nonfinite.steps(session.folder) == [2]
    assert all(
        t.isfinite().all() for t in checkpoint_weights(checkpoint.latest(session.folder)).values()
    )
