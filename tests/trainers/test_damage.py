"""A run whose newest checkpoint was damaged goes on from the one before, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets import store
from tests.trainers.runs import Places, rows, same, summary, weights
from trainers import checkpoint
from trainers.checkpoint import Damaged
from trainers.engine import fit
from trainers.recipe import Recipe
from trainers.session import Session


def begun(recipe: Recipe, session: Session) -> None:
    """Ten steps, with checkpoints at 4, 8 and 10."""
    running = fit(recipe, session)
    for _ in range(10):
        next(running)
    running.send("stop")
    assert checkpoint.steps(session.folder) == [4, 8, 10]


def to_the_end(recipe: Recipe, session: Session) -> None:
    for _ in fit(recipe, session):
        pass


@pytest.fixture
def recipe(digits: Recipe) -> Recipe:
    return digits.override(
        "keep.every_seconds=null", "keep.every_steps=4", "keep.last=9", "phases.0.epochs=1"
    )


def spoil(url: str, name: str, how: str) -> None:
    path = Path(url, name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if how == "absent":
        path.unlink()
    else:
        path.write_bytes({"flip": bytes(data), "empty": b""}[how])


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("model.safetensors", "flip"),
        ("optim.safetensors", "absent"),
        ("state.json", "empty"),
        ("complete.json", "empty"),
    ],
)
def test_it_goes_on_from_the_one_before(recipe: Recipe, local: Places, name: str, how: str) -> None:
    through, broken = local("through"), local("broken")
    to_the_end(recipe, through)
    begun(recipe, broken)
    newest = checkpoint.folder(broken.folder, 10)
    spoil(newest, name, how)
    to_the_end(recipe, broken)
    assert same(weights(broken), weights(through)) and rows(broken) == rows(through)
    found = summary(broken)
    assert found["restarts"] == [8]
    events = [(each["event"], each["step"]) for each in found["events"]]
    assert events[1:4] == [("stopped", 10), ("damaged", 10), ("resumed", 8)]
    assert any("step 10 was found damaged" in note for note in found["notes"])
    assert not Path(newest, "complete.json").exists() and Path(newest, "damaged.json").exists()


def test_two_may_be_damaged(recipe: Recipe, local: Places) -> None:
    session = local()
    begun(recipe, session)
    for step in (8, 10):
        spoil(checkpoint.folder(session.folder, step), "model.safetensors", "flip")
    to_the_end(recipe, session)
    assert summary(session)["restarts"] == [4]


def test_where_all_are_damaged_the_newest_is_named_and_nothing_is_lost(
    recipe: Recipe, local: Places
) -> None:
    session = local()
    begun(recipe, session)
    for step in (4, 8, 10):
        spoil(checkpoint.folder(session.folder, step), "model.safetensors", "flip")
    written = rows(session)
    with pytest.raises(Damaged) as caught:
        next(fit(recipe, session))
    assert caught.value.path.endswith("step-00000010/model.safetensors")
    assert "\n" not in str(caught.value) and rows(session) == written
    assert checkpoint.step_of(checkpoint.latest(session.folder)) == 10


def test_of_a_damaged_best_one_nothing_is_used(recipe: Recipe, local: Places) -> None:
    session, falls = local(), recipe.override("keep.mode=min", "phases.0.epochs=2")
    running = fit(falls, session)
    for _ in range(25):
        next(running)
    running.send("stop")
    best = checkpoint.best(session.folder)
    assert best and checkpoint.step_of(best) == 19
    spoil(best, "model.safetensors", "empty")
    to_the_end(falls, session)
    found = summary(session)
    assert found["status"] == "finished" and found["scores"]["test/accuracy"] > 0.2
    assert any("step 19 was found damaged: the final scores" in note for note in found["notes"])
    assert checkpoint.step_of(checkpoint.best(session.folder)) == 38


def test_what_is_far_away_is_fetched_once(
    recipe: Recipe, local: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verifying leaves a copy on this host, which is then read."""
    monkeypatch.setenv("MANTA_CACHE", str(tmp_path / "cache"))
    session = local()
    begun(recipe, session)
    run = "memory://runs/far"
    store.upload(Path(session.folder), run)
    url = checkpoint.folder(run, 10)
    checkpoint.verify(url)
    for name in ("model.safetensors", "state.json"):
        store.remove(store.join(url, name))
    assert checkpoint.read_state(url).step == 10
    store.write_bytes(store.join(url, "optim.safetensors"), b"changed")
    checkpoint.verify(url)  # this host's copy is as it was written
    monkeypatch.setenv("MANTA_CACHE", str(tmp_path / "another"))
    with pytest.raises(Damaged, match="checksum"):
        checkpoint.verify(url)
    store.write_bytes(store.join(url, "complete.json"), b'{"../../../stray": "0"}')
    with pytest.raises(ValueError, match="stray"):
        checkpoint.verify(url)
