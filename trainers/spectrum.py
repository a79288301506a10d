"""How many directions features spread over (Roy & Vetterli, EUSIPCO 2007)."""

from __future__ import annotations

import torch
from torch import Tensor


def singular_values(gram_DD: Tensor) -> Tensor:
    """Those of features (N, D) from the sum of their outer products, float64, largest first; rounding noise is 0."""
    if not gram_DD.isfinite().all():
        return gram_DD.new_full((len(gram_DD),), torch.nan)
    values_D = torch.linalg.eigvalsh(gram_DD).flip(0)
    noise = values_D[0].abs() * len(values_D) * torch.finfo(values_D.dtype).eps
    kept_D: Tensor = values_D.where(values_D > noise, 0.0)
    return kept_D.sqrt()


def effective_rank(singular_D: Tensor) -> float:
    """The exponential of the entropy of the singular values' shares: 1 where all lie in one direction; 0 of nothing."""
    total = singular_D.sum()
    if total == 0:
        return 0.0
    share_D = singular_D / total
    return float(torch.special.entr(share_D).sum().exp())
