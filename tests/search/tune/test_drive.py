"""Searches as people run them: to their end, through faults, with wishes from elsewhere; on Ray, which is started here."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from safetensors.torch import load_file

from cluster.run import Run, run
from search.trials import doubt, found
from search.tune import trainable
from search.tune.folder import Folder
from search.tune.storage import Journal
from tests.commands import Said, cli
from tests.driven import LAUNCH, Driven
from trainers import checkpoint
from trainers.recipe import Recipe

LR = "phases.0.optim.main.lr"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def ray_ends() -> Iterator[None]:
    yield
    import ray

    ray.shutdown()


@pytest.fixture
def recipe(digits: Recipe, tmp_path: Path) -> Callable[..., Path]:
    """`recipe(space, trials=4, ...)`: a file with a search over a net of 8 channels, two epochs a trial."""

    def write(space: dict[str, Any], **search: Any) -> Path:
        tree = digits.override({"scale.threads": 1}).plain()
        tree["search"] = {"trials": 4, "retrain": 0, "space": space, **search}
        path = tmp_path / "searched.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    return write


def folder_of(out: Path) -> Folder:
    (found,) = out.iterdir()
    return Folder.open(str(found))


def study_of(folder: Folder) -> optuna.Study:
    storage = Journal(folder.url).storage()
    return optuna.load_study(study_name=folder.name, storage=storage)


def states(folder: Folder) -> list[str]:
    return [trial.state.name for trial in study_of(folder).trials]


def weights(url: str) -> dict[str, torch.Tensor]:
    return load_file(f"{checkpoint.latest(url)}/model.safetensors")


def searched(path: Path, out: Path, *words: str) -> Said:
    return cli("search", path, *words, "--out", out)


def test_a_search_from_its_recipe_to_its_winner(
    recipe: Callable[..., Path], tmp_path: Path
) -> None:
    path = recipe(
        {LR: "choice(0.1, 1e-5)", "model.dropout": "uniform(0, 0.2)"},
        first=[{LR: 1e-5, "model.dropout": 0.1}, {LR: 0.1, "model.dropout": 0.0}],
        retrain=2,
        seeds=1,
    )
    said = searched(path, tmp_path / "runs")
    assert said.code == 0, said.err
    folder = folder_of(tmp_path / "runs")
    assert states(folder) == ["COMPLETE"] * 4
    trials = study_of(folder).trials
    assert trials[1].value and trials[0].value and trials[1].value > trials[0].value
    for number, trial in enumerate(trials):
        one = Run.open(folder.trial(number))
        changes = json.loads(trial.user_attrs["changes"])
        assert one.finished and one.recipe.phases[0].optim["main"].lr == changes[LR]
        assert trial.value == max(one.metrics()["val/accuracy"].dropna())
        assert "opened" not in one.summary, "a trial looked at the test split"
        assert [*trial.intermediate_values] == [1, 2]
    state = folder.state
    assert (
        state["status"] == "finished"
        and state["best"]["trial"] == study_of(folder).best_trial.number
    )
    assert state["scores"]["test/accuracy"]["n"] == 2
    for url in state["retrained"]:
        assert Run.open(url).summary["opened"] == {"test": 1}
    seeds = [Run.open(url).recipe.seed for url in state["retrained"]]
    assert seeds == [1, 2], "seeds that no trial had"
    best = Recipe.load(f"{folder.url}/best.yaml")
    assert best.search is None and best.phases[0].optim["main"].lr == 0.1
    assert "test/accuracy" in said.out and "trial 0003 of 4" in said.err
    check_what_is_said_of(folder, said.out)
    # The same command has nothing left to do; a larger budget goes on.
    assert " of 4" not in searched(path, tmp_path / "runs").err
    more = searched(path, tmp_path / "runs", "search.trials=5", "search.retrain=0")
    assert more.code == 0 and len(states(folder)) == 5, more.err


def check_what_is_said_of(folder: Folder, out: str) -> None:
    """The report and the table are of what the trials really left."""
    assert out.splitlines()[-1] == f"{folder.url}/report.html"
    read = found.read(folder.url)
    weighed = doubt.of(read)
    best = int(read.complete.index[0])
    assert weighed.compared == 3 and weighed.optimism
    assert weighed.optimism.rows == read.run(best).json("data.json")["rows"]["val"]
    assert weighed.optimism.score == pytest.approx(read.complete.at[best, "val/accuracy"])
    assert [each.finished for each in read.retrained] == [True, True]
    assert doubt.of_seeds(read) and read.table["evaluations"].tolist() == [2] * 4
    listed = json.loads(cli("results", folder.url, "--json").out)
    assert listed["best"]["trial"] == listed["trials"][0]["trial"] == best
    assert f"Trial {best:04d} is the best" in Path(folder.url, "report.html").read_text()


def test_a_search_of_one_point_is_the_run(
    recipe: Callable[..., Path], digits: Recipe, tmp_path: Path
) -> None:
    path = recipe({LR: "choice(0.05)"}, trials=1)
    assert searched(path, tmp_path / "runs").code == 0
    trial = folder_of(tmp_path / "runs").trial(0)
    alone = digits.override({LR: 0.05, "scale.threads": 1})
    whole = weights(run(alone, out=str(tmp_path / "alone")).url)
    assert all(torch.equal(whole[name], tensor) for name, tensor in weights(trial).items())


def test_what_goes_wrong_in_a_trial_is_its_own_affair(
    recipe: Callable[..., Path], tmp_path: Path
) -> None:
    """One refuses its batch, one comes to no number, one is killed again and again, one goes well."""
    path = recipe(
        {LR: "choice(0.1, 1e6)", "data.batch": "choice(64, 100000)", "model.width": "choice(8, 9)"},
        first=[
            {LR: 0.1, "data.batch": 100000, "model.width": 8},
            {LR: 1e6, "data.batch": 64, "model.width": 8},
            {LR: 0.1, "data.batch": 64, "model.width": 9},
            {LR: 0.1, "data.batch": 64, "model.width": 8},
        ],
    )
    out, done = tmp_path / "runs", threading.Event()
    killer = threading.Thread(target=kills, args=(out, "0002", done))
    killer.start()
    try:
        said = searched(path, out)
    finally:
        done.set()
        killer.join()
    assert said.code == 0, said.err
    folder = folder_of(out)
    assert states(folder) == ["FAIL", "FAIL", "FAIL", "COMPLETE"], said.err
    why = [trial.user_attrs.get("why", "") for trial in study_of(folder).trials]
    assert "100000" in why[0] or "batch" in why[0]
    assert "loss" in why[1] or "number" in why[1]
    assert "died 4 times" in why[2]
    assert folder.state["best"]["trial"] == 3
    assert "Traceback" not in said.err


def kills(out: Path, trial: str, done: threading.Event) -> None:
    """Kill the process of a trial whenever there is one."""
    while not done.wait(0.05):
        for lock in out.glob(f"*/trials/{trial}/lock.json"):
            try:
                os.kill(json.loads(lock.read_bytes())["pid"], signal.SIGKILL)
            except (OSError, ValueError, KeyError):
                continue


@pytest.mark.slow
def test_a_trial_that_hangs_is_ended_and_gone_on_with(
    recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import cloudpickle

    marker = str(tmp_path / "hung")

    class Hangs(trainable.Trainable):
        """Stands still after its first evaluation, once."""

        def step(self) -> dict[str, Any]:
            found = super().step()
            if "judged" in found and not os.path.exists(marker):
                Path(marker).write_text(self._runs[0][1])
                threading.Event().wait()
            return found

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(trainable, "Trainable", Hangs)
    try:
        path = recipe({LR: "loguniform(1e-3, 1)"}, trials=3)
        said = searched(path, tmp_path / "runs", "scale.hang_seconds=15")
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    folder = folder_of(tmp_path / "runs")
    assert states(folder) == ["COMPLETE"] * 3, said.err
    hung = Run.open(Path(marker).read_text())
    # A busy machine may be taken for a hang once more.
    stacks = [path.read_text() for path in Path(hung.url, "stacks").iterdir()]
    assert any("in step" in text for text in stacks), "who hangs"
    assert hung.summary["restarts"]
    steps = hung.metrics()
    assert steps[steps["split"] == "train"]["step"].tolist() == [*range(1, 39)]


def test_trials_that_are_behind_end_early_and_make_room(
    recipe: Callable[..., Path], tmp_path: Path
) -> None:
    good, bad = {LR: 0.1}, {LR: 1e-5}
    path = recipe(
        {LR: "loguniform(1e-5, 1)"},
        scheduler={"name": "median", "grace": 0, "startup": 1},
        first=[good, bad],
        trials=2,
        parallel=1,
    )
    said = searched(path, tmp_path / "runs")
    folder = folder_of(tmp_path / "runs")
    assert states(folder) == ["COMPLETE", "PRUNED"], said.err
    assert Run.open(folder.trial(1)).summary["status"] == "pruned"
    assert not Path(folder.trial(1), "lock.json").exists()
    assert "ended early" in said.err


def test_nobody_is_ended_who_has_done_all_already(
    recipe: Callable[..., Path], tmp_path: Path
) -> None:
    path = recipe(
        {LR: "loguniform(1e-5, 1)"},
        scheduler={"name": "asha", "grace": 2, "factor": 2},  # its only rung is the last evaluation
        first=[{LR: 0.1}, {LR: 1e-5}],
        trials=2,
        parallel=1,
    )
    said = searched(path, tmp_path / "runs")
    assert states(folder_of(tmp_path / "runs")) == ["COMPLETE", "COMPLETE"], said.err


def driven(path: Path, out: Path, *words: str, program: str = LAUNCH) -> Driven:
    log = out.with_suffix(f".{time.monotonic_ns()}.log")
    return Driven("search", path, *words, "--out", out, log=log, program=program)


# When a first trial has ended and a third is on record as running, but not yet as whose.
KILLED = """
import os, signal, optuna
ask = optuna.Study.ask
def killed(study):
    found = ask(study)
    if found.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
