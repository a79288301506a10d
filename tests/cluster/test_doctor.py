"""The doctor on a cluster of this machine, and on nodes of it that lack what others have."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.doctor import admit, compare, examine, gpu, machine, network, storage
from cluster.doctor.check import Check, Finding, checked, gathered, lines
from cluster.doctor.visit import Clock
from datasets import pack, store
from datasets.refusal import Refusal
from tests.cluster.conftest import DIGITS, SMALL
from tests.commands import cli

NEW_NAMESPACE = 0x00020000  # CLONE_NEWNS


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@dataclasses.dataclass
class Ours:
    """A cluster whose nodes share the folder `shared`, but for those that are added `elsewhere`."""

    cluster: Any
    shared: Path
    over: threading.Event = dataclasses.field(default_factory=threading.Event)

    def add(self, **variables: str) -> Any:
        """A node whose environment has the variables; whoever needs it waits for it."""
        # The agent would otherwise want the port of any other Ray's on this machine.
        port = {"dashboard_agent_listen_port": _free_port()}
        return self.cluster.add_node(num_cpus=1, wait=False, env_vars=variables, **port)

    def elsewhere(self, *commands: str, **variables: str) -> Any:
        """A node that sees the mounts of the commands, which nobody else does."""
        nodes: list[Any] = []
        ready = threading.Event()

        def there() -> None:
            # Of this thread alone, and of what it starts.
            if ctypes.CDLL(None, use_errno=True).unshare(NEW_NAMESPACE) == 0:
                mounts = " && ".join(["mount --make-rprivate /", *commands])
                if subprocess.run(mounts, shell=True, capture_output=True).returncode == 0:
                    nodes.append(self.add(**variables))
            ready.set()
            self.over.wait()  # a node ends with the thread that started it

        with pytest.MonkeyPatch.context() as patch:
            # A thread may set no handlers of signals.
            patch.setattr("ray._private.utils.set_sigterm_handler", lambda handler: None)
            thread = threading.Thread(target=there, daemon=True)
            thread.start()
            ready.wait()
        if not nodes:
            pytest.skip("mounts are for root")
        return nodes[0]

    @contextmanager
    def holding(self, node: Any) -> Iterator[str]:
        """Waits for a node, which goes at the end; how its name ends."""
        try:
            self.cluster.wait_for_nodes(timeout=120)
            yield node.node_id[:4]
        finally:
            self.cluster.remove_node(node)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ours]:
    """A head and another node."""
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()  # what another test may have left would be taken for ours
    shared = tmp_path_factory.mktemp("shared")
    pack.pack("digits", {}, str(shared / "digits"), splits={"val": 0.15, "test": 0.15}, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("MANTA_CACHE", str(tmp_path_factory.mktemp("cache")))
        args = {"num_cpus": 1, "include_dashboard": False}
        args["dashboard_agent_listen_port"] = _free_port()
        cluster = Cluster(initialize_head=True, head_node_args=args)
        found = Ours(cluster, shared)
        try:
            found.add()
            patch.setenv("RAY_ADDRESS", cluster.address)
            yield found
        finally:
            ray.shutdown()
            cluster.shutdown()
            found.over.set()


def examined(*words: object) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit code of `doctor --json`, and what it says by the names of the checks."""
    said = cli("doctor", *words, "--json")
    found: dict[str, list[dict[str, Any]]] = {}
    for check in json.loads(said.out)["checks"]:
        found.setdefault(check["name"], []).append(check)
    return said.code, found


