"""Checkpoints beside the training: steps go on, what is written is of its step, and what goes wrong is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from datasets import store
from datasets.refusal import Refusal
from tests.trainers.runs import Places, rows, same, steps_saved, summary, weights
from trainers import build, checkpoint, saving
from trainers.build import Shape
from trainers.engine import fit
from trainers.recipe import Recipe
from trainers.saving import Copier, Snapshot


@dataclass
class Gate:
    """Holds back the writing of checkpoints while it is shut."""

    opened: threading.Event = field(default_factory=threading.Event)
    begun: list[int] = field(default_factory=list)
    error: Exception | None = None

    def pass_through(self, run: str, found: Snapshot, **more: object) -> str:
        self.begun.append(found.state.step)
        assert self.opened.wait(60)
        if self.error:
            raise self.error
        return REAL(run, found, **more)  # type: ignore[arg-type]


REAL = saving.write


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    found = Gate()
    monkeypatch.setattr(saving, "write", found.pass_through)
    yield found
    found.opened.set()


def small(digits: Recipe, *changes: str) -> Recipe:
    return digits.override("keep.every_seconds=null", *changes)


def test_steps_go_on_while_a_checkpoint_is_written(
    digits: Recipe, local: Places, gate: Gate
) -> None:
    session = local()
    running = fit(small(digits, "keep.every_steps=4"), session)
    for _ in range(7):
        report = next(running)
    assert report.step == 7 and gate.begun == [4]
    assert checkpoint.latest(session.folder) is None, "it was complete before it was written"
    gate.opened.set()
    running.send("stop")
    assert gate.begun == [4, 7] and checkpoint.step_of(checkpoint.latest(session.folder)) == 7


def test_what_is_written_late_is_of_its_own_step(digits: Recipe, local: Places, gate: Gate) -> None:
    late = local("late")
    running = fit(small(digits, "keep.every_steps=4", "keep.last=9"), late)
    for _ in range(7):
        next(running)
    gate.opened.set()
    running.send("stop")
    prompt = local("prompt")
    stopped = fit(small(digits), prompt)
    for _ in range(4):
        next(stopped)
    stopped.send("stop")
    for name in ("model", "task", "optim"):
        paths = [
            Path(checkpoint.folder(place.folder, 4), f"{name}.safetensors")
            for place in (late, prompt)
        ]
        assert paths[0].read_bytes() == paths[1].read_bytes(), name
    assert not checkpoint.read_state(checkpoint.folder(late.folder, 4)).scores


def test_by_the_clock_none_is_begun_while_one_is_written(
    digits: Recipe, local: Places, gate: Gate
) -> None:
    running = fit(digits.override("keep.every_seconds=1e-6", "log.every=1"), local())
    for _ in range(12):
        next(running)
    assert len(gate.begun) == 1
    gate.opened.set()
    running.close()


def test_a_command_to_save_is_answered_when_it_is_complete(digits: Recipe, local: Places) -> None:
    session = local()
    running = fit(small(digits), session)
    for _ in range(3):
        next(running)
    report = running.send("save")
    assert report.checkpoint == checkpoint.latest(session.folder)
    assert checkpoint.step_of(report.checkpoint) == 3


def test_what_goes_wrong_ends_the_run_and_the_one_before_stays(
    digits: Recipe, local: Places, gate: Gate
) -> None:
    session, recipe = local(), small(digits, "keep.every_steps=3")
    gate.opened.set()
    running = fit(recipe, session)
    for _ in range(5):
        next(running)
    gate.error = Refusal("no space left", path=session.folder)
    with pytest.raises(Refusal, match="no space left"):
        list(running)
    assert checkpoint.step_of(checkpoint.latest(session.folder)) == 3
    gate.error = None
    list(fit(recipe, session))
    steps = [row["step"] for row in rows(session) if row["split"] == "train"]
    assert steps == [*range(1, 39)], "a step is missing or was written twice"
    whole = local("whole")
    list(fit(recipe, whole))
    assert same(weights(session), weights(whole))


def test_a_run_that_another_holds_gets_no_checkpoint(
    digits: Recipe, local: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = local()
    monkeypatch.setattr(session, "holds", lambda: False)
    with pytest.raises(Refusal, match="another launch has taken this run over"):
        list(fit(small(digits, "keep.every_steps=3"), session))
    assert checkpoint.latest(session.folder) is None and steps_saved(session) == []


@pytest.mark.parametrize("best", [1, 2])
def test_the_best_stay_beside_the_newest(digits: Recipe, local: Places, best: int) -> None:
    session = local()
    asked = small(digits, "phases.0.epochs=4", f"keep.best={best}")
    list(fit(asked, session))
    scores = [(r["val/accuracy"], -r["step"]) for r in rows(session) if r["split"] == "val"]
    kept = {-step for _, step in sorted(scores, reverse=True)[:best]}
    assert set(steps_saved(session)) == {*kept, 4 * 19}


def test_what_checkpoints_cost_is_told(digits: Recipe, local: Places) -> None:
    session = local()
    list(fit(small(digits, "keep.every_steps=5", "keep.metric=null"), session))
    told = summary(session)["checkpoints"]
    assert told["written"] == len({5, 10, 15, 20, 25, 30, 35, 38})
    url = checkpoint.latest(session.folder)
    assert told["bytes"] == pytest.approx(
        sum(Path(url or "", f"{n}.safetensors").stat().st_size for n in ("model", "task", "optim")),
        rel=0.3,
    )
    assert told["write_seconds"] > 0 and told["snapshot_seconds"] > 0


def test_a_snapshot_shares_nothing_with_what_it_was_taken_of() -> None:
    net = torch.nn.Linear(3, 2)
    state = checkpoint.State(1, ((1, 1),))
    found = saving.snapshot(state, model=net, task=torch.nn.Identity(), optimizers={})
    before = net.weight.detach().clone()
    with torch.no_grad():
        net.weight.fill_(7)
    assert torch.equal(found.files["model"]["weight"], before)


def read_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read from object storage from here on."""
    names: list[str] = []
    real = store.read_bytes

    def read_bytes(url: str) -> bytes:
        if store.is_remote(url):
            names.append(url.rpartition("/")[2])
        return real(url)

    monkeypatch.setattr(store, "read_bytes", read_bytes)
    return names


