"""The draws of order.py on a device: the same numbers, but for float32, without a copy from the host.

A draw is a function of (key, id, place) alone, so what befalls a picture hangs neither on its batch nor on the device.
"""

# B batch, n numbers a sample

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets import order

# Order's 64 bits, as the signed ones that torch has; products wrap alike.
_GOLDEN, _MIX_1, _MIX_2 = (
    value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


@dataclass(frozen=True)
class Draws:
    """Numbers for samples with these ids, (B,) int64, from one key."""

    key: int
    ids: Tensor

    def of(self, name: str) -> Draws:
        """Draws of another kind for the same samples."""
        return Draws(order.extended(self.key, name), self.ids)

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) float32 in [0, 1)."""
        bits = _hashes(self.key, self.ids, math.prod(shape))
        # 24 bits are what a float32 holds; more would round up to 1.
        return (_shifted(bits, 40).float() * 2.0**-24).view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) float32, standard normal, by Box and Muller."""
        count = math.prod(shape)
        pairs = self.uniform((count + 1) // 2 * 2).view(len(self.ids), -1, 2)
        radius = (-2 * torch.log1p(-pairs[..., 0])).sqrt()
        angle = 2 * math.pi * pairs[..., 1]
        both = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1)
        return both.flatten(1)[:, :count].reshape(-1, *shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        """(B, *shape) int64 in 0 .. high - 1."""
        bits = _shifted(_hashes(self.key, self.ids, math.prod(shape)), 32)
        return ((bits * high) >> 32).view(-1, *shape)


def _hashes(key: int, ids: Tensor, count: int) -> Tensor:
    """`order.hashes` of draws 0 .. count - 1: (B, count) int64 of 64 random bits."""
    draws = torch.arange(1, count + 1, device=ids.device) * _GOLDEN
    root = key - 2**64 if key >= 2**63 else key
    return _mixed(ids[:, None] * _GOLDEN + _mixed(draws + root))


def _mixed(bits: Tensor) -> Tensor:
    """Order's finaliser, in place: these are as many numbers as the pixels of a batch."""
    for by, factor in ((30, _MIX_1), (27, _MIX_2)):
        bits ^= _shifted(bits, by)
        bits *= factor
    bits ^= _shifted(bits, 31)
    return bits


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Shifted to the right as if there were no sign."""
    return (bits >> by).bitwise_and_((1 << (64 - by)) - 1)
