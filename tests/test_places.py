"""The same recipe in this process and on Ray workers: to the bit with one worker, to rounding with two, dead ones replaced."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file

from cluster import workers
from cluster.run import Run, run
from cluster.session import Local
from cluster.train import run_folder
from datasets.refusal import Refusal
from search.ledger import prove
from tests.local_ray import local_ray
from trainers import checkpoint, feed
from trainers.accumulation import OutOfMemory
from trainers.engine import TrainStream, fit
from trainers.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
CLOCKS = {"seconds", "wait_seconds", "images_per_second", "step_seconds", "allreduce_share"}
SMALL = ["scale.device=cpu", "scale.threads=1", "log.tensorboard=false", "phases.0.epochs=null"]

# Batch norm and an augmentation; a ragged last batch shared unevenly; two optimizers and noise of its own.
CHANGES = {
    "digits": [
        "model.width=8",
        "phases.0.steps=12",
        "phases.0.optim.main.lr=0.02",
        "keep.every_steps=4",
    ],
    "curve": ["phases.0.steps=7", "data.batch=97", "keep.every_steps=3"],
    # Adam divides by the gradient's own size: with a small eps its first steps make much of rounding.
    "dcgan_digits": [
        "model.width=8",
        "phases.0.steps=4",
        "phases.0.optim.generator.eps=1e-3",
        "phases.0.optim.critic.eps=1e-3",
    ],
}
STOPPED_AT = 5

Rows = list[dict[str, Any]]


def recipe(name: str, *changes: str) -> Recipe:
    path = str(ROOT / "recipes" / f"{name}.yaml")
    return Recipe.load(path).override(*SMALL, *CHANGES[name], *changes)


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    """One Ray for all these tests, started as Manta starts it; it leaves no process behind."""
    from ray import cloudpickle

    # Workers do not import the tests: what these send them travels whole.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with local_ray(2):
        yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class Runs:
    """Run folders of the same recipes in this process and on two workers; of one begun here and ended there."""

    alone: dict[str, str]
    two: dict[str, str]
    moved: str


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    torch.set_num_threads(1)
    base = tmp_path_factory.mktemp("places")
    alone = {}
    for name in CHANGES:
        with recorded(epoch_of := TrainStream.epoch, str(base / "ids" / "alone" / name)):
            alone[name] = run(recipe(name), out=str(base / "alone")).url
        assert TrainStream.epoch is epoch_of

    moved = base / "moved"
    moved.mkdir()
    begun = fit(recipe("digits", "data.ledger=true"), Local(torch.device("cpu"), str(moved)))
    for report in begun:
        if report.step == STOPPED_AT:
            begun.send("stop")

    # A group costs seconds to start, so one works through all of them; the driver follows the first.
    jobs = []
    for name in ("curve", "dcgan_digits"):
        (base / "two" / name).mkdir(parents=True)
        plain = recipe(name, "scale.workers=2").plain()
        jobs.append({"recipe": plain, "folder": str(base / "two" / name)})
    on_two = recipe("digits", "data.ledger=true", "scale.workers=2")
    (moved / "recipe.yaml").write_text(on_two.yaml(), encoding="utf-8")
    jobs.append({"recipe": on_two.plain(), "folder": str(moved)})
    for job in jobs:  # as if their driver held them
        job["token"] = "held"
        Path(job["folder"], "lock.json").write_text('{"token": "held"}', encoding="utf-8")
    ids = str(base / "ids" / "two")

    def through_all(config: dict[str, Any]) -> None:
        import datasets

        for job in [config, *jobs]:
            name = "moved" if job["folder"].endswith("moved") else job["recipe"]["name"]
            with recorded(TrainStream.epoch, f"{ids}/{name}"):
                workers.worker(job)
        Path(ids, "datasets.txt").write_text(str(datasets.__file__), encoding="utf-8")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "worker", sent(through_all))
        first = run(recipe("digits", "scale.workers=2"), out=str(base / "two"))
    two = {"digits": first.url, **{job["recipe"]["name"]: job["folder"] for job in jobs[:2]}}
    return Runs(alone, two, str(moved))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", CHANGES)
def test_two_workers_agree_with_one_process_to_rounding(runs: Runs, name: str) -> None:
    assert_close(weights(runs.alone[name]), weights(runs.two[name]), 1e-5)
    assert_close(weights(runs.alone[name], "task"), weights(runs.two[name], "task"), 1e-5)
    assert_close(weights(runs.alone[name], "optim"), weights(runs.two[name], "optim"), 1e-4)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", CHANGES)
def test_two_workers_read_the_samples_of_one_process_in_every_step(runs: Runs, name: str) -> None:
    base = Path(runs.moved).parent / "ids"
    alone, two = (read_ids(base / place / name) for place in ("alone", "two"))
    assert len(alone) == recipe(name).phases[0].steps
    assert {rank for step in two.values() for rank in step} == {0, 1}
    # Rank 0 fills the first slots of a batch, rank 1 those after.
    joined = {at: ranks.get(0, []) + ranks.get(1, []) for at, ranks in two.items()}
    assert joined == {at: ranks[0] for at, ranks in alone.items()}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", CHANGES)
def test_metrics_have_each_row_once_and_agree(runs: Runs, name: str) -> None:
    alone, two = rows(runs.alone[name]), rows(runs.two[name])
    steps = recipe(name).phases[0].steps
    assert [r["step"] for r in two if r["split"] == "train"] == [*range(1, steps + 1)]
    assert keys(two) == keys(alone)
    assert len(set(keys(two))) == len(two)
    for ours, theirs in zip(alone, two, strict=True):
        assert ours.keys() - CLOCKS == theirs.keys() - CLOCKS
        for key in ours.keys() - CLOCKS - {"split"}:
            assert theirs[key] == pytest.approx(ours[key], rel=2e-3, abs=2e-4), (key, ours["step"])


@pytest.mark.timeout(240)
def test_evaluation_over_two_workers_has_each_row_once(runs: Runs) -> None:
    alone, two = predictions(runs.alone["digits"]), predictions(runs.two["digits"])
    assert two.column("id").to_pylist() == alone.column("id").to_pylist()
    assert two.column("label").to_pylist() == alone.column("label").to_pylist()
    ours, theirs = (np.array(t.column("probabilities").to_pylist()) for t in (alone, two))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.timeout(240)
def test_a_run_begun_in_process_goes_on_in_its_folder_with_two_workers(runs: Runs) -> None:
    digest = feed.dataset(recipe("digits").data).manifest.digest
    ones = run_folder(recipe("digits"), digest, "out")
    assert run_folder(recipe("digits", "scale.workers=2"), digest, "out") == ones
    found = read_ids(Path(runs.moved).parent / "ids" / "two" / "moved")
    assert sorted(step for *_, step in found) == [*range(STOPPED_AT, 12)], "steps were done again"
    assert keys(rows(runs.moved)) == keys(rows(runs.alone["digits"]))
    assert_close(weights(runs.alone["digits"]), weights(runs.moved), 1e-5)


def test_the_ledger_proves_the_move_from_one_process_to_two(runs: Runs) -> None:
    proof = prove(Run.open(runs.moved))
    assert proof.holds, proof.violations
    assert (proof.worlds, proof.first_step, proof.steps) == ([1, 2], 1, 12)
    assert proof.samples == 12 * 64


@pytest.mark.timeout(240)
def test_datasets_is_ours_in_a_worker(runs: Runs) -> None:
    said = Path(runs.moved).parent / "ids" / "two" / "datasets.txt"
    assert said.read_text(encoding="utf-8") == str(ROOT / "datasets" / "__init__.py")


@pytest.mark.timeout(240)
def test_the_run_says_where_it_ran(runs: Runs) -> None:
    place = Run.open(runs.two["digits"]).summary["place"]
    assert place["place"] == "Ray workers"
    assert (place["workers"], place["device"], place["batch"]) == (2, "cpu", 64)
    assert Run.open(runs.alone["digits"]).summary["place"]["place"] == "this process"


@pytest.mark.timeout(240)
def test_one_ray_worker_is_this_process_to_the_last_bit(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANTA_PLACE", "ray")
    there = run(recipe("digits"), out=str(tmp_path))
    here = Run.open(runs.alone["digits"])
    assert there.summary["place"]["place"] == "Ray workers"
    for part in ("model", "task", "optim"):
        assert (newest(there.url) / f"{part}.safetensors").read_bytes() == (
            newest(here.url) / f"{part}.safetensors"
        ).read_bytes(), part
    assert timeless(rows(there.url)) == timeless(rows(here.url))
    assert there.scores == here.scores
    assert predictions(there.url).equals(predictions(here.url))


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "how",
    [
        "killed",
        pytest.param("hanging", marks=pytest.mark.slow),
        pytest.param("too_large", marks=pytest.mark.slow),
    ],
)
def test_a_disturbed_worker_is_replaced_and_the_run_ends_as_one_undisturbed(
    how: str, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = str(tmp_path / how)

    def disturbed_once(config: dict[str, Any]) -> None:
        real = workers.fit

        def disturbed(recipe: Recipe, session: Any) -> Iterator[Any]:
            for report in real(recipe, session):
                yield report
                if session.rank == 1 and report.step == 7 and not os.path.exists(marker):
                    Path(marker).write_text(str(os.getpid()), encoding="utf-8")
                    if how == "killed":
                        os.kill(os.getpid(), signal.SIGKILL)
                    if how == "too_large":
                        raise OutOfMemory("too many rows", value=1_000)
                    threading.Event().wait()

        workers.fit = disturbed  # in the worker's own process
        workers.worker(config)

    monkeypatch.setattr(workers, "worker", sent(disturbed_once))
    # Without evaluations, whose library takes each of four workers seconds to import.
    blind = recipe("digits", "scale.workers=2", "keep.metric=null", "evals={}")
    patient = "20" if how == "hanging" else "null"
    asked = blind.override(f"scale.hang_seconds={patient}", "scale.micro_batch=auto")
    done = run(asked, out=str(tmp_path / "out"))
    assert os.path.exists(marker)
    restarts = done.summary["restarts"][
        : 1 if how == "hanging" else None
    ]  # a busy machine may be taken for a hang
    assert restarts == [4], "not the newest checkpoint before its death"
    assert done.finished
    assert done.summary.get("micro_batch") == (500 if how == "too_large" else None)
    if how == "hanging":
        stacks = {path.name[-10:]: path.read_text() for path in Path(done.url, "stacks").iterdir()}
        assert "in disturbed" in stacks["rank-1.txt"], "who hangs"
    whole = runs.two["digits"]
    trained = [key for key in keys(rows(whole)) if key[1] == "train"]
    assert keys(rows(done.url)) == trained, "a step is missing or was written twice"
    assert_close(weights(whole), weights(done.url), 1e-6)
    assert_close(weights(whole, "optim"), weights(done.url, "optim"), 1e-6)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["refusal", pytest.param("exception", marks=pytest.mark.slow)])
def test_an_error_in_a_worker_arrives_as_it_is_and_is_not_tried_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANTA_PLACE", "ray")
    attempts = str(tmp_path / "attempts")

    def fails(config: dict[str, Any]) -> None:
        with open(attempts, "a", encoding="utf-8") as file:
            file.write("x")
        if kind == "refusal":
            raise Refusal("a shard is cut", path="data.url", value=3, remedy="pack it again")
        raise ZeroDivisionError("of the user's own")

    monkeypatch.setattr(workers, "worker", sent(fails))
    with pytest.raises(Refusal if kind == "refusal" else ZeroDivisionError) as caught:
        run(recipe("digits"), out=str(tmp_path / "out"))
    assert Path(attempts).read_text(encoding="utf-8") == "x"
    if kind == "refusal":
        assert str(caught.value) == "data.url: a shard is cut -- pack it again"
        assert caught.value.value == 3  # type: ignore[attr-defined]
    else:
        assert "of the user's own" in str(caught.value)
    (folder,) = (tmp_path / "out").iterdir()
    assert json.loads((folder / "summary.json").read_text())["status"] == "failed"
    assert not (folder / "lock.json").exists()


GLOO = RuntimeError(
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:545] Connection reset by peer"
)
OURS = Refusal("a shard is cut", path="data.url")
USERS = ZeroDivisionError("of the user's own")


@pytest.mark.parametrize(
    ("failures", "cause"),
    [
        ([USERS], USERS),
        ([OURS], OURS),
        ([GLOO, USERS], USERS),
        ([GLOO, OURS], OURS),
        ([GLOO, "died"], None),
        (["died", GLOO], None),
        ([GLOO], None),
        ([ConnectionResetError("by peer")], None),
        ([torch.distributed.DistBackendError("NCCL error: remote process exited")], None),
        ([RuntimeError("mat1 and mat2 shapes cannot be multiplied")], RuntimeError),
    ],
)
def test_only_deaths_are_tried_again(failures: list[Any], cause: Any) -> None:
    from ray.exceptions import ActorDiedError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    dead = WorkerHealthCheckFailedError("A worker health check failed.", ActorDiedError())
    ranks = {rank: dead if found == "died" else found for rank, found in enumerate(failures)}
    error = type("WorkerGroupError", (Exception,), {"worker_failures": ranks})()
    found = workers._cause(error)
    assert found is cause or (isinstance(cause, type) and isinstance(found, cause))


class recorded:
    """Within it, training streams write down which samples they give at which step: one file a rank."""

    def __init__(self, original: Callable[..., Iterator[Any]], folder: str) -> None:
        self.original, self.folder = original, folder

    def __enter__(self) -> None:
        original, folder = self.original, self.folder
        os.makedirs(folder, exist_ok=True)

        def epoch(stream: Any, phase: int, number: int, start: int = 0) -> Iterator[Any]:
            for step, batch in enumerate(original(stream, phase, number, start), start):
                ids = [] if batch.weightless else batch["id"].tolist()
                with open(f"{folder}/{stream.rank}.jsonl", "a", encoding="utf-8") as file:
                    file.write(json.dumps([phase, number, step, ids]) + "\n")
                yield batch

        TrainStream.epoch = epoch  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        TrainStream.epoch = self.original  # type: ignore[method-assign]


def sent(function: Callable[..., None]) -> Callable[..., None]:
    """The function as it arrives in a worker, whose `workers.worker` is Manta's own."""
    function.__module__ = __name__
    return function


