"""What one node of a cluster is asked, and answers: run there by an actor that takes no resources."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from cluster.doctor import gpu, machine, network, storage
from cluster.doctor.check import Check, Finding, checked
from cluster.doctor.storage import Packed, Sign
from datasets import store


class Node(NamedTuple):
    """A node that Ray calls alive; `name` tells people which."""

    id: str
    name: str
    address: str
    num_cpus: float
    num_gpus: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What every node is asked; without `thorough` only what takes no time."""

    sign: Sign | None
    backend: network.Backend = "gloo"
    several: bool = False  # hosts, not nodes: these may share one
    thorough: bool = False
    sets: tuple[Packed, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What a node answers: what can be judged there, and what only means something beside other nodes'."""

    software: dict[str, str]
    checks: tuple[Check, ...]
    memory_bytes: int = 0
    gpus: tuple[str, ...] = ()
    gpu_bytes: int = 0  # of the smallest


class Examiner:
    """The doctor on a node."""

    def clock(self) -> float:
        """Seconds since 1970, as this node has them."""
        return time.time()

    def look(self, asked: Asked, node: Node) -> Seen:
        """What this node is, `node` to Ray."""
        checks = []
        if sign := asked.sign:
            checks.append(checked("run folders", lambda: storage.run_folders(sign.folder, sign)))
        checks += [checked("data here", lambda p=p: storage.data_set(p)) for p in asked.sets]  # type: ignore[misc]
        if not asked.thorough:
            return Seen(machine.software(), tuple(checks))
        readable = all(check.ok for check in checks)
        remote = sum(each.bytes for each in asked.sets if store.is_remote(each.url))
        checks += [
            *([checked("reading", lambda: storage.reading(asked.sets, sign))] if readable else []),
            checked("cache", lambda: machine.cache_folder(remote)),
            checked("ray's disk", ray_disk),
            checked("shared memory", machine.shared_memory),
        ]
        if node.num_cpus or node.num_gpus:  # a head without has no workers, who meet on the network
            backend, several = asked.backend, asked.several
            look = partial(network.network, backend, node.address, several=several)
            checks.append(checked("network", look))
        found = gpu.gpus(node.num_gpus)
        return Seen(
            machine.software(),
            (*checks, found.check),
            machine.memory_bytes(),
            found.names,
            found.bytes,
        )


def ray_disk() -> Finding:
    """Where Ray spills objects and keeps logs."""
    import ray

    folder = str(ray.get_runtime_context().get_temp_dir())
    return Finding(folder, machine.room(folder, machine.RAY_MOST_FULL), "GiB free")
