"""Runs that are killed, stopped, finished, begun anew or continued under another recipe."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.run import Run, run
from cluster.session import Local
from tests.commands import cli
from trainers import checkpoint
from trainers.engine import fit
from trainers.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPE = str(ROOT / "recipes" / "digits.yaml")
DEADLINE_SECONDS = 120
STEPS = 190
# Ten epochs of 19 steps: a second or two, so that a signal finds the run at work.
WORDS = [
    *("phases.0.epochs=10", "scale.device=cpu", "scale.threads=1", "log.tensorboard=false"),
    "keep.every_steps=4",
]
CALM = [*WORDS[:-1], "model.width=8"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that nothing interrupts."""
    torch.set_num_threads(1)
    return run(Recipe.load(RECIPE, WORDS), out=str(tmp_path_factory.mktemp("whole")))


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`launched()`: the training command as people type it; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def launch() -> subprocess.Popen[str]:
        command = [
            sys.executable,
            str(ROOT / "launch.py"),
            "train",
            RECIPE,
            *WORDS,
            "--out",
            str(tmp_path),
        ]
        with (tmp_path.parent / f"{tmp_path.name}-said").open("a") as said:
            process = subprocess.Popen(command, stdout=said, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield launch
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))]
)
def test_a_run_interrupted_thrice_ends_as_one_never_interrupted(
    seed: int, whole: Run, tmp_path: Path, launched: Callable[..., subprocess.Popen[str]]
) -> None:
    # The third of three equal stretches is left for what comes after the last signal.
    draw = random.Random(seed)
    marks = sorted(draw.sample(range(8, 2 * STEPS // 3), 3))
    print(
        f"seed {seed}: SIGKILL after step {marks[0]}, SIGTERM after {marks[1]}, SIGINT after {marks[2]}"
    )

    process = launched()
    folder = reached(process, tmp_path, marks[0])
    process.send_signal(signal.SIGKILL)
    assert process.wait(DEADLINE_SECONDS) == -signal.SIGKILL
    assert Run.open(str(folder)).summary["status"] == "running"
    assert_rows_up_to(folder, at_least=newest(folder))

    process = launched()
    reached(process, tmp_path, marks[1])
    process.send_signal(signal.SIGTERM)
    _, by_term = process.communicate(timeout=DEADLINE_SECONDS)
    assert_stopped(folder, process.returncode, by_term)

    # In this process: what a second signal would do is its affair, not pytest's.
    former = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        at = max(marks[2], newest(folder) + 4)
        threading.Thread(target=interrupts, args=(folder, at), daemon=True).start()
        by_int = cli("train", RECIPE, *WORDS, "--out", tmp_path)
    finally:
        signal.signal(signal.SIGINT, former)
    assert_stopped(folder, by_int.code, by_int.err)

    said = cli("train", RECIPE, *WORDS, "--out", tmp_path, "--quiet")
    assert said.code == 0, said.err
    ours, theirs = Path(whole.best.url).name, Path(Run.open(str(folder)).best.url).name
    assert ours == theirs
    for name in {ours, f"step-{STEPS:08d}"}:
        for file in ("model", "task", "optim"):
            part = f"checkpoints/{name}/{file}.safetensors"
            assert (folder / part).read_bytes() == (Path(whole.url) / part).read_bytes(), part
    assert deeds(folder) == deeds(Path(whole.url))
    assert Run.open(str(folder)).scores == whole.scores
    assert Run.open(str(folder)).summary["opened"] == {"test": 1}
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_metrics_reach_as_far_as_every_checkpoint(tmp_path: Path) -> None:
    """A process that is killed right after a checkpoint would otherwise leave a gap for ever."""
    recipe = Recipe.load(RECIPE, [*WORDS, "model.width=8", "phases.0.epochs=2"])
    training = fit(recipe, Local(torch.device("cpu"), str(tmp_path)))
    for report in training:
        if report.step == 30:
            report = training.send("save")
        if report.checkpoint:
            assert_rows_up_to(tmp_path, at_least=report.step, at_most=report.step)
        if report.step == 35:
            report = training.send("stop")
            assert_rows_up_to(tmp_path, at_least=35, at_most=35)
    assert newest(tmp_path) == 35


def test_a_finished_run_says_so_and_does_nothing(whole: Run) -> None:
    before = stamps(Path(whole.url))
    began = time.perf_counter()
    said = cli("train", RECIPE, *WORDS, "--out", Path(whole.url).parent)
    assert time.perf_counter() - began < whole.summary["seconds"] + 10
    assert said.code == 0
    assert "is finished" in said.err
    assert "--fresh" in said.err
    assert said.out.strip().splitlines()[-1] == f"{whole.url}/report.html"
    after = stamps(Path(whole.url))
    assert {k: v for k, v in after.items() if k != "report.html"} == {
        k: v for k, v in before.items() if k != "report.html"
    }


def test_fresh_renames_the_old_folder_and_starts_anew(tmp_path: Path) -> None:
    words = [
        "train",
        RECIPE,
        *CALM,
        "phases.0.epochs=1",
        "--out",
        tmp_path,
        "--quiet",
    ]
    assert cli(*words).code == 0
    (folder,) = tmp_path.iterdir()
    before = stamps(folder)
    (folder / "mark").write_text("of the old one")
    assert cli(*words, "--fresh").code == 0
    old = [path for path in tmp_path.iterdir() if path != folder]
    assert len(old) == 1
    assert re.fullmatch(re.escape(folder.name) + r"\.\d{8}-\d{6}", old[0].name)
    assert {name: when for name, when in stamps(old[0]).items() if name != "mark"} == before
    assert (old[0] / "mark").exists()
    assert not (folder / "mark").exists()
    assert Run.open(str(folder)).finished
    assert Run.open(str(folder)).scores == Run.open(str(old[0])).scores


def test_a_longer_recipe_goes_on_from_a_run_as_its_child(tmp_path: Path) -> None:
    small = [*CALM, "phases.0.schedule=constant"]
    run(Recipe.load(RECIPE, [*small, "phases.0.epochs=2"]), out=str(tmp_path))
    (parent,) = tmp_path.iterdir()
    kept = stamps(parent)
    said = cli("train", parent, "phases.0.epochs=4", "--quiet")
    assert said.code == 0, said.err
    (child,) = set(tmp_path.iterdir()) - {parent}
    assert stamps(parent) == kept, "the parent was touched"
    run_ = Run.open(str(child))
    assert run_.summary["parent"] == str(parent)
    assert run_.summary["steps"] == 4 * 19
    assert run_.recipe.phases[0].epochs == 4
    assert_rows_up_to(child, at_least=76, at_most=76)
    inherited = [row for row in rows(child) if row["split"] == "train"][:38]
    assert inherited == [row for row in rows(parent) if row["split"] == "train"], (
        "steps were done again"
    )
    # Under a constant schedule a run of four epochs is one of two, continued.
    at_once = run(Recipe.load(RECIPE, [*small, "phases.0.epochs=4"]), out=str(tmp_path / "at_once"))
    assert deeds(child) == deeds(Path(at_once.url))


def test_a_child_whose_best_is_its_parents_still_has_it(tmp_path: Path) -> None:
    # The worst for the best: learning only makes it worse, so the first evaluation stays the chosen one.
    small = [*CALM, "phases.0.schedule=constant", "keep.mode=min"]
    run(Recipe.load(RECIPE, [*small, "phases.0.epochs=2"]), out=str(tmp_path))
    (parent,) = tmp_path.iterdir()
    assert Run.open(str(parent)).summary["best"]["step"] == 19
    assert newest(parent) == 38
    said = cli("train", parent, "phases.0.epochs=3", "--quiet")
    assert said.code == 0, said.err
    (child,) = set(tmp_path.iterdir()) - {parent}
    assert Run.open(str(child)).summary["best"]["step"] == 19
    weights = "checkpoints/step-00000019/model.safetensors"
    assert (child / weights).read_bytes() == (parent / weights).read_bytes()
    assert Run.open(str(child)).best.url.endswith("step-00000019")


def test_going_on_with_a_run_needs_no_recipe_and_makes_no_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.load(RECIPE, [*WORDS, "model.width=8", "phases.0.epochs=2"])
    done = run(recipe, out=str(tmp_path))
    folder = Path(done.url)
    reference = deeds(folder)
    # As a signal after step 21 would have left it.
    for step in (folder / "checkpoints").glob("step-*"):
        if int(step.name.removeprefix("step-")) > 20:
            for file in step.iterdir():
                file.unlink()
            step.rmdir()
    begun = fit(recipe, Local(torch.device("cpu"), str(folder)))
    for report in begun:
        if report.step == 21:
            begun.send("stop")
    assert Run.open(str(folder)).summary["status"] == "stopped"
    monkeypatch.chdir(tmp_path)
    said = cli("train", folder.name, "keep.last=2", "--quiet")
    assert said.code == 0, said.err
    assert [path.name for path in tmp_path.iterdir()] == [folder.name], "another folder was made"
    assert "parent" not in Run.open(str(folder)).summary
    assert deeds(folder) == reference


def reached(process: subprocess.Popen[str], out: Path, step: int) -> Path:
    """The run folder, once a checkpoint at or after `step` is complete."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        for folder in out.iterdir():
            if (folder / "checkpoints").exists() and newest(folder) >= step:
                return folder
        assert process.poll() is None, f"ended before step {step}: {process.communicate()[1]}"
        assert time.monotonic() < deadline, f"did not reach step {step} in time"
        time.sleep(0.005)


def interrupts(folder: Path, step: int) -> None:
    """What Ctrl-C does, once a checkpoint at or after `step` is complete."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while newest(folder) < step and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGINT)


def assert_stopped(folder: Path, code: int, said: str) -> None:
    """It ended in order, with a checkpoint of its very last step."""
    assert code == 130, said
    assert "Traceback" not in said
    stopped = Run.open(str(folder)).summary
    assert stopped["status"] == "stopped"
    assert f"stopped at step {stopped['steps']}" in said
    assert newest(folder) == stopped["steps"] < STEPS
    assert_rows_up_to(folder, at_least=stopped["steps"], at_most=stopped["steps"])
    assert not (folder / "lock.json").exists()


def newest(folder: Path) -> int:
    url = checkpoint.latest(str(folder))
    return int(url.rsplit("-", 1)[1]) if url else 0


def rows(folder: Path) -> list[dict[str, Any]]:
    """Whole lines of metrics.jsonl."""
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def assert_rows_up_to(folder: Path, *, at_least: int, at_most: int = STEPS) -> None:
    """Steps 1, 2, 3, ... of training, each once."""
    steps = [row["step"] for row in rows(folder) if row["split"] == "train"]
    assert steps == [*range(1, len(steps) + 1)]
    assert at_least <= len(steps) <= at_most
    keys = [(row["step"], row["split"]) for row in rows(folder)]
    assert len(keys) == len(set(keys))


def deeds(folder: Path) -> list[dict[str, Any]]:
    """What was done, whatever the clock said."""
    clocks = {"seconds", "wait_seconds", "images_per_second", "step_seconds"}
    return [{k: v for k, v in row.items() if k not in clocks} for row in rows(folder)]


def stamps(folder: Path) -> dict[str, int]:
    """When each file was last written."""
    return {
        str(path.relative_to(folder)): os.stat(path).st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_run_goes_on_in_its_folder_whatever_that_is_called(tmp_path: Path) -> None:
    first = cli("train", RECIPE, *CALM, "phases.0.epochs=1", "--out", tmp_path, "--quiet")
    assert first.code == 0, first.err
    (folder,) = tmp_path.iterdir()
    renamed = folder.rename(tmp_path / "mine")
    again = cli("train", renamed)
    assert (
        again.code == 0
        and f"{renamed} is finished (this process, 1 worker)" in again.out + again.err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    child = cli("train", renamed, "phases.0.epochs=2", "--quiet")
    assert child.code == 0 and len(list(tmp_path.iterdir())) == 2, child.err


def test_a_run_can_be_read_by_others(whole: Run) -> None:
    """safetensors makes its files for their owner alone."""
    modes = {path.stat().st_mode & 0o777 for path in Path(whole.url, "checkpoints").rglob("*.*")}
    assert len({mode for mode in modes if mode & 0o111 == 0}) == 1
