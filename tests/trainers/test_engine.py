"""The engine on digits: its golden losses, its reports, and resuming at any step to the bit.

After a change of mathematics `python -m tests.trainers.test_engine` writes the golden losses anew; say why in the
commit. A refactor leaves them as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cluster.session import Local
from datasets.refusal import Refusal
from datasets.shards import Dataset
from trainers import checkpoint, rooms
from trainers.engine import Report, Training, fit
from trainers.recipe import Recipe

GOLDEN = Path(__file__).with_name("golden.json")
GOLDEN_STEPS = 20
TIMES = {"seconds", "wait_seconds", "images_per_second"}
Places = Callable[..., Local]
Row = dict[str, Any]


def losses(recipe: Recipe, session: Local, steps: int) -> list[float]:
    """The losses of the first steps."""
    reports = fit(recipe, session)
    for _ in range(steps):
        next(reports)
    reports.send("stop")
    return [row["loss"] for row in rows(session) if row["split"] == "train"]


def rows(session: Local) -> list[Row]:
    """metrics.jsonl without what depends on the clock."""
    lines = Path(session.folder, "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def summary(session: Local) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(session.folder, "summary.json").read_bytes())
    return found


def weights(session: Local) -> dict[str, Tensor]:
    url = checkpoint.latest(session.folder)
    return {**load_file(f"{url}/model.safetensors"), **load_file(f"{url}/optim.safetensors")}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def steps_saved(session: Local) -> list[int]:
    folder = Path(session.folder, "checkpoints")
    return sorted(int(path.name[5:]) for path in folder.glob("step-*"))


@pytest.fixture(scope="module")
def quick(digits: Recipe) -> Recipe:
    """Four steps an epoch; dropout, momentum and two phases, the first not a whole number of epochs."""
    head = {
        "task": "classify",
        "steps": 6,
        "train": ["head.*"],
        "optim": {"main": {"name": "sgd", "lr": 0.05, "momentum": 0.9}},
    }
    whole = {
        "task": {"name": "classify", "label_smoothing": 0.1},
        "epochs": 2,
        "optim": {"main": {"name": "adam", "lr": 0.01}},
        "schedule": {"name": "plateau", "patience": 0, "factor": 0.5, "threshold": 0.5},
    }
    return digits.override(
        {"data.batch": 256, "model.dropout": 0.3, "model.width": 4, "phases": [head, whole]}
    )


@pytest.fixture(scope="module")
def uninterrupted(quick: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Local:
    session = Local(torch.device("cpu"), str(tmp_path_factory.mktemp("uninterrupted")))
    torch.set_num_threads(1)
    list(fit(quick, session))
    return session


# --- numbers


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


# --- resuming


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
    assert not Path(session.folder, "summary.json").exists()


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


# --- choosing


def test_the_best_checkpoint_gives_the_final_scores(quick: Recipe, local: Places) -> None:
    """The second phase ruins the net; what was best is in the first."""
    session = local()
    ruin = {"phases.1.optim.main.lr": 1e5, "phases.0.train": ["*"], "phases.0.steps": 12}
    *_, last = fit(quick.override(ruin), session)
    found = summary(session)
    assert found["best"]["step"] <= 12 and found["best"]["metric"] == "val/accuracy"
    assert last.scores["val/accuracy"] == found["best"]["score"]
    val = {r["step"]: r["val/accuracy"] for r in rows(session) if r["split"] == "val"}
    assert found["best"]["score"] == max(val.values()) > val[20]
    assert found["best"]["step"] in steps_saved(session)
    best = json.loads(Path(session.folder, "checkpoints", "best.json").read_bytes())
    assert best == found["best"]
    assert found["steps"] == 20


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


def test_who_lost_the_folder_writes_no_checkpoint(
    digits: Recipe, local: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = local()
    recipe = digits.override("keep.every_steps=4")
    reports = fit(recipe, session)
    while next(reports).step < 5:
        pass
    monkeypatch.setattr(session, "holds", lambda: False)
    with pytest.raises(Refusal, match="taken this run over"):
        list(reports)
    assert steps_saved(session) == [4]


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


if __name__ == "__main__":
    write_golden()
