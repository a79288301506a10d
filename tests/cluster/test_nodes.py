"""A run on a cluster whose nodes come, are given notice, and go: it takes what there is, and no step is lost or done twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.run import Run
from cluster.session import STOP
from search.ledger import prove
from tests.cluster.conftest import DIGITS, SMALL
from tests.driven import Driven

# The driver as people start it, but that it waits less long before it takes new nodes in.
DRIVER = "import launch; from cluster import workers; workers.GROW_SECONDS = 3.0; launch.app()"
ENDLESS = ["phases.0.epochs=null", "phases.0.steps=10000000", "keep.metric=null", "evals={}"]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without work, to which nodes of one core are added."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        try:
            yield found
        finally:
            found.shutdown()


class Training(Driven):
    """`launch.py train` on the cluster, and what it has written."""

    def __init__(self, address: str, out: Path, *words: str, program: str = DRIVER) -> None:
        self.out = out / "runs"
        words = ("train", DIGITS, *SMALL, *words, "--out", str(self.out))
        super().__init__(*words, log=out / "said", program=program, RAY_ADDRESS=address)

    @property
    def folder(self) -> Path:
        (folder,) = self.out.iterdir()
        return folder

    def summary(self) -> dict[str, Any]:
        return Run.open(str(self.folder)).summary

    def steps(self) -> list[int]:
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["step"] for line in lines]

    def works(self, workers: int, *, restarts: int) -> None:
        """Until a group of so many, started again so often, has done steps of its own."""

        def works() -> bool:
            summary = self.summary()
            begun = summary.get("restarts", [])
            done = self.steps()[-1] - [0, *begun][-1]
            return len(begun) == restarts and done > 20 and summary["place"]["workers"] == workers

        self.until(f"steps of {workers} workers, {restarts} restarts", works)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_elastic_run_follows_its_nodes(cluster: Any, tmp_path: Path) -> None:
    first = cluster.add_node(num_cpus=1)
    elastic = ["scale.workers=1..2", "data.ledger=true", "keep.every_seconds=1"]
    run = Training(cluster.address, tmp_path, *elastic, *ENDLESS)
    try:
        run.works(1, restarts=0)
        cluster.add_node(num_cpus=1)
        run.works(2, restarts=1)
        assert "there is room for more workers" in run.said
        drain(cluster.address, first.node_id)
        run.works(1, restarts=2)
        assert "a node is about to be taken away: saved at step" in run.said
        summary = run.summary()
        assert summary["preemptions"] == summary["restarts"][-1:], "a step was lost"
        cluster.remove_node(first)
        last = cluster.add_node(num_cpus=1)
        run.works(2, restarts=3)
        cluster.remove_node(last, allow_graceful=False)
        run.works(1, restarts=4)
        assert "a worker died" in run.said
        (run.folder / STOP).touch()
        assert run.ended() == 130
    finally:
        run.kill()
    assert "Traceback" not in run.said
    steps = run.steps()
    assert steps == [*range(1, len(steps) + 1)], "a step is missing or was written twice"
    proof = prove(Run.open(str(run.folder)))
    assert proof.holds, proof.violations
    assert proof.worlds == [1, 2]


@pytest.mark.timeout(200)
def test_a_node_that_goes_while_its_workers_start_is_done_without(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "2")
    # The first look found room for two, one of which went before Ray placed anybody.
    gone = (
        "from cluster import capacity; awaited, share = capacity.awaited, capacity.share; "
        "rooms, shares = iter([2]), iter([{'CPU': 1}]); "
        "capacity.awaited = lambda *a, **k: next(rooms, None) or awaited(*a, **k); "
        "capacity.share = lambda *a: next(shares, None) or share(*a); "
    )
    run = Training(cluster.address, tmp_path, "scale.workers=1..2", *ENDLESS, program=gone + DRIVER)
    try:
        run.until("steps of the one that is left", lambda: run.steps()[-1] > 20)
        assert "room for the workers went while they started" in run.said
        assert "a worker died" not in run.said
        told = [event["event"] for event in run.summary()["events"]]
        assert told == ["crowded", "started"]
        (run.folder / STOP).touch()
        assert run.ended() == 130
    finally:
        run.kill()


def drain(address: str, node: str) -> None:
    """The notice that a cloud gives before it takes a node away."""
    ray = Path(sys.executable).with_name("ray")
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "test"]
    command = [ray, "drain-node", "--address", address, "--node-id", node, *reason]
    subprocess.run(
        [*command, "--deadline-remaining-seconds", "60"], check=True, capture_output=True
    )