def test_a_host_reads_its_own_copy_of_what_is_in_object_storage(
    digits: Recipe, local: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = local()
    session.folder = "memory://copies/run"
    begun = fit(small(digits, "keep.every_steps=4"), session)
    for _ in range(9):
        next(begun)
    begun.close()
    copied = checkpoint.nearby(session.folder, 8)
    assert copied.is_dir() and len([*copied.parent.iterdir()]) == 1, "the newest alone"
    names = read_of(monkeypatch)
    weights = checkpoint.fitting(f"{session.folder}/checkpoints/step-00000008", build_net(digits))
    assert "model.safetensors" not in names and "complete.json" in names
    # A copy that is not the same is none.
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    again = checkpoint.fitting(f"{session.folder}/checkpoints/step-00000008", build_net(digits))
    assert "model.safetensors" in names
    assert same(weights, again)
    list(fit(small(digits), session))
    assert not copied.parent.exists(), "nobody resumes a run that is over"


def test_another_host_keeps_the_same_copy(
    digits: Recipe, local: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, run = build_net(digits), "memory://copies/peer"
    found = saving.snapshot(
        checkpoint.State(3, ((9, 9),)), model=net, task=torch.nn.Identity(), optimizers={}
    )
    url = saving.write(run, found)
    assert not checkpoint.nearby(run, 3).exists()
    copier = Copier(run, keep=1, ready=lambda: None)
    copier.put(lambda: found, {}, ())
    copier.wait()
    copier.close()
    names = read_of(monkeypatch)
    checkpoint.load_model(url, net)
    assert names == ["complete.json"]
    saving.forget_copies(run)


def build_net(digits: Recipe) -> torch.nn.Module:
    return build.model(digits, Shape(10, channels=1, size=8))


def test_a_full_disk_is_a_line(
    digits: Recipe, local: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(saving, "save_file", full)
    with pytest.raises(Refusal, match="No space left on device") as caught:
        list(fit(small(digits, "keep.every_steps=3"), local()))
    assert "make room" in caught.value.remedy


def test_what_checkpoints_cost_is_counted_over_restarts(digits: Recipe, local: Places) -> None:
    session, asked = local(), small(digits, "keep.every_steps=5", "keep.metric=null")
    begun = fit(asked, session)
    for _ in range(13):
        next(begun)
    begun.close()
    before = checkpoint.read_state(checkpoint.latest(session.folder) or "").checkpoints
    assert before["written"] == 1, "as of the one at step 10, which does not count itself"
    list(fit(asked, session))
    told = summary(session)["checkpoints"]
    assert told["written"] == 1 + len({15, 20, 25, 30, 35, 38})
    assert told["load_seconds"] > 0


def test_a_copy_that_cannot_be_kept_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(saving, "save_file", full)
    state, net = checkpoint.State(3, ((9, 9),)), torch.nn.Linear(2, 1)
    found = saving.snapshot(state, model=net, task=torch.nn.Identity(), optimizers={})
    copier = Copier("memory://copies/full", keep=1, ready=lambda: None)
    copier.put(lambda: found, {}, ())
    copier.wait()
    copier.close()
    assert "no copy of step 3 is kept here" in caplog.text
