"""The pictures of an index embedded as Ray tasks, on as many machines as the cluster has. Every one must reach the data."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from cluster.session import device_here
from cluster.tasks import passes, same_data
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

    def ready(self) -> Callable[[Job, bool], Piece]:
        """What does a job. Raises Refusal where this machine reads other data."""
        recipe = self.embedder.recipe
        whole = same_data(recipe.data, self.digest)
        dataset = jobs.sampled(whole, self.splits, self.subset, recipe.seed)
        embedder = replace(self.embedder, device=device_here(recipe.scale))

        def done(job: Job, check: bool) -> Piece:
            return jobs.done(job, embedder, dataset, self.metric, check=check)

        return done


def on_ray(work: Work, workers: int | Literal["auto"]) -> Runner:
    """A runner for the jobs of an index: `workers` tasks at a time, or as many as there is room for."""

    def run(listed: Sequence[Job]) -> Generator[tuple[int, Piece]]:
        cpu = replace(work.embedder, device=torch.device("cpu"))  # it travels
        pieces = ((job, place == 0) for place, job in enumerate(listed))
        scale = work.embedder.recipe.scale
        yield from passes(replace(work, embedder=cpu), pieces, scale, workers)

    return run
