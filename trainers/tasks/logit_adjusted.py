"""Classification by logit-adjusted cross entropy (arXiv 2007.07314): rare classes are not outvoted.

While training, tau x log of each class's share of the samples is added to its logit; predictions are without it, so they
are right for classes that are all as frequent. Batches that are balanced already (`data.order`) need no adjustment.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from trainers.classification import Classification

NEEDS = ("image", "label")  # columns of the data
PREDICTS = "classes"


class LogitAdjusted(Classification):
    def __init__(
        self, model: nn.Module, counts: Sequence[int], *, tau: NonNegativeFloat = 1.0
    ) -> None:
        """`counts` are the samples of each class to learn from; none are known before the data are."""
        super().__init__(model)
        assert not counts or min(counts), "demands.check_data refuses classes without a sample"
        share_C = torch.tensor([*counts] or [1.0], dtype=torch.float32)
        share_C = share_C / share_C.sum()
        # Not in checkpoints: they follow from the data.
        self.share_C: Tensor
        self.register_buffer("share_C", share_C, persistent=False)
        self.register_buffer("prior_C", tau * share_C.log(), persistent=False)
        self.prior_C: Tensor

    def each(self, logits_BC: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(logits_BC.float() + self.prior_C, label, reduction="none")

    def chance(self, logits_BC: Tensor) -> Tensor:
        classes_C = torch.arange(logits_BC.shape[1], device=logits_BC.device)
        even_CC = logits_BC.new_zeros(len(classes_C), len(classes_C), dtype=torch.float32)
        return (self.share_C * self.each(even_CC, classes_C)).sum()


build = LogitAdjusted