def bad(found: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {name: check for name, checks in found.items() for check in checks if not check["ok"]}


def ends(check: dict[str, Any]) -> list[str]:
    """How the names of a check's nodes end."""
    return [name[-4:] for name in check["nodes"]]


def test_a_node_unlike_the_others_is_named_and_without_it_the_cluster_is_sound(
    ours: Ours, tmp_path: Path
) -> None:
    other, full = tmp_path / "other" / "torch-1.0.0.dist-info", tmp_path / "full"
    other.mkdir(parents=True)
    full.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0.0\n")
    node = ours.elsewhere(
        f"mount -t tmpfs tmpfs {ours.shared}",
        f"mount -t tmpfs -o size=1m tmpfs {full}",
        f"head -c 1040000 /dev/zero > {full}/file",
        PYTHONPATH=str(other.parent),
        MANTA_CACHE=str(full),
    )
    out = ours.shared / "runs"
    data, place = f"data.url={ours.shared}/digits", ["--out", out]
    with ours.holding(node) as name:
        code, found = examined(DIGITS, data, "scale.device=cpu", "scale.workers=9", *place)
        wrong = bad(found)
        assert code == 2
        assert "versions" in wrong, [check["found"] for check in found["nodes"]]
        assert "torch 1.0.0 (driver 2." in wrong["versions"]["found"]
        assert "not the same folder" in wrong["run folders"]["found"]
        assert "manifest.json: there is nothing here" in wrong["data here"]["found"]
        assert str(full) in wrong["cache"]["found"]
        for check in ("versions", "run folders", "data here", "cache"):
            assert ends(wrong[check]) == [name]
        assert "9 workers are more than the 3 CPU workers" in wrong["workers"]["found"]
        said = cli("train", DIGITS, *SMALL, data, "scale.workers=2", *place)
        assert said.code == 2
        (line,) = said.err.splitlines()
        assert f"{name}: torch 1.0.0 (driver 2." in line and "(and 1 more)" in line
        assert not out.exists(), "refused before anything is written"
    code, found = examined(DIGITS, data, "scale.device=cpu", "scale.workers=2", *place)
    # Whether this machine's disks have room is not the cluster's affair.
    assert {*bad(found)} <= {"cache", "run folders", "ray's disk"}
    assert found["cluster"][0]["found"] == "2 nodes, 2 CPUs, 0 GPUs"
    for each in ("nodes", "clocks", "data here", "reading", "shared memory", "network", "gpu"):
        assert len(found[each][0]["nodes"]) == 2, each
    assert found["reading"][0]["least"] > 0
    assert found["workers"][0]["found"] == "2 on cpu, Ray"
    assert "at 32 rows a worker" in found["memory"][0]["found"], "64 rows are shared by two"
    admit.admit(str(out))
    assert not out.exists(), "the doctor leaves nothing behind"


@pytest.mark.slow
def test_a_node_that_does_not_answer_is_named_in_time(
    ours: Ours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine, "ANSWER_SECONDS", 12.0)
    node = ours.add()
    with ours.holding(node) as name:
        raylet = node.all_processes["raylet"][0].process
        raylet.send_signal(signal.SIGSTOP)
        try:
            code, found = examined()
        finally:
            raylet.send_signal(signal.SIGCONT)
    silent = [check for check in found["nodes"] if not check["ok"]]
    assert code == 2
    assert name in [end for check in silent for end in ends(check)]
    assert {check["found"] for check in silent} == {"no answer in 12 s"}


@pytest.mark.slow
def test_storage_that_one_node_cannot_reach_is_told_of_that_node(ours: Ours, bucket: str) -> None:
    # Their environment is what nodes have of credentials, and the others were started without any.
    theirs = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
    with ours.holding(ours.add(**theirs)) as name:
        _, found = examined("--out", f"{bucket}/runs")
    assert [ends(check) for check in found["run folders"] if check["ok"]] == [[name]]
    assert sum(len(check["nodes"]) for check in found["run folders"]) == 3
    assert "s3cr3t" not in json.dumps(found)


def test_a_bucket_is_written_seen_and_its_speed_is_measured(bucket: str) -> None:
    pack.pack("digits", {}, f"{bucket}/digits", splits={"val": 0.15, "test": 0.15}, seed=0)
    packed = storage.Packed.of(f"{bucket}/digits")
    assert storage.data_set(packed) == f"{bucket}/digits: read"
    with storage.signed(f"{bucket}/runs", storage.SIGN_BYTES) as sign:
        found = storage.run_folders(sign.folder, sign)
        assert found.found == f"{bucket}/runs: written, read and deleted" and found.amount is None
        speed = storage.reading((packed,), sign)
        assert speed.unit == "MB/s" and speed.amount and speed.amount > 0
        other = dataclasses.replace(sign, digest="0" * 64)
        with pytest.raises(Refusal, match="what the driver wrote there reads otherwise here"):
            storage.run_folders(sign.folder, other)
    assert store.names(f"{bucket}/runs") == []
    with pytest.raises(Refusal, match="another data set lies there"):
        storage.data_set(dataclasses.replace(packed, digest="0" * 64))
    with pytest.raises(Refusal, match="so it is not the same folder"):
        storage.run_folders(sign.folder, sign)


def test_storage_that_nobody_reaches_is_said_once(ours: Ours) -> None:
    code, found = examined("--out", "/proc/nope")
    assert code == 2
    assert bad(found)["run folders"]["found"].startswith("the driver: /proc/nope")


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "nowhere.invalid:6379"])
def test_a_cluster_that_is_not_there_is_a_refusal(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address.format(port=_free_port()))
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # as in a process of its own
    with pytest.raises(Refusal, match="RAY_ADDRESS: no Ray cluster answers"):
        examine.examine(None, None)


def test_findings_of_many_nodes_are_few_lines() -> None:
    nodes = {f"10.0.0.{n}": [Check("cache", "ok", "/c", (), n, n, "GiB free")] for n in range(9)}
    nodes["10.0.0.3"] = [checked("cache", lambda: Finding("/c", 3.0, "GiB free", "warn"))]
    (fine, odd) = gathered(nodes)
    assert (fine.least, fine.most, len(fine.nodes)) == (0, 8, 8)
    assert lines([fine, odd]).splitlines() == [
        "ok   cache  10.0.0.0, 10.0.0.1, 10.0.0.2, 10.0.0.4, 10.0.0.5, 10.0.0.6 and 2 more: /c, 0 to 8 GiB free",
        "warn cache  10.0.0.3: /c, 3 GiB free",
    ]
    del nodes["10.0.0.3"]
    assert lines(gathered(nodes)) == "ok   cache  8 nodes: /c, 0 to 8 GiB free"


