"""The class of a picture by the votes of its nearest neighbours: weighted k-NN (Wu and others, arXiv 1805.01978)."""

# Q queries, N rows of the bank, D features, C classes, K neighbours

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CELLS = 2**24  # similarities that are held at once


@dataclass(frozen=True)
class Bank:
    """Pictures that are asked: features of length 1 (N, D), labels (N,) of `classes`."""

    features: Tensor
    labels: Tensor
    classes: int


def told(
    bank: Bank,
    queries_QD: Tensor,
    *,
    ks: Sequence[int],
    temperature: float,
    own_Q: Tensor | None = None,
) -> Tensor:
    """(len(ks), Q) int64: for each k the class with most votes among the k nearest by cosine.

    A neighbour's vote is exp(cosine / temperature). `own_Q` is each query's row in the bank, or -1: that row is left out.
    """
    most, found = max(ks), []
    step = max(1, CELLS // max(1, len(bank.features)))
    for start in range(0, len(queries_QD), step):
        block_QN = queries_QD[start : start + step] @ bank.features.T
        if own_Q is not None:
            own = own_Q[start : start + step]
            among = torch.nonzero(own >= 0).flatten()
            block_QN[among, own[among]] = -torch.inf
        near_QK, rows_QK = block_QN.topk(most, dim=1)
        # Less the largest, so that a small temperature does not overflow.
        vote_QK = ((near_QK - near_QK[:, :1]) / temperature).exp()
        named_QK = bank.labels[rows_QK]
        counted = []
        for k in ks:
            tally_QC = vote_QK.new_zeros(len(block_QN), bank.classes)
            tally_QC.scatter_add_(1, named_QK[:, :k], vote_QK[:, :k])
            counted.append(tally_QC.argmax(1))
        found.append(torch.stack(counted))
    return torch.cat(found, dim=1) if found else torch.zeros(len(ks), 0, dtype=torch.long)
