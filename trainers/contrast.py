"""NT-Xent over a matrix of similarities, whatever says who is whose partner, labels or views of one picture; and how features lie."""

# B rows of the global batch, N pictures, D features
from __future__ import annotations

import math

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


def nt_xent_of_views(similarity_BB: Tensor) -> tuple[Tensor, Tensor]:
    """The same of (2N, 2N) similarities of the first views of N pictures, then their second ones; all others are negatives.

    With one positive a row it is a cross entropy among all other rows, and costs no more. Overwrites the diagonal.
    """
    rows = len(similarity_BB)
    others_BB = similarity_BB.fill_diagonal_(-torch.inf)
    partner_B = torch.arange(rows, device=similarity_BB.device).roll(rows // 2)
    return F.cross_entropy(others_BB, partner_B), similarity_BB.new_full((), math.log(rows - 1))


def floor(pictures: int, temperature: float) -> float:
    """The loss of two views of N pictures where both are one point, and all pictures lie at right angles.

    It is hardly less where few pictures lie farther apart than that. Beside chance, the scale that a loss is read by.
    """
    return math.log1p((2 * pictures - 2) * math.exp(-1 / temperature))


def alignment(one_ND: Tensor, two_ND: Tensor) -> Tensor:
    """The mean squared distance of two views, of unit vectors: 0 is best (arXiv 2005.10242)."""
    return (one_ND - two_ND).square().sum(1).mean()


def uniformity(unit_ND: Tensor) -> Tensor:
    """log of the mean of exp(-2 d^2) over all pairs of unit vectors: 0 where they are one point, near -4 spread evenly.

    arXiv 2005.10242; of one vector, which makes no pair, 0.
    """
    if len(unit_ND) < 2:
        return unit_ND.new_zeros(())
    squared = 2 - 2 * (unit_ND @ unit_ND.T)
    near = squared.clamp(min=0).mul(-2).exp().fill_diagonal_(0)
    return (near.sum() / (len(near) * (len(near) - 1))).log()
