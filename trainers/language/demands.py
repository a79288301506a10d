"""What the tasks around a CLIP demand of data and of a phase's length: refused before anything is paid for."""

from __future__ import annotations

from typing import Any

from torch import nn

from datasets.refusal import Refusal
from datasets.shards import Dataset
from trainers.language import towers
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