def read_ids(folder: Path) -> dict[tuple[int, int, int], dict[int, list[int]]]:
    """(phase, epoch, step) -> rank -> ids."""
    found: dict[tuple[int, int, int], dict[int, list[int]]] = {}
    for path in folder.glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            phase, epoch, step, ids = json.loads(line)
            ranks = found.setdefault((phase, epoch, step), {})
            assert int(path.stem) not in ranks, "a step was read twice"
            ranks[int(path.stem)] = ids
    return found


def newest(folder: str) -> Path:
    url = checkpoint.latest(folder)
    assert url
    return Path(url)


def weights(folder: str, part: str = "model") -> dict[str, torch.Tensor]:
    return load_file(newest(folder) / f"{part}.safetensors")


def assert_close(ours: dict[str, Any], theirs: dict[str, Any], tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(
            theirs[name], tensor, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def rows(folder: str) -> Rows:
    text = Path(folder, "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def keys(found: Rows) -> list[tuple[int, str]]:
    return [(row["step"], row["split"]) for row in found]


def timeless(found: Rows) -> Rows:
    return [{key: value for key, value in row.items() if key not in CLOCKS} for row in found]


def predictions(folder: str) -> Any:
    return pyarrow.parquet.read_table(Path(folder, "predictions.parquet"))
