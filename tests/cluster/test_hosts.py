"""Faults that hit whole hosts, while a submitted job trains from and into S3 on two of them: nothing is lost, nothing done twice."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import load
from torch import Tensor

from cluster.run import Run
from datasets import cached, store
from search.ledger import prove
from tests.cluster import hosts as made
from tests.cluster.conftest import ROOT, SMALL
from tests.cluster.hosts import Host, Hosts
from trainers import checkpoint, summary

EPOCHS, EVERY = 12, 5
STEPS = EPOCHS * 19
WORDS = [
    *("recipes/digits.yaml", *SMALL, f"phases.0.epochs={EPOCHS}", "scale.workers=2"),
    *("data.source=null", "data.url=s3://manta/digits", "data.ledger=true"),
    f"keep.every_steps={EVERY}",
]
BUSY_SECONDS = 300  # for anything that takes a quarter of a minute where nobody else computes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(made.missing()), reason=made.missing()),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """A head, and an S3 with packed digits that all hosts reach."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for every request
    ray = str(Path(sys.executable).with_name("ray"))
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts(tmp_path_factory.mktemp("hosts"), ray))
        env = stack.enter_context(pytest.MonkeyPatch.context())
        server = ThreadedMotoServer(ip_address=hosts.gateway, port=0, verbose=False)
        server.start()
        stack.callback(server.stop)
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        storage = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "AKIDMANTATEST",
            "AWS_SECRET_ACCESS_KEY": "s3cr3t-of-the-tests",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        hosts.environment.update(storage)
        for name, value in {**storage, **hosts.credentials}.items():
            env.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False).mkdir("manta")
        packed = cached.ensure("digits", {}, fractions={"val": 0.15, "test": 0.15}, seed=0)
        store.upload(packed, "s3://manta/digits")
        hosts.start()
        yield hosts


class Job:
    """`launch.py submit`, as a person types it on a machine beside the cluster, and what it says."""

    def __init__(self, dashboard: str, out: str, said: Path) -> None:
        self.out, self._said = out, said
        words = ["submit", "--address", dashboard, "--", "train", *WORDS, "--out", out]
        with said.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "launch.py", *words],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def folder(self) -> str:
        names = store.names(self.out)
        return store.join(self.out, names[0]) if names else ""

    @property
    def said(self) -> str:
        return self._said.read_text(encoding="utf-8")

    @property
    def step(self) -> int:
        """Of the newest checkpoint."""
        newest = checkpoint.latest(self.folder) if self.folder else None
        return int(newest.rpartition("-")[2]) if newest else 0

    @property
    def restarts(self) -> list[int]:
        """The steps at which it was resumed."""
        return list(summary.read(self.folder).get("restarts", [])) if self.folder else []

    def reaches(self, step: int) -> None:
        waited_for(lambda: self.step >= step or self._over(), lambda: self.said)
        assert not self._over(), f"submit ended before step {step}:\n{self.said}"

    def goes_on(self, what: str, fault: Callable[[], object]) -> None:
        """After a fault it is resumed from a checkpoint, and does new steps."""
        began, so_far = time.monotonic(), len(self.restarts)
        fault()
        self.resumes(so_far + 1)
        print(f"{what}: resumed at {self.restarts[-1]}, new checkpoint after {since(began)}")

    def resumes(self, times: int) -> None:
        """It was resumed so often, and has done new steps since."""
        waited_for(lambda: self._over() or self._resumed(times), lambda: self.said)
        assert self._resumed(times), (
            f"submit ended, resumed {len(self.restarts)} times:\n{self.said}"
        )

    def _resumed(self, times: int) -> bool:
        return len(self.restarts) >= times and self.step > self.restarts[-1]

    def _over(self) -> bool:
        return self._process.poll() is not None

    def leave(self) -> None:
        self._process.kill()
        self._process.wait()

    def ended(self) -> int:
        """Its exit code."""
        return self._process.wait(BUSY_SECONDS)


Launched = Callable[[str], Job]


