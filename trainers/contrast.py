"""NT-Xent over a matrix of similarities, whatever says who is whose partner: labels here, views of one picture elsewhere."""

# B rows of the global batch
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(
    similarity_BB: Tensor, positive_BB: Tensor, negative_BB: Tensor
) -> tuple[Tensor, Tensor]:
    """(loss, its value at chance) of similarities that are divided by the temperature already; arXiv 2002.05709, eq. 1.

    The mean over positive pairs (i, j) of -log(exp s_ij / (exp s_ij + sum over i's negatives k of exp s_ik)). At chance all
    similarities are equal: with one positive among the 2N - 1 others of two views, ln(2N - 1).
    """
    # Rows by rows alone: pytorch-metric-learning's own holds positive pairs x negative pairs.
    against_B = similarity_BB.masked_fill(~negative_BB, -torch.inf).logsumexp(1)
    pairs_BB = F.softplus(against_B[:, None] - similarity_BB)
    count = positive_BB.sum().clamp(min=1)
    loss = pairs_BB.masked_fill(~positive_BB, 0.0).sum() / count
    negatives_B1 = negative_BB.sum(1, keepdim=True)
    chance = (negatives_B1.float().log1p() * positive_BB).sum() / count
    return loss, chance
