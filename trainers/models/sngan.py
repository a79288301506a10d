"""A small residual GAN whose critic has spectral norms (SNGAN, arXiv 1802.05957)."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from datasets.ranges import FirstWidth, Width
from trainers.models.dcgan import doubled

TAKES = "noise"  # where other models take what the data hold
SPANS = (-1, 1)  # what its pixels can be: the generator ends in a tanh


class SNGAN(nn.Module):
    """Two networks: `generator` (B, latent) -> (B, channels, size, size) in -1..1, `critic` back to one logit (B,)."""

    def __init__(
        self, channels: int, size: int, *, latent: Width = 64, width: FirstWidth = 32
    ) -> None:
        super().__init__()
        side, doublings = doubled(size)
        self.latent = latent
        # As wide on every scale but the largest maps, which cost most.
        widths = [width * min(2**i, 4) for i in reversed(range(doublings + 1))]
        self.generator = nn.Sequential(
            nn.Linear(latent, widths[0] * side * side),
            nn.Unflatten(1, (widths[0], side, side)),
            *(Up(*pair) for pair in pairwise(widths)),
            nn.BatchNorm2d(widths[-1]),
            nn.ReLU(inplace=True),
            nn.Conv2d(widths[-1], channels, 3, padding=1),
            nn.Tanh(),
        )
        down = [*reversed(widths)]
        self.critic = nn.Sequential(
            Down(channels, down[0], first=True, halves=False),
            *(Down(*pair) for pair in pairwise(down)),
            nn.ReLU(),
            Sum(),
            spectral_norm(nn.Linear(down[-1], 1)),
            nn.Flatten(0),
        )

    def forward(self, noise: Tensor) -> Tensor:
        """(B, latent) -> the critic's logit of what is generated from it (B,)."""
        logit: Tensor = self.critic(self.generator(noise))
        return logit

    def example(self, rows: int, device: str) -> Tensor:
        """An input for `describe`: noise, where other models take pictures."""
        return torch.zeros(rows, self.latent, device=device)


class Up(nn.Module):
    """A residual block of the generator: (B, inputs, S, S) -> (B, outputs, 2 S, 2 S)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.interpolate(F.relu(self.norm1(x)), scale_factor=2))
        h = self.conv2(F.relu(self.norm2(h)))
        # A 1x1 convolution of what is doubled is what is doubled of a 1x1 convolution, at a quarter of the cost.
        out: Tensor = h + F.interpolate(self.skip(x), scale_factor=2)
        return out


class Down(nn.Module):
    """A residual block of the critic: (B, inputs, S, S) -> (B, outputs, S / 2, S / 2), or S where nothing halves."""

    def __init__(
        self, inputs: int, outputs: int, *, first: bool = False, halves: bool = True
    ) -> None:
        super().__init__()
        self.first, self.halves = first, halves
        self.conv1 = spectral_norm(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = spectral_norm(nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(x if self.first else F.relu(x))  # pixels are not to be rectified
        h, skip = self.conv2(F.relu(h)), self.skip(x)
        out: Tensor = h + skip
        return F.avg_pool2d(out, 2) if self.halves else out


class Sum(nn.Module):
    """(B, C, H, W) -> (B, C), over all positions."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum((2, 3))


build = SNGAN