@pytest.fixture(scope="module")
def launched(cluster: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """`launched("name")`: a job with its run under that name, gone on with where there is one."""
    jobs: list[Job] = []

    def launch(name: str) -> Job:
        said = tmp_path_factory.mktemp(name) / "said"
        jobs.append(Job(cluster.dashboard, f"s3://manta/{name}", said))
        return jobs[-1]

    yield launch
    for job in jobs:
        job.leave()


@pytest.fixture(scope="module")
def undisturbed(cluster: Hosts, launched: Launched) -> dict[str, Tensor]:
    """The weights that a run without faults ends with."""
    cluster.with_workers(2)
    job = launched("undisturbed")
    assert job.ended() == 0, job.said
    assert_proved(job, restarts=0)
    return weights(job)


@pytest.fixture(autouse=True)
def two_hosts(cluster: Hosts, undisturbed: dict[str, Tensor]) -> None:
    """Two hosts with a CPU each, fresh ones where a test has ended theirs; none of its jobs goes on."""
    cluster.head.kill("launch.py train")
    cluster.with_workers(2)


def weights(job: Job) -> dict[str, Tensor]:
    last = checkpoint.latest(job.folder)
    assert last and last.endswith(f"step-{STEPS:08d}")
    return load(store.read_bytes(store.join(last, "model.safetensors")))


def assert_proved(job: Job, *, restarts: int) -> None:
    """Every step of the job's run was done once, by its ledger and by its metrics; people saw lines, not stacks."""
    run = Run.open(job.folder)
    assert run.finished and run.summary["steps"] == STEPS
    assert len(job.restarts) == restarts and all(0 < step < STEPS for step in job.restarts)
    proof = prove(run)
    assert proof.holds, proof.violations
    assert proof.steps == STEPS and proof.worlds == [2]
    lines = store.read_bytes(store.join(job.folder, "metrics.jsonl")).decode().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows if row["split"] == "train"] == [*range(1, STEPS + 1)]
    assert [row["step"] for row in rows if row["split"] == "val"] == [*range(19, STEPS + 1, 19)]
    assert "Traceback" not in job.said and "(raylet)" not in job.said
    assert store.names(store.join(job.folder, "ray")) == [], "Ray's own state is left"


def assert_as(undisturbed: dict[str, Tensor], job: Job) -> None:
    found = weights(job)
    assert found.keys() == undisturbed.keys()
    for name, tensor in found.items():
        assert (tensor - undisturbed[name]).abs().max() < 1e-6, name


def carrying(rank: int, cluster: Hosts) -> Host:
    """The host of a rank: rank 0 has the metrics open."""
    (first,) = [host for host in cluster.workers if host.writes("metrics.jsonl")]
    (second,) = [host for host in cluster.workers if host is not first]
    return (first, second)[rank]


def without_power(host: Host, cluster: Hosts) -> None:
    host.power_cut()
    cluster.add()


def without_cable(host: Host, cluster: Hosts) -> None:
    host.unplug()  # what runs on it goes on, and must do no harm
    cluster.add()


def without_cable_for_a_while(host: Host, cluster: Hosts) -> None:
    """The host is away until Ray has given it up, and joins again when it is back."""
    host.unplug()
    waited_for(lambda: host.address not in cluster.alive(), lambda: "Ray misses no host")
    host.plug()
    waited_for(lambda: not host.on, lambda: "its Ray goes on, though given up")
    cluster.add(host.number)


def waited_for(happened: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    while not happened():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.2)


def since(began: float) -> str:
    return f"{time.monotonic() - began:.0f} s"


def test_a_run_that_loses_hosts_goes_on_by_itself(
    cluster: Hosts, launched: Launched, undisturbed: dict[str, Tensor]
) -> None:
    job = launched("hosts")
    job.reaches(2 * EVERY)
    for what, rank, fault in (
        ("power cut of rank 0", 0, without_power),
        ("power cut of rank 1", 1, without_power),
        ("cable pulled for good", 0, without_cable),
        ("cable pulled and put back", 0, without_cable_for_a_while),
    ):
        lost = carrying(rank, cluster)
        job.goes_on(what, partial(fault, lost, cluster))
        lost.power_cut()
    assert job.ended() == 0, job.said
    assert_proved(job, restarts=4)
    assert_as(undisturbed, job)
    assert job.said.count("a worker died") == 4


def test_the_same_command_goes_on_without_its_driver_and_on_a_new_cluster(
    cluster: Hosts, launched: Launched, undisturbed: dict[str, Tensor]
) -> None:
    job = launched("again")
    job.reaches(2 * EVERY)
    job.goes_on("Ray's controller killed", partial(cluster.head.kill, "ray::TrainController"))
    assert job.said.count("a worker died") == 1
    assert cluster.head.kill("launch.py train") > 0
    assert job.ended() == 137, job.said
    began = time.monotonic()
    job = launched("again")
    job.resumes(2)
    print(f"driver killed, same command again: new checkpoint after {since(began)}")
    began = time.monotonic()
    for host in [*cluster.workers, cluster.head]:
        host.power_cut()
    cluster.start()
    cluster.with_workers(2)
    assert job.ended() == 2, job.said
    assert job.said.splitlines()[-1].startswith("error: ") and "started anew" in job.said
    job = launched("again")
    job.resumes(3)
    print(f"cluster lost, same command again: new checkpoint after {since(began)}")
    assert job.ended() == 0, job.said
    assert_proved(job, restarts=3)
    assert_as(undisturbed, job)
