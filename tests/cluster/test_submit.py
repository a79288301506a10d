"""Jobs on a cluster of this machine: shipped, followed, ended, with the job's own exit code; and what is refused before."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import ServerDisconnectedError

from cluster import entrypoint, submit
from cluster.environment import commit_of_checkout
from cluster.run import Run
from cluster.shipping import Cargo, cargo
from datasets.refusal import Refusal
from tests.cluster.conftest import DIGITS, ROOT, SMALL
from tests.commands import cli

TRAIN = ["train", "recipes/digits.yaml", *SMALL, "phases.0.epochs=1"]


@pytest.fixture(scope="module")
def shipped() -> Cargo:
    return cargo(ROOT)


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture(scope="module")
def prometheus() -> int:
    """The port where the node's metrics are read."""
    return _free_port()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, prometheus: int) -> Iterator[str]:
    """The dashboard of a cluster of one node, whose jobs keep their data in a cache of their own."""
    from ray.cluster_utils import Cluster

    with (
        # Its path must be short: sockets lie in it.
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("MANTA_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_metrics_report_interval_ms", "500")
        # The agent that starts jobs would otherwise want the port of any other Ray's on this machine.
        ports = {f"dashboard{name}_port": _free_port() for name in ("", "_agent_listen")}
        args = {"num_cpus": 3, "include_dashboard": True, "temp_dir": folder, **ports}
        args["metrics_export_port"] = prometheus
        cluster = Cluster(initialize_head=True, head_node_args=args)
        # As `ray start` does. Jobs look here for their cluster, and else take any other Ray of this machine for it.
        Path(folder, "ray_current_cluster").write_text(cluster.address)
        try:
            yield f"http://{cluster.webui_url}"
        finally:
            cluster.shutdown()


def test_a_run_is_shipped_followed_and_found_again(address: str, tmp_path: Path) -> None:
    words = [*TRAIN, "--out", tmp_path / "runs"]
    said = cli("submit", "--address", address, "--", *words)
    assert said.code == 0, said.out + said.err
    assert "files," in said.err and "submit --attach manta-train-" in said.err
    assert "Ray workers (1), cpu" in said.out, "the head trains nothing itself"
    (folder,) = (tmp_path / "runs").iterdir()
    assert Run.open(str(folder)).summary["status"] == "finished"
    found = json.loads((folder / "env.json").read_bytes())
    assert (found["commit"], found["dirty"]) == commit_of_checkout()
    # Again: the run is known by its recipe, and the archive by its bytes.
    again = cli("submit", "--address", address, "--json", "--", *words)
    assert json.loads(again.out)["status"] == "SUCCEEDED"
    assert "is finished" in again.err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.name]


def test_the_doctor_examines_a_cluster_by_a_job_of_it(address: str, tmp_path: Path) -> None:
    words = ["recipes/digits.yaml", "scale.device=cpu", "scale.workers=9", "--address", address]
    said = cli("doctor", *words, "--out", tmp_path / "runs", "--json")
    assert said.code == 2, "nine workers are too many"
    checks = json.loads(said.out)["checks"]
    found = {check["name"]: check for check in checks}
    assert "9 workers are more than the 3 CPU workers" in found["workers"]["found"]
    assert found["cluster"]["found"] == "1 node, 3 CPUs, 0 GPUs"
    assert found["nodes"]["ok"], found["nodes"]
    assert len(found["clocks"]["nodes"]) == 1 and found["clocks"]["most"] < 1000
    # Whether this machine's disks have room is not the cluster's affair.
    wrong = {check["name"] for check in checks if not check["ok"]}
    assert wrong <= {"workers", "cache", "run folders", "ray's disk"}
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_search_is_a_job_too(address: str, tmp_path: Path) -> None:
    # With a dashboard, beside which trials that are ended early must free their room just as well.
    halving = "search.scheduler={name: asha, grace: 1, factor: 2}"
    recipe = ["recipes/digits_search.yaml", *SMALL, "phases.0.epochs=2", halving]
    words = ["search", *recipe, "search.trials=6", "search.retrain=1", "--out", tmp_path / "runs"]
    said = cli("submit", "--address", address, "--", *words)
    assert said.code == 0, said.out + said.err
    assert "trial 0005 of 6" in said.out and "submit --attach manta-search-" in said.err
    (folder,) = (tmp_path / "runs").iterdir()
    table = json.loads(cli("results", folder, "--json").out)
    assert {trial["state"] for trial in table["trials"]} == {"complete", "pruned"}
    assert table["scores"]["test/accuracy"]["n"] == 1
    assert (folder / "report.html").exists()


