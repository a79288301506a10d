"""A batch of pictures about to be corrupted: its draws, which published table its size asks for, how long a pixel is.

ImageNet-C's settings are for 224 pixels, Tiny-ImageNet-C's for 64, CIFAR-10-C's for 32. A picture takes the table that is
nearest to its shorter side, and lengths (radii, shifts) grow or shrink with it. A picture much smaller than 32 pixels has
no room for a blur of a thirtieth of its side: what has a length is done on a finer canvas, where each pixel is
a square of equal ones, whose means are the pixels again.
"""

# B batch, C channel, H height, W width

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from datasets import order
from datasets.corrupting.draws import Draws

Level = TypeVar("Level")
SIDES = (224, 64, 32)  # of ImageNet-C, Tiny-ImageNet-C, CIFAR-10-C
SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Scene:
    """What a corruption knows besides the pixels."""

    draws: Draws
    side: int  # the shorter one, in pixels as they are stored

    @property
    def table(self) -> int:
        """0, 1 or 2: which of SIDES is nearest, as a ratio."""
        return min(range(3), key=lambda at: max(SIDES[at] / self.side, self.side / SIDES[at]))

    def level(self, severity: int, *tables: Sequence[Level]) -> Level:
        """The setting of a severity from the three published rows of five."""
        return tables[self.table][severity - 1]

    @property
    def fineness(self) -> int:
        """Pixels of the finer canvas for each pixel of a side."""
        return max(1, round(SIDES[self.table] / self.side))

    @property
    def scale(self) -> float:
        """Pixels of the canvas for each pixel of the table's pictures."""
        return self.side * self.fineness / SIDES[self.table]

    def enlarged(self, x: Tensor) -> Tensor:
        """On the finer canvas."""
        fine = self.fineness
        return x.repeat_interleave(fine, -2).repeat_interleave(fine, -1) if fine > 1 else x

    def reduced(self, x: Tensor) -> Tensor:
        """Back from it."""
        fine = self.fineness
        return torch.nn.functional.avg_pool2d(x, fine) if fine > 1 else x


def corrupted(images: Tensor, ids: Tensor, name: str, severity: int, *, seed: int = 0) -> Tensor:
    """Pictures (B, H, W, C) uint8 under a corruption of datasets/corruptions.py, on the device where they are.

    What befalls a picture is a function of (seed, id); a higher severity has the draws of a lower one.
    """
    from datasets import corruptions

    x = images.permute(0, 3, 1, 2).float() / 255
    root = order.key("corruption", name, seed)
    scene = Scene(Draws(root, ids.to(images.device)), min(images.shape[1:3]))
    out: Tensor = getattr(corruptions, name)(x, scene, severity=severity)
    # Halves go up: means of a few levels are often halves, and a sum's last bit must not decide.
    return (
        (out.clamp(0, 1) * 255 + 2**-10).round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    )
