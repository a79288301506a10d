"""A trial of a search as a run: it rests and goes on, begins where its parent stood, and lets others' folders alone."""

from __future__ import annotations

from pathlib import Path

from cluster.lock import Lock
from cluster.run import Run
from cluster.trial import Trial, failed
from trainers import checkpoint, summary
from trainers.recipe import Recipe

EPOCH = 19  # steps


def steps(folder: str) -> list[int]:
    table = Run(folder).metrics()
    return [int(step) for step in table[table["split"] == "train"]["step"]]


def test_it_rests_and_goes_on(digits: Recipe, tmp_path: Path) -> None:
    folder = str(tmp_path / "0000")
    first = Trial(digits, folder)
    judged = first.advance()
    assert judged and (judged.number, judged.step) == (1, EPOCH) and first.steps == 2 * EPOCH
    first.rest()
    first.close("stopped")
    assert summary.read(folder)["status"] == "stopped"
    assert checkpoint.step_of(checkpoint.latest(folder)) == EPOCH
    again = Trial(digits, folder)
    judged = again.advance()
    assert judged and (judged.number, judged.step) == (2, 2 * EPOCH)
    assert again.advance() is None and again.status == "finished"
    again.close("finished")
    assert steps(folder) == [*range(1, 2 * EPOCH + 1)]
    assert "opened" not in summary.read(folder), "a trial never opens the test split"
    assert not Path(folder, "figures").exists() and Path(folder, "tables").exists()


def test_a_child_begins_where_its_parent_stood(digits: Recipe, tmp_path: Path) -> None:
    parent, folder = str(tmp_path / "0000"), str(tmp_path / "0001")
    trial = Trial(digits, parent)
    trial.advance()
    trial.rest()
    trial.close("stopped")
    child = Trial(digits.override("phases.0.optim.main.lr=0.001"), folder, parent)
    judged = child.advance()
    child.close("stopped")
    assert judged and (judged.number, judged.step) == (2, 2 * EPOCH)
    assert summary.read(folder)["parent"] == parent
    assert summary.read(folder)["restarts"] == [EPOCH]
    own, its = Run(folder).metrics(), Run(parent).metrics()
    both = own.merge(its, on=["step", "split"], suffixes=("", "_parent"))
    both = both[both["split"] == "train"]
    assert len(both) == EPOCH and (both["loss"] == both["loss_parent"]).all()


def test_what_another_has_is_not_called_failed(tmp_path: Path) -> None:
    folder = str(tmp_path / "0000")
    with Lock(folder):
        summary.amend(folder, status="running")
        assert failed(folder, ValueError("two\nlines"), ours=False) == "ValueError: two lines"
        assert summary.read(folder)["status"] == "running"
    failed(folder, ValueError("mine"), ours=True)
    assert summary.read(folder)["status"] == "failed"
