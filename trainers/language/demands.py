"""What the tasks around a CLIP demand of data and of a phase's length: refused before anything is paid for."""

from __future__ import annotations

from typing import Any

from torch import nn

from datasets import subsets
from datasets.refusal import Refusal
from datasets.shards import Dataset
from trainers import rooms
from trainers.language import towers
from trainers.language.cache import check_room
from trainers.recipe import Recipe


def check_tokens(recipe: Recipe, dataset: Dataset, network: nn.Module) -> None:
    """Refuse captions that are wider than the model reads, or narrower where it reads texts off their last place."""
    pair: Any = network
    reads, width = int(pair.context_length), int(dataset.columns("train")["tokens"].shape[1])
    if width > reads or (width < reads and not towers.opens(network)):
        by_source = recipe.data.source is not None
        raise Refusal(
            f"captions of {width} tokens, and the model's context is {reads}",
            path="data.source.tokens" if by_source else "data",
            value=width,
            remedy=f"set data.source.tokens={reads}"
            if by_source
            else f"pack them again with tokens={reads}",
        )


def check_cache(recipe: Recipe, index: int, dataset: Dataset) -> None:
    """Refuse more or fewer pictures than a cache of them is asked to hold, and fewer epochs than it has pairs to try."""
    phase = recipe.phases[index]
    door = rooms.door("tasks", phase.task.name)
    if not door.constants.get("CACHES"):
        return
    said = door.schema(**phase.task.arguments).model_dump()
    counts = subsets.counts(dataset)
    check_room(dataset.manifest.classes, counts, said["shots"])
    place = f"phases.{index}.task.shots"
    if "shots" in phase.task.arguments and max(counts, default=0) < said["shots"]:
        most = max(counts, default=0)
        raise Refusal(
            f"the cache is to hold {said['shots']} pictures of each class, and no class has more than {most} to learn from",
            path=place,
            value=said["shots"],
            remedy=f"set {place}={most}, or data.subset.shots={said['shots']}",
        )
    pairs = len(said["alphas"]) * len(said["betas"])
    epochs = phase.epochs  # who counts in steps tries something out
    if epochs and epochs < pairs > 1:
        raise Refusal(
            f"{pairs} pairs of alpha and beta are tried one an epoch, and the phase has {epochs} "
            f"epoch{'s' * (epochs != 1)}",
            path=f"phases.{index}.epochs",
            value=epochs,
            remedy=f"set phases.{index}.epochs={pairs}, or name fewer alphas or betas",
        )