def test_a_study_is_a_job_too(address: str, tmp_path: Path) -> None:
    small = ["seeds=1", "set.phases.0.epochs=2", "set.model.width=8", "set.scale.device=cpu"]
    words = ["study", "studies/digits_momentum.yaml", *small, "--out", tmp_path / "runs"]
    said = cli("submit", "--address", address, "--", *words)
    assert said.code == 0, said.out + said.err
    assert "momentum .9, seed 0:" in said.out and "(2 of 2)" in said.out
    folder = tmp_path / "runs" / "digits_momentum-small"
    told = json.loads(cli("study", folder, "status", "--json").out)
    assert told["status"] == "finished" and (folder / "report.html").exists()
    mistake = ["study", "studies/digits_momentum.yaml", "sed=1", "--out", tmp_path / "runs"]
    refused = cli("submit", "--address", address, "--", *mistake)
    assert refused.code == 2 and "a study has no 'sed'" in refused.err


def test_a_job_that_fails_ends_with_its_own_code(address: str, tmp_path: Path) -> None:
    lost = ["train", "recipes/digits.yaml", f"data.url={tmp_path}/nothing", "--out", tmp_path]
    said = cli("submit", "--address", address, "--", *lost)
    assert said.code == 2, said.out + said.err
    assert "not a packed data set" in said.out and "failed" in said.err


