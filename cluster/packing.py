"""Packs a data set's shards as Ray tasks, on as many machines as the cluster has. Every one must reach source and target."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from cluster.connection import connected
from cluster.tasks import spread
from datasets.packing.jobs import Job, Note, Packing, Runner

AHEAD = 2  # tasks in flight for each CPU: nobody waits, and a stop is soon over


def on_ray() -> Runner:
    """A runner for `datasets.pack.pack`: one task a shard, on the cluster of RAY_ADDRESS or on a Ray of its own."""

    def run(packing: Packing, jobs: Sequence[Job]) -> Generator[tuple[int, Note]]:
        most = AHEAD * max(1, int(connected(1).cluster_resources().get("CPU", 1)))
        pieces = ((job,) for job in jobs)
        yield from spread(_Work(packing), pieces, most=most, resources={"CPU": 1})

    return run


@dataclass(frozen=True)
class _Work:
    packing: Packing

    def ready(self) -> Callable[[Job], Note]:
        return self.packing.run
