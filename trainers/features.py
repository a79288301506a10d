"""Features of a split's pictures: what a network holds of each before its head."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datasets.batch import Batch
from datasets.shards import Dataset
from datasets.stream import EvalStream, View
from trainers import anatomy
from trainers.evaluation import EVAL_ROWS


def features(
    network: nn.Module,
    dataset: Dataset,
    split: str,
    *,
    view: View,
    ready: Callable[[Batch], Batch],
    rows: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(ids (N,), features (N, D)) of a split, or of some `rows` in their order; `ready` moves batches to the device.

    The network is put into eval mode. Raises Refusal for a network without a linear head.
    """
    body = anatomy.headless(network).eval()
    ids: list[Tensor] = []
    found: list[Tensor] = []
    with torch.no_grad():
        for batch in EvalStream(dataset, split, batch=EVAL_ROWS, view=view, rows=rows):
            found.append(body(ready(batch)["image"]).flatten(1).float().cpu())
            ids.append(batch["id"].cpu())
    return torch.cat(ids).numpy(), torch.cat(found).numpy()
