"""Packs a data set's shards as Ray tasks, on as many machines as the cluster has. Every one must reach source and target."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import lru_cache
from typing import Any

from cluster.connection import connected
from cluster.tasks import RETRIES, results
from datasets.packing.jobs import Job, Note, Packing, Runner

AHEAD = 2  # tasks in flight for each CPU: nobody waits, and a stop is soon over


def on_ray() -> Runner:
    """A runner for `datasets.pack.pack`: one task a shard, on the cluster of RAY_ADDRESS or on a Ray of its own."""

    def run(packing: Packing, jobs: Sequence[Job]) -> Generator[tuple[int, Note]]:
        ray = connected(1)
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_pack)
        # Columns and names of a large set are many megabytes: they travel to a machine once, not with each task.
        held = ray.put(packing)
        most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield from results(task, (([held], job) for job in jobs), most=most)

    return run


def _pack(held: list[Any], job: Job) -> Note:
    """What a Ray task runs; `held` is a list so that Ray hands over the reference, not what it refers to."""
    return _packing(held[0]).run(job)


@lru_cache(maxsize=1)
def _packing(reference: Any) -> Packing:
    """Read once a process."""
    import ray

    packing: Packing = ray.get(reference)
    return packing
