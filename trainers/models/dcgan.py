"""A small DCGAN (arXiv 1511.06434): a generator with batch norm, a critic without, so that real and fake never mix."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from datasets.ranges import FirstWidth, Width
from datasets.refusal import Refusal

TAKES = "noise"  # where other models take what the data hold
SPANS = (-1, 1)  # what its pixels can be: the generator ends in a tanh


class DCGAN(nn.Module):
    """Two networks: `generator` (B, latent) -> (B, channels, size, size) in -1..1, `critic` back to one logit (B,)."""

    def __init__(
        self, channels: int, size: int, *, latent: Width = 64, width: FirstWidth = 32
    ) -> None:
        super().__init__()
        side, doublings = doubled(size)
        self.latent = latent
        widths = [width * 2**i for i in reversed(range(doublings))]
        self.generator = nn.Sequential(
            nn.Linear(latent, widths[0] * side * side, bias=False),
            nn.Unflatten(1, (widths[0], side, side)),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
            *(layer for pair in pairwise(widths) for layer in _up(*pair)),
            nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )
        down = [channels, *reversed(widths)]
        self.critic = nn.Sequential(
            *(layer for pair in pairwise(down) for layer in _down(*pair)),
            nn.Flatten(),
            nn.Linear(widths[0] * side * side, 1),
            nn.Flatten(0),
        )

    def forward(self, noise: Tensor) -> Tensor:
        """(B, latent) -> the critic's logit of what is generated from it (B,)."""
        logit: Tensor = self.critic(self.generator(noise))
        return logit

    def example(self, rows: int, device: str) -> Tensor:
        """An input for `describe`: noise, where other models take pictures."""
        return torch.zeros(rows, self.latent, device=device)


def doubled(size: int) -> tuple[int, int]:
    """(pixels a side of the generator's first map, doublings up to `size`)."""
    side, doublings = size, 0
    while side % 2 == 0 and (side > 7 or doublings < 2) and side > 2:
        side, doublings = side // 2, doublings + 1
    if not doublings:
        raise Refusal(
            f"the generator doubles its pictures, and {size} pixels is odd",
            path="data.size",
            value=size,
            remedy="set data.size to an even number such as 32",
        )
    return side, doublings


def _up(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _down(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]


build = DCGAN
