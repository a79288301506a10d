"""Packs a data set's shards as Ray tasks, on as many machines as the cluster has. Every one must reach source and target."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import lru_cache
from typing import Any

from cluster.connection import connected
from datasets.packing.jobs import Job, Note, Packing, Runner

AHEAD = 2  # tasks in flight for each CPU: nobody waits, and a stop is soon over
RETRIES = 3  # of a task whose machine died; what the code raises is raised at once


def on_ray() -> Runner:
    """A runner for `datasets.pack.pack`: one task a shard, on the cluster of RAY_ADDRESS or on a Ray of its own."""

    def run(packing: Packing, jobs: Sequence[Job]) -> Generator[tuple[int, Note]]:
        ray = connected(1)
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_pack)
        # Columns and names of a large set are many megabytes: they travel to a machine once, not with each task.
        held = ray.put(packing)
        most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        left, flying = iter(enumerate(jobs)), dict[Any, int]()
        try:
            while True:
                while len(flying) < most and (following := next(left, None)):
                    place, job = following
                    flying[task.remote([held], job)] = place
                if not flying:
                    return
                (done,), _ = ray.wait([*flying], num_returns=1)
                place = flying.pop(done)
                yield place, _got(ray, done)
        finally:
            for reference in flying:
                ray.cancel(reference)

    return run


def _got(ray: Any, reference: Any) -> Note:
    from ray.exceptions import RayTaskError

    try:
        note: Note = ray.get(reference)
    except RayTaskError as error:
        raise (error.cause or error) from None
    return note


def _pack(held: list[Any], job: Job) -> Note:
    """What a Ray task runs; `held` is a list so that Ray hands over the reference, not what it refers to."""
    return _packing(held[0]).run(job)


@lru_cache(maxsize=1)
def _packing(reference: Any) -> Packing:
    """Read once a process."""
    import ray

    packing: Packing = ray.get(reference)
    return packing
