"""The doctor's round: every node of a cluster is asked at once, and who does not answer in time is said to."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cluster.doctor.node import Asked, Examiner, Node, Seen

PINGS = 5
PING_SECONDS = 30.0  # of a machine that is busy, too


class Clock(NamedTuple):
    """How far a node's clock is ahead of ours, known to half of `trip` (both in seconds)."""

    ahead: float
    trip: float


@dataclass(frozen=True, slots=True)
class Round:
    """What came of it, by the nodes' names; `failed` says why of those that gave no answer."""

    seen: Mapping[str, Seen]
    clocks: Mapping[str, Clock]
    failed: Mapping[str, str]

    def of(self, names: Collection[str]) -> Round:
        """Without the nodes that are not among the names."""
        parts = (self.seen, self.clocks, self.failed)
        return Round(*({n: part[n] for n in part if n in names} for part in parts))  # type: ignore[arg-type]


def alive(ray: Any) -> list[Node]:
    """The nodes, the head first."""
    found = [each for each in ray.nodes() if each["Alive"]]
    addresses = [each["NodeManagerAddress"] for each in found]
    nodes: list[Node] = []
    for each, address in zip(found, addresses, strict=True):
        resources = each["Resources"]
        head = "node:__internal_head__" in resources
        # Several nodes on one machine are for tests; a name must tell them apart nevertheless.
        name = f"{address}/{each['NodeID'][:4]}" if addresses.count(address) > 1 else address
        node = Node(
            each["NodeID"],
            f"head {name}" if head else name,
            address,
            resources.get("CPU", 0.0),
            int(resources.get("GPU", 0)),
        )
        nodes.insert(0 if head else len(nodes), node)
    return nodes


def made(ray: Any, nodes: Sequence[Node], asked: Asked, *, seconds: float) -> Round:
    """Ask all nodes at once and wait for `seconds` at most. Never raises for what a node does."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    actors = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        options = {"num_cpus": 0, "max_restarts": 0, "scheduling_strategy": there}
        actors[node.name] = ray.remote(**options)(Examiner).remote()
    try:
        answers = {actors[node.name].look.remote(asked, node): node.name for node in nodes}
        ready, late = ray.wait([*answers], num_returns=len(answers), timeout=seconds)
        failed = {answers[each]: f"no answer in {seconds:.0f} s" for each in late}
        seen, clocks = {}, {}
        for each in ready:
            name = answers[each]
            try:
                seen[name], clocks[name] = ray.get(each), _clock(ray, actors[name])
            except Exception as error:  # noqa: BLE001  whatever a node raises is what was found there
                failed[name] = _reason(error)
        return Round(seen, clocks, failed)
    finally:
        for actor in actors.values():
            ray.kill(actor)


def _clock(ray: Any, actor: Any) -> Clock:
    """The reading with the shortest way there and back, which is the surest."""
    readings = []
    for _ in range(PINGS):
        sent, start = time.time(), time.perf_counter()
        there = ray.get(actor.clock.remote(), timeout=PING_SECONDS)
        trip = time.perf_counter() - start
        readings.append(Clock(there - sent - trip / 2, trip))
    return min(readings, key=lambda reading: reading.trip)


def _reason(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    last = lines[-1] if lines else type(cause).__name__
    if "No module named" in str(cause):
        missing = next(line for line in lines if "No module named" in line)
        return f"cannot run Manta ({missing[-120:]}): ship the checkout by `submit`, or share it and its environment"
    return last[:200]
