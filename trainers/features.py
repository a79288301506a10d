"""Features of a split's pictures: what a network holds of each before its head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datasets.batch import Batch
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.stream import EvalStream, View
from trainers.evaluation import EVAL_ROWS


def features(
    network: nn.Module,
    dataset: Dataset,
    split: str,
    *,
    view: View,
    ready: Callable[[Batch], Batch],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(ids (N,), features (N, D)) of a split, by a network in eval mode; `ready` moves batches to its device.

    Raises Refusal for a network without a linear head.
    """
    network.eval()
    ids: list[Tensor] = []
    found: list[Tensor] = []
    stream = EvalStream(dataset, split, batch=EVAL_ROWS, view=view)
    with torch.no_grad(), _before_head(network) as seen:
        for batch in stream:
            network(ready(batch)["image"])
            found.append(seen.pop().flatten(1).float().cpu())
            seen.clear()
            ids.append(batch["id"].cpu())
    return torch.cat(ids).numpy(), torch.cat(found).numpy()


@contextmanager
def _before_head(network: nn.Module) -> Iterator[list[Tensor]]:
    """What each forward gives to the network's last linear layer, its head."""
    heads = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise Refusal(
            "the network has no linear head, before which its features would be",
            path="data.cleaned.model",
            remedy="choose another model (`launch.py list models`)",
        )
    seen: list[Tensor] = []
    handle = heads[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        yield seen
    finally:
        handle.remove()
