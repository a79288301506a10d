"""Sums over samples of one condition: accuracy, confidence, calibration over 15 bins (arXiv 1706.04599)."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 15


class Tally:
    """What the predictions under one condition come to; sums first, then one division."""

    def __init__(self) -> None:
        self.count = torch.zeros(BINS, dtype=torch.float64)
        self.right = torch.zeros(BINS, dtype=torch.float64)
        self.confidence = torch.zeros(BINS, dtype=torch.float64)

    def update(self, logits: Tensor, label: Tensor) -> Tensor:
        """Take in a batch; which of its predictions are wrong, (B,) on the CPU."""
        confidence, prediction = logits.float().softmax(1).max(1)
        right, sure = (prediction == label).double().cpu(), confidence.double().cpu()
        # A bin holds what is above its lower end and up to its upper one.
        at = (torch.ceil(sure * BINS) - 1).clamp(0, BINS - 1).long()
        for sums, weights in (
            (self.count, torch.ones_like(sure)),
            (self.right, right),
            (self.confidence, sure),
        ):
            sums += torch.bincount(at, weights, minlength=BINS)
        return right == 0

    def add(self, other: Tally) -> None:
        """Take in another condition's samples."""
        self.count += other.count
        self.right += other.right
        self.confidence += other.confidence

    @property
    def rows(self) -> int:
        return int(self.count.sum())

    @property
    def accuracy(self) -> float:
        return float(self.right.sum() / self.count.sum().clamp(min=1))

    @property
    def mean_confidence(self) -> float:
        return float(self.confidence.sum() / self.count.sum().clamp(min=1))

    @property
    def calibration_error(self) -> float:
        """Expected: bins' distance between confidence and accuracy, weighted by their samples."""
        gaps = (self.right - self.confidence).abs().sum()
        return float(gaps / self.count.sum().clamp(min=1))
