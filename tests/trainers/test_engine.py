"""The engine on digits: its golden losses, its reports, what it writes.

After a change of mathematics `python -m tests.trainers.test_engine` writes the golden losses anew; say why in the
commit. A refactor leaves them as they are.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from cluster.session import Local
from datasets.refusal import Refusal
from tests.trainers.runs import Places, losses, rows, same, steps_saved, summary, weights
from trainers import checkpoint, rooms
from trainers.engine import Report, Training, fit
from trainers.recipe import Recipe

GOLDEN = Path(__file__).with_name("golden.json")
GOLDEN_STEPS = 20


def test_the_golden_losses(digits: Recipe, local: Places) -> None:
    expected = json.loads(GOLDEN.read_text())
    assert losses(digits, local(), GOLDEN_STEPS) == pytest.approx(expected["losses"], rel=1e-4)


def test_the_same_run_twice_is_the_same_to_the_bit(digits: Recipe, local: Places) -> None:
    one, two = local("one"), local("two")
    assert losses(digits, one, 8) == losses(digits, two, 8)
    assert same(weights(one), weights(two))
    assert losses(digits.override(seed=1), local("three"), 8) != losses(digits, local("four"), 8)


def test_it_learns(digits: Recipe, local: Places) -> None:
    session = local()
    *_, last = fit(digits.override("phases.0.epochs=3", "data.batch=32"), session)
    assert last.scores["test/accuracy"] > 0.7  # chance is .1
    assert summary(session)["scores"] == dict(last.scores)


def write_golden() -> None:
    """The first losses of the `digits` fixture on this machine -> golden.json."""
    import tempfile

    from tests.conftest import ROOT

    torch.set_num_threads(1)
    small = {
        "model.width": 8,
        "scale.device": "cpu",
        "log.tensorboard": False,
        "phases.0.epochs": 2,
    }
    recipe = Recipe.load(str(ROOT / "recipes" / "digits.yaml")).override(small)
    with tempfile.TemporaryDirectory() as folder:
        found = losses(recipe, Local(torch.device("cpu"), folder), GOLDEN_STEPS)
    GOLDEN.write_text(json.dumps({"torch": torch.__version__, "losses": found}, indent=1) + "\n")


# --- reports and commands


def test_it_yields_after_every_step_and_once_at_the_end(
    quick: Recipe, uninterrupted: Local, local: Places
) -> None:
    found = list(fit(quick, local()))
    assert [report.step for report in found] == [*range(1, 15), 14]
    assert {r.step for r in found[:-1] if r.scores} == {4, 6, 10, 14}, (
        "each epoch's end, and each phase's"
    )
    assert all(set(r.scores) == {"val/accuracy", *r.scores} for r in found if r.scores)
    assert {"test/accuracy", "val/accuracy"} <= set(found[-1].scores)
    assert found[0] == Report(1)


def test_save_gives_a_checkpoint_of_that_very_step(digits: Recipe, local: Places) -> None:
    session = local()
    reports = fit(digits, session)
    next(reports)
    next(reports)
    for _ in range(2):  # asked twice, saved once
        saved = reports.send("save")
        assert (saved.step, saved.checkpoint) == (2, checkpoint.latest(session.folder))
    assert steps_saved(session) == [2]
    assert next(reports).step == 3
    assert checkpoint.read_state(saved.checkpoint or "").step == 2
    assert reports.send("stop").step == 3
    reports.close()


@pytest.mark.parametrize("how", ["close", "throw", "collected"])
def test_closing_writes_no_checkpoint(how: str, digits: Recipe, local: Places) -> None:
    session = local()
    reports = fit(digits, session)
    next(reports)
    next(reports)
    if how == "throw":
        with pytest.raises(KeyboardInterrupt):
            reports.throw(KeyboardInterrupt())
    elif how == "close":
        reports.close()
    del reports
    assert steps_saved(session) == []
    assert summary(session).keys() == {"events"}, "it began, and nothing more is told"


def test_a_wish_of_the_place_stops_it_with_a_checkpoint(digits: Recipe, local: Places) -> None:
    session = local()
    found = []
    for report in fit(digits, session):
        found.append(report)
        if report.step == 3:
            session.signals.append(15)
    assert [r.step for r in found] == [1, 2, 3, 4]
    assert found[-1].checkpoint == checkpoint.latest(session.folder)
    assert summary(session)["status"] == "stopped" and "scores" in summary(session)


def test_no_mode_of_torchs_leaks_into_the_consumer(digits: Recipe, local: Places) -> None:
    for report in fit(digits.override("scale.precision=bf16", "phases.0.epochs=1"), local()):
        assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        assert not torch.is_inference_mode_enabled(), report


def test_who_lost_the_folder_writes_no_checkpoint(
    digits: Recipe, local: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = local()
    recipe = digits.override("keep.every_steps=4")
    reports = fit(recipe, session)
    while next(reports).step < 4:
        pass
    reports.send("save")  # complete, not only begun
    monkeypatch.setattr(session, "holds", lambda: False)
    with pytest.raises(Refusal, match="taken this run over"):
        list(reports)
    assert steps_saved(session) == [4]


# --- what is written


def test_each_step_and_split_has_one_row(uninterrupted: Local) -> None:
    found = rows(uninterrupted)
    keys = [(row["step"], row["split"]) for row in found]
    assert len(keys) == len(set(keys))
    assert [s for s, split in keys if split == "train"] == list(range(1, 15))
    assert [s for s, split in keys if split == "val"] == [4, 6, 10, 14]
    assert [s for s, split in keys if split == "test"] == [14]
    train = [row for row in found if row["split"] == "train"]
    assert [row["phase"] for row in train] == [0] * 6 + [1] * 8
    assert [row["epoch"] for row in train] == [0] * 4 + [1] * 2 + [0] * 4 + [1] * 4
    assert [row["samples"] for row in train] == [256 * step for step in range(1, 15)]
    assert all(math.isfinite(row["loss"]) and 0 <= row["accuracy"] <= 1 for row in train)


def test_plateau_lowers_the_lr_of_its_own_phase(uninterrupted: Local) -> None:
    rates = [row["lr"] for row in rows(uninterrupted) if row["split"] == "train"]
    assert rates[:6] == [0.05] * 6
    assert rates[6:10] == [0.01] * 4, "scores of the phase before do not count"
    # The first evaluation of a phase is its best so far, so nothing can have dropped within two.
    assert rates[10:] == [0.01] * 4


def test_log_every_thins_the_rows(digits: Recipe, local: Places) -> None:
    session = local()
    list(fit(digits.override("log.every=5", "phases.0.epochs=1"), session))
    found = rows(session)
    assert [r["step"] for r in found if r["split"] == "train"] == [5, 10, 15]
    assert [r["step"] for r in found if r["split"] == "val"] == [19]


def test_checkpoints_every_so_many_steps(digits: Recipe, local: Places) -> None:
    session = local()
    changes = {"keep.every_steps": 6, "keep.last": 9, "keep.metric": None, "phases.0.epochs": 1}
    list(fit(digits.override(changes), session))
    assert steps_saved(session) == [6, 12, 18, 19]
    list(fit(digits.override({**changes, "keep.last": 2, "seed": 1}), other := local("other")))
    assert steps_saved(other) == [18, 19]


def test_a_kept_tail_is_the_rest_of_the_epoch(digits: Recipe, local: Places) -> None:
    session = local()
    recipe = digits.override("data.batch=500", "data.tail=keep")
    training = Training(recipe, session)
    total = training.dataset.manifest.split("train").rows
    training.close()
    list(fit(recipe, session))
    train = [row for row in rows(session) if row["split"] == "train"]
    assert [row["samples"] for row in train] == [
        500,
        1000,
        total,
        total + 500,
        total + 1000,
        2 * total,
    ]
    assert summary(session)["samples"] == 2 * total and total % 500


def test_a_phase_reads_its_own_batches(quick: Recipe, local: Places) -> None:
    session = local()
    recipe = quick.override({"phases.1.data": {"batch": 100, "tail": "keep"}, "phases.1.epochs": 1})
    list(fit(recipe, session))
    train = [row for row in rows(session) if row["split"] == "train"]
    steps = [row["samples"] for row in train]
    assert steps[5] == 6 * 256 and steps[6] == 6 * 256 + 100
    assert train[-1]["step"] == 6 + math.ceil((steps[-1] - steps[5]) / 100)


def test_the_gan_and_the_curve_run_through(local: Places) -> None:
    for name, metric in (("curve", "rmse"), ("dcgan_digits", "sliced_wasserstein")):
        recipe = Recipe.load(str(rooms.ROOT / "recipes" / f"{name}.yaml"))
        changes = {
            "log.tensorboard": False,
            "scale.device": "cpu",
            "phases.0.epochs": None,
            "phases.0.steps": 3,
        }
        session = local(name)
        *_, last = fit(recipe.override(changes), session)
        assert last.step == 3 and math.isfinite(last.scores[f"test/{metric}"])


def test_an_evaluator_of_other_data_gives_nothing(digits: Recipe, local: Places) -> None:
    """Classification has a prediction, but no `y` to regress on."""
    *_, last = fit(digits.override({"evals.regression": {}, "phases.0.epochs": 1}), local())
    assert "val/accuracy" in last.scores and "val/rmse" not in last.scores


if __name__ == "__main__":
    write_golden()