optuna.Study.ask = killed
"""


def test_a_killed_driver_loses_no_trial_and_repeats_none(
    recipe: Callable[..., Path], tmp_path: Path
) -> None:
    path, out = recipe({LR: "loguniform(1e-3, 1)"}, trials=5), tmp_path / "runs"
    first = driven(path, out, program=KILLED + LAUNCH)
    assert first.ended() == -signal.SIGKILL, first.said
    folder = folder_of(out)
    known = {trial.number: trial.values for trial in study_of(folder).trials if trial.values}
    again = driven(path, out)
    assert again.ended() == 0, again.said
    trials = study_of(folder).trials
    assert trials.pop(2).user_attrs["lost"], "nobody ever ran it"
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 5, again.said
    assert known == {each.number: each.values for each in trials if each.number in known} != {}
    for number in (each.number for each in trials):
        steps = Run.open(folder.trial(number)).metrics()
        assert steps[steps["split"] == "train"]["step"].tolist() == [*range(1, 39)]
    assert len([*folder.trials()]) == 5


def test_a_terminated_driver_saves_and_goes_on_in_a_moved_folder(
    recipe: Callable[..., Path], tmp_path: Path
) -> None:
    """Ray answers SIGTERM with a stack of its own, were it not kept from it; a folder is itself under any name."""
    path, out = recipe({LR: "loguniform(1e-3, 1)"}, trials=3), tmp_path / "runs"
    search = driven(path, out, "phases.0.epochs=20")
    search.until("epochs", lambda: has_rows(out, trial=0))
    search.process.terminate()
    assert search.ended() == 130, search.said
    assert search.said.endswith("stopped; the same command goes on from there\n")
    assert "SIGTERM" not in search.said
    moved = Path(folder_of(out).url).rename(out / "called-otherwise")
    told = cli("search", moved, "--pause")
    assert told.code == 2 and "nobody drives it" in told.err and not (moved / "pause").exists()
    again = cli("search", moved, "search.trials=3")
    assert again.code == 0, again.err
    assert [each.name for each in out.iterdir()] == ["called-otherwise"]
    study = study_of_moved(moved)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3, again.err
    assert Run.open(str(moved / "trials" / "0000")).summary["restarts"], (
        "gone on with, not begun anew"
    )


def has_rows(out: Path, trial: int) -> bool:
    """Whether this trial, and not merely another beside it, has come to an epoch's end."""
    return any(each.stat().st_size for each in out.glob(f"*/trials/{trial:04d}/metrics.jsonl"))