def exported(port: int, run: str) -> set[str]:
    """The names of a run's metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    lines = [line for line in text.splitlines() if f'run="{run}"' in line]
    return {line.partition("{")[0].removeprefix("ray_manta_") for line in lines}


def test_a_job_is_left_followed_again_and_stopped(
    address: str, prometheus: int, tmp_path: Path
) -> None:
    long = [*TRAIN[:-1], "phases.0.epochs=4000", "--out", tmp_path / "runs"]
    job = cli("submit", "--address", address, "--detach", "--", *long).out.strip()
    followed = ""
    for text in submit.Jobs(address).follow(job):
        followed += text
        if "epoch 2/" in followed:
            break
    assert "epoch 2/" in followed, followed
    (folder,) = (tmp_path / "runs").iterdir()
    wanted, until = {"step", "images_per_second", "wait_share", "loss"}, time.monotonic() + 60
    while not wanted <= exported(prometheus, folder.name):
        assert time.monotonic() < until, "its metrics are not exported"
        time.sleep(0.5)
    stopped = cli("submit", "--address", address, "--stop", job)
    attached = cli("submit", "--address", address, "--attach", job)
    assert stopped.code == 0 and stopped.out == f"{job} stopped\n", attached.out + attached.err
    run = Run.open(str(folder))
    assert run.summary["status"] == "stopped", "it was asked to end, not killed"
    assert run.summary["steps"] >= 19
    assert (folder / "report.html").exists(), "it had time to write it"
    assert attached.code == 130 and "epoch 2/" in attached.out


def test_an_unknown_job_is_a_refusal(address: str) -> None:
    for option in ("--attach", "--stop"):
        said = cli("submit", "--address", address, option, "manta-train-none")
        assert said.code == 2 and "there is no such job" in said.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "there is nothing to run"),
        (["fly"], "'fly' is no verb of a job"),
        (["search", "/shared/runs/found-12345678", "--pause"], "needs no job"),
        (["search", "recipes/digits_search.yaml"], "would lie in the job's own directory"),
        (["train"], "no recipe is named"),
        (["train", "recipes/digits.yaml"], "would lie in the job's own directory"),
        (["train", "recipes/digits.yaml", "--out", "runs"], "would lie in the job's own directory"),
        (["train", "recipes/digits.yaml", "model.widht=3", "--out", "s3://b/r"], "'width'"),
        (["train", "recipes/digit.yaml", "--out", "s3://b/r"], "no such recipe"),
        (["train", "{tmp}/own.yaml", "--out", "s3://b/r"], "the recipe would not be shipped"),
        (["doctor", "recipes/digits.yaml", "model.widht=3"], "'width'"),
        (["doctor", "--out", "runs"], "would lie in the job's own directory"),
        (["retrieve", "query", "s3://b/index", "q.jpg"], "needs no job"),
        (["retrieve", "index", "small_cnn", "digits"], "would lie in the job's own directory"),
        (["evaluate", "runs/digits-71f2417a"], "would be looked for in the job's own directory"),
        (["study"], "no study is named"),
        (["study", "studies/digits_lr.yaml"], "would lie in the job's own directory"),
        (["study", "studies/digits_lr.yaml", "table", "--out", "s3://b/r"], "needs no job"),
        (["study", "{tmp}/own.yaml", "--out", "s3://b/r"], "the study would not be shipped"),
    ],
)
def test_what_would_only_fail_there_is_refused_here(
    words: list[str], told: str, shipped: Cargo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("MANTA_OUT", raising=False)
    (tmp_path / "own.yaml").write_text(Path(DIGITS).read_text())
    with pytest.raises(Refusal) as caught:
        entrypoint.planned([word.format(tmp=tmp_path) for word in words], shipped)
    assert told in str(caught.value)


def test_words_are_said_as_they_hold_there(
    shipped: Cargo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANTA_OUT", "s3://bucket/runs")
    monkeypatch.chdir(tmp_path)
    planned = entrypoint.planned(["train", DIGITS, "seed=3", "--fresh"], shipped)
    assert planned == [
        "train",
        "recipes/digits.yaml",
        "seed=3",
        "--fresh",
        "--out",
        "s3://bucket/runs",
    ]
    out = ["--out", "s3://bucket/runs"]
    assert entrypoint.planned(["doctor"], shipped) == ["doctor", *out]
    assert entrypoint.planned(["doctor", DIGITS, "seed=3", "--json"], shipped) == [
        *("doctor", "recipes/digits.yaml", "seed=3", "--json"),
        *out,
    ]
    retrieve = ["retrieve", "index", "small_cnn", "digits", "--metric", "l2"]
    assert entrypoint.planned(retrieve, shipped) == [*retrieve, *out]
    run = "s3://bucket/runs/digits-71f2417a"
    judged = ["evaluate", run, "--protocol", "zeroshot", "--workers", "auto"]
    assert entrypoint.planned(judged, shipped) == judged
    assert entrypoint.planned(["train", run], shipped)[:2] == ["train", run]


def test_secrets_do_not_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    found = entrypoint.variables(["AWS_DEFAULT_REGION", "A=b=c"])
    assert found == {"AWS_DEFAULT_REGION": "eu-north-1", "A": "b=c"}
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "HF_TOKEN", "db_password", "GH_PAT"):
        with pytest.raises(Refusal, match=f"{name} .* could read it"):
            entrypoint.variables([f"{name}=x"])
    for value in ("AKIAIOSFODNN7EXAMPLE", "hf_abcdefgh", "ghp_0123456789", "sk-abc"):
        with pytest.raises(Refusal, match="could read it") as caught:
            entrypoint.variables([f"PLAIN={value}"])
        assert value not in str(caught.value) + str(caught.value.value)
    assert entrypoint.variables(["PATHS=/a/sk-b", "COMPAT=1"])
    for said in ("1x=3", "=3", "NOT_SET_HERE"):
        with pytest.raises(Refusal, match="names no variable"):
            entrypoint.variables([said])


class Flaky:
    """A client whose connection is lost twice: in the middle of the log, and when the status is asked for.

    A log that ends with None comes to no end.
    """

    def __init__(self) -> None:
        self.tails = [("one\n", "tw", ServerDisconnectedError()), ("one\ntwo\n", "three\n", "")]
        self.states: list[str | Exception] = ["RUNNING", ConnectionError("refused"), "SUCCEEDED"]
        self.jobs = [SimpleNamespace(submission_id="job")]

    def list_jobs(self) -> list[SimpleNamespace]:
        return self.jobs

    def get_job_status(self, job: str) -> str:
        state = self.states.pop(0) if self.states else "SUCCEEDED"
        if isinstance(state, Exception):
            raise state
        return state

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        *lines, error = self.tails.pop(0) if self.tails else ("one\ntwo\nthree\n", "")
        for line in lines:
            yield line  # type: ignore[misc]
        if error is None:
            await asyncio.Event().wait()
        if error:
            raise error  # type: ignore[misc]


def test_a_lost_connection_is_taken_up_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, client = watched(monkeypatch)
    assert "".join(jobs.follow("job")) == "one\ntwo\nthree\n"
    monkeypatch.setattr(submit, "RECONNECTS", 3)
    client.tails = [("", ServerDisconnectedError())] * 9
    with pytest.raises(Refusal, match="job goes on, but its logs do not come"):
        list(jobs.follow("job"))


def test_a_head_that_fell_silent_is_asked_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, client = watched(monkeypatch)
    monkeypatch.setattr(submit, "SILENT_SECONDS", 0.01)
    client.tails = [("one\n", None), ("one\ntwo\n", ServerDisconnectedError())]
    client.states = ["RUNNING", "RUNNING", ConnectionError("no route"), "SUCCEEDED"]
    assert "".join(jobs.follow("job")) == "one\ntwo\nthree\n"


def test_a_cluster_that_was_started_anew_knows_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, client = watched(monkeypatch)
    client.jobs = []
    with pytest.raises(Refusal, match="started anew") as caught:
        list(jobs.follow("job"))
    assert "the same command goes on" in str(caught.value)


def watched(monkeypatch: pytest.MonkeyPatch) -> tuple[submit.Jobs, Flaky]:
    """The jobs of a head that is not there, but for its client."""
    monkeypatch.setattr(submit, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(submit, "_reach", lambda address: None)
    jobs, client = submit.Jobs.__new__(submit.Jobs), Flaky()
    jobs.address, jobs._client = "http://head:8265", client  # type: ignore[assignment]
    return jobs, client


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("ftp://head", "not the address of a Ray dashboard"),
        ("http://127.0.0.1:{port}", "nobody listens there"),
    ],
)
def test_a_place_without_a_cluster_is_a_refusal(address: str, told: str) -> None:
    with pytest.raises(Refusal, match=told):
        submit.Jobs(address.format(port=_free_port()))
