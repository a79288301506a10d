"""Attacks that change every pixel by at most epsilon: FGSM (arXiv 1412.6572), PGD (arXiv 1706.06083), signs of noise.

All work on pixels in [0, 1], before normalisation, of a function from pixels (B, C, H, W) to logits (B, classes).
"""

# B batch, C channel, H height, W width

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.corrupting.draws import Draws

Logits = Callable[[Tensor], Tensor]


@dataclass
class Attacked:
    """What became of a batch: for each picture the one of the largest loss that was tried, and whether any fooled."""

    pixels: Tensor  # (B, C, H, W)
    loss: Tensor  # (B,) of those
    fooled: Tensor  # (B,) whether the prediction was wrong at any of them
    losses: list[Tensor] = field(default_factory=list)  # (B,) at each step of the first start

    def take(self, pixels: Tensor, loss: Tensor, wrong: Tensor) -> None:
        """Pictures that were tried as well."""
        better = loss > self.loss
        self.pixels = torch.where(better[:, None, None, None], pixels, self.pixels)
        self.loss = torch.where(better, loss, self.loss)
        self.fooled = self.fooled | wrong


def gradient(logits_of: Logits, pixels: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(dloss/dpixels, loss (B,), wrong (B,)) of the cross entropy of each picture."""
    with torch.enable_grad():
        pixels = pixels.detach().requires_grad_()
        logits = logits_of(pixels).float()
        loss = F.cross_entropy(logits, label, reduction="none")
        (slope,) = torch.autograd.grad(loss.sum(), pixels)
    return slope, loss.detach(), logits.detach().argmax(1) != label


def judged(logits_of: Logits, pixels: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """(loss (B,), wrong (B,)) without a gradient."""
    with torch.no_grad():
        logits = logits_of(pixels).float()
    return F.cross_entropy(logits, label, reduction="none"), logits.argmax(1) != label


def untouched(logits_of: Logits, pixels: Tensor, label: Tensor) -> Attacked:
    """No attack: what the others are to be worse than. A picture that is wrong by itself counts as fooled."""
    return Attacked(pixels, *judged(logits_of, pixels, label))


def fgsm(logits_of: Logits, pixels: Tensor, label: Tensor, epsilon: float) -> Attacked:
    """One step of epsilon along the sign of the gradient."""
    slope, loss, wrong = gradient(logits_of, pixels, label)
    found = Attacked(pixels, loss, wrong)
    there = (pixels + epsilon * slope.sign()).clamp(0, 1)
    found.take(there, *judged(logits_of, there, label))
    return found


def pgd(
    logits_of: Logits,
    pixels: Tensor,
    label: Tensor,
    epsilon: float,
    *,
    steps: int,
    draws: Draws,
    restarts: int = 1,
) -> Attacked:
    """Steps of 2.5 epsilon / steps along the sign, back into the box after each, from random starts within it."""
    found = untouched(logits_of, pixels, label)
    low, high = (pixels - epsilon).clamp(min=0), (pixels + epsilon).clamp(max=1)
    for restart in range(restarts):
        start = draws.of(f"start {restart}").uniform(*pixels.shape[1:])
        here = low + (high - low) * start
        for _ in range(steps):
            slope, loss, wrong = gradient(logits_of, here, label)
            found.take(here, loss, wrong)
            if restart == 0:
                found.losses.append(loss)
            here = torch.minimum(
                torch.maximum(here + 2.5 * epsilon / steps * slope.sign(), low), high
            )
        loss, wrong = judged(logits_of, here, label)
        found.take(here, loss, wrong)
        if restart == 0:
            found.losses.append(loss)
    return found


def noise(
    logits_of: Logits, pixels: Tensor, label: Tensor, epsilon: float, *, trials: int, draws: Draws
) -> Attacked:
    """Every pixel up or down by epsilon, by chance, `trials` times: what needs no gradient, an attack must beat."""
    found = untouched(logits_of, pixels, label)
    for trial in range(trials):
        up = draws.of(f"trial {trial}").uniform(*pixels.shape[1:]) < 0.5
        there = (pixels + torch.where(up, epsilon, -epsilon)).clamp(0, 1)
        found.take(there, *judged(logits_of, there, label))
    return found
