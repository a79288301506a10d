"""The pictures of an index embedded as Ray tasks, on as many machines as the cluster has. Every one must reach the data."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from cluster import capacity
from cluster.connection import connected
from cluster.session import choose_device
from cluster.tasks import RETRIES, results
from datasets.refusal import Refusal
from datasets.shards import Dataset
from trainers import feed
from trainers.retrieval import jobs
from trainers.retrieval.embedder import Embedder, Metric
from trainers.retrieval.jobs import Job, Piece, Runner


@dataclass(frozen=True)
class Work:
    """All that a machine must know to do jobs of an index."""

    embedder: Embedder
    metric: Metric
    splits: tuple[str, ...]
    subset: int | None
    digest: str  # of the data, which every machine opens by itself

    def dataset(self) -> Dataset:
        """The data of the index. Raises Refusal where this machine reads others."""
        recipe = self.embedder.recipe
        whole = feed.dataset(recipe.data)
        if self.digest not in ("", whole.manifest.digest):
            raise Refusal(
                "a machine of the cluster reads other data by this name",
                path="DATA",
                value=whole.manifest.digest[:12],
                remedy=f"pack it to a place that all machines reach; its digest is {self.digest[:12]}",
            )
        return jobs.sampled(whole, self.splits, self.subset, recipe.seed)


def on_ray(work: Work, workers: int | None) -> Runner:
    """A runner for the jobs of an index: `workers` tasks at a time, or as many as there is room for."""

    def run(listed: Sequence[Job]) -> Generator[tuple[int, Piece]]:
        ray = connected(workers or 1)
        most, resources = capacity.processes(work.embedder.recipe.scale, workers)
        cpus, gpus = resources.pop("CPU", 0), resources.pop("GPU", 0)
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_done)
        # The network travels to a machine once, not with each task.
        cpu = replace(work.embedder, device=torch.device("cpu"))
        held = ray.put(replace(work, embedder=cpu))
        given = (([held], job, place == 0) for place, job in enumerate(listed))
        yield from results(task, given, most=most)

    return run


def _done(held: list[Any], job: Job, check: bool) -> Piece:
    """What a Ray task runs; `held` is a list so that Ray hands over the reference, not what it refers to."""
    work, embedder, dataset = _opened(held[0])
    return jobs.done(job, embedder, dataset, work.metric, check=check)


@lru_cache(maxsize=1)
def _opened(reference: Any) -> tuple[Work, Embedder, Dataset]:
    """Read once a process."""
    import ray

    work: Work = ray.get(reference)
    embedder = replace(work.embedder, device=choose_device(work.embedder.recipe.scale))
    return work, embedder, work.dataset()