def test_what_differs_between_nodes_is_said_of_those_that_differ() -> None:
    driver = {"python": "3.11.7", "torch": "2.14.1", "checkout": "aaaa"}
    nodes = {"a": driver, "b": {**driver, "torch": ""}, "c": {**driver, "checkout": "bbbb"}}
    same, torch, code = compare.software(driver, nodes)
    assert (same.nodes, same.state) == (("a",), "ok")
    assert (torch.nodes, torch.found) == (
        ("b",),
        "torch none (driver 2.14.1) -- start all nodes from one image",
    )
    assert code.found == "checkout bbbb (driver aaaa) -- `submit` ships one checkout to all"


def test_clocks_are_judged_by_what_is_known_of_them() -> None:
    clocks = {"near": Clock(0.2, 0.01), "slow": Clock(-1.3, 0.8), "off": Clock(-3600.0, 0.01)}
    near, off = compare.clocks(clocks)
    assert near.nodes == ("near", "slow"), "the way there may be all that is late"
    assert off.nodes == ("off",) and "3,600.0 s behind the driver's" in off.found


def test_unequal_gpus_are_said() -> None:
    (told,) = compare.gpus({"head": (), "a": ("H100", "H100"), "b": ("A10",)})
    assert told.state == "warn" and "a 2 x H100; b 1 x A10" in told.found
    assert compare.gpus({"head": (), "a": ("H100",), "b": ("H100",)}) == []


def test_interfaces_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["lo", "eth0", "eth1", "docker0"]
    assert network.matching("eth", names) == ["eth0", "eth1"]
    assert network.matching("=eth1", names) == ["eth1"]
    assert network.matching("^lo,docker", names) == ["eth0", "eth1"]
    assert network.matching("^=eth1", names) == ["lo", "eth0", "docker0"]
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    assert network.network("gloo", "127.0.0.1", several=True).found == (
        "gloo on lo (GLOO_SOCKET_IFNAME)"
    )
    for backend in ("gloo", "nccl"):
        monkeypatch.setenv(f"{backend.upper()}_SOCKET_IFNAME", "absent7")
        with pytest.raises(Refusal, match="_SOCKET_IFNAME: there is no such interface"):
            network.network(backend, "127.0.0.1")  # type: ignore[arg-type]


def test_a_name_on_the_loopback_is_bad_only_where_others_must_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    assert network.network("gloo", "127.0.0.1").found == "gloo on lo"
    with pytest.raises(Refusal, match="Ray knows this node by 127.0.0.1"):
        network.network("gloo", "127.0.0.1", several=True)
    # An address that no interface has, on a host whose name is as Debian's installer writes it.
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    with pytest.raises(Refusal, match="'localhost' points to .* no other node reaches it"):
        network.network("gloo", "192.0.2.77", several=True)
    assert network.network("nccl", "192.0.2.77", several=True).state == "warn"


def test_room_for_data_and_for_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANTA_CACHE", str(tmp_path))
    assert machine.cache_folder(2**20).state == "ok"
    monkeypatch.setenv("MANTA_CACHE_BYTES", str(2**60))
    with pytest.raises(Refusal, match="GiB free, the data take up to .* set MANTA_CACHE_BYTES="):
        machine.cache_folder(2**59)
    with pytest.raises(Refusal, match="the disk is .* full"):
        machine.room(str(tmp_path), most_full=0.0)
    assert machine.shared_memory(str(tmp_path / "none")).found == "none here"


def test_gpus_that_ray_was_told_of_and_torch_does_not_see() -> None:
    import torch

    told = gpu.gpus(torch.cuda.device_count() + 1)
    assert not told.check.ok
    assert f"of the {torch.cuda.device_count() + 1} GPUs that Ray was told of" in told.check.found


@pytest.mark.parametrize(
    ("names", "error", "promised", "state", "told"),
    [
        (
            ["H100", "H100"],
            "",
            2,
            "ok",
            "2 x H100, driver 580.95, CUDA 13.0, NCCL 2.30.7, a kernel",
        ),
        (["H100", "A10"], "", None, "ok", "H100, A10, driver 580.95"),
        (["H100", "H100"], "", 1, "warn", "Ray was told of 1"),
        (["H100"], "no kernel image", 1, "BAD", "a kernel does not run: no kernel image"),
        ([], "driver too old", 1, "BAD", "torch sees 0 of the 1 GPUs .*: driver too old"),
    ],
)
def test_gpus_are_judged_by_what_they_answer(
    names: list[str], error: str, promised: int | None, state: str, told: str
) -> None:
    answer = {"names": names, "bytes": 2**30, "cuda": "13.0", "nccl": "2.30.7", "error": error}
    found = gpu.judged(answer, promised, "580.95")
    assert found.check.state == state
    assert re.search(told, found.check.found)
    assert found.names == tuple(names)


def test_the_driver_is_read_from_the_kernel_module(tmp_path: Path) -> None:
    file = tmp_path / "version"
    file.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
        "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1)\n"
    )
    assert gpu.driver(str(file)) == "580.95.05"
    assert gpu.driver(str(tmp_path / "absent")) == ""