def study_of_moved(folder: Path) -> optuna.Study:
    storage = Journal(str(folder)).storage()
    (study,) = storage.get_all_studies()
    return optuna.load_study(study_name=study.study_name, storage=storage)


@pytest.mark.slow
def test_wishes_from_elsewhere(recipe: Callable[..., Path], tmp_path: Path) -> None:
    """Paused: trials save and end, the driver waits; resumed: they go on; stopped: no more are begun."""
    path, out = recipe({LR: "loguniform(1e-3, 1)"}, trials=50), tmp_path / "runs"
    search = driven(path, out, "phases.0.epochs=30")
    search.until("a trial", lambda: [*out.glob("*/trials/*/metrics.jsonl")])
    folder = folder_of(out)
    assert cli("search", folder.url, "--pause").code == 0
    search.until("the pause", lambda: folder.state.get("status") == "paused")
    running = [n for n, state in enumerate(states(folder)) if state == "RUNNING"]
    stood = {n: Run.open(folder.trial(n)).summary for n in running}
    assert stood and all(each["status"] == "stopped" for each in stood.values())
    assert cli("search", folder.url, "--resume").code == 0
    search.until("work", lambda: folder.state.get("status") == "running")
    assert cli("search", folder.url, "--stop").code == 0
    assert search.ended() == 0, search.said
    assert {*states(folder)} == {"COMPLETE"} and len(states(folder)) < 50
    for number in running:
        summary = Run.open(folder.trial(number)).summary
        assert summary["restarts"] == [stood[number]["steps"]], "gone on with where it stood"
    said = cli("search", folder.url, "--cancel")
    assert said.code == 2 and "the search is finished" in said.err
