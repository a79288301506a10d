"""Layers that weather lays over pictures: clouds of fog, crystals of frost. (B, H, W) float32."""

# B batch, H height, W width

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.corrupting.draws import Draws
from datasets.corrupting.filters import gaussian


def plasma(draws: Draws, height: int, width: int, decay: float) -> Tensor:
    """Diamond-square clouds from 0 to 1, cut from a square of a power of two as in ImageNet-C.

    What is drawn for a midpoint is scaled by wibble twice, as the publishers do, so it shrinks by decay² a level.
    """
    side = max(2, 2 ** math.ceil(math.log2(max(height, width))))
    cloud = torch.zeros(len(draws.ids), side, side, device=draws.ids.device)
    step, wibble = side, 100.0
    while step >= 2:
        half, cells = step // 2, side // step
        wobble = wibble**2 * (2 * draws.of(f"level {step}").uniform(3, cells, cells) - 1)
        corner = cloud[:, ::step, ::step]
        pair = corner + corner.roll(-1, 1)
        cloud[:, half::step, half::step] = (pair + pair.roll(-1, 2)) / 4 + wobble[:, 0]
        middle, corner = cloud[:, half::step, half::step], cloud[:, ::step, ::step]
        upper = middle + middle.roll(1, 1) + corner + corner.roll(-1, 2)
        cloud[:, ::step, half::step] = upper / 4 + wobble[:, 1]
        left = middle + middle.roll(1, 2) + corner + corner.roll(-1, 1)
        cloud[:, half::step, ::step] = left / 4 + wobble[:, 2]
        step, wibble = half, wibble / decay
    cloud = cloud - cloud.amin((1, 2), keepdim=True)
    return (cloud / cloud.amax((1, 2), keepdim=True))[:, :height, :width]


# Means and deviations of the publishers' photographs, which this stands for (0 to 255).
FROST_MEAN, FROST_DEVIATION = 145.0, 33.0


def frost(draws: Draws, height: int, width: int, crystal: float) -> Tensor:
    """Ice on a pane, 0 to 255: feathers of crystals `crystal` pixels long over a slow cloud.

    The publishers lay five photographs over the pictures, which are not ours to ship. This is drawn: noise drawn out along
    a direction of its own, three times, the sharp ridges kept, then brought to the photographs' mean and
    deviation of brightness.
    """
    feathers = torch.stack(
        [
            _grained(draws.of(f"feathers {turn}"), height, width, crystal, turn / 3)
            for turn in range(3)
        ]
    )
    cloud = draws.of("cloud").normal(1, height, width)
    cloud = gaussian(cloud, 1.5 * crystal, mode="symmetric")[:, 0]
    ice = _standard(feathers.amax(0)) + 0.8 * _standard(cloud)
    return (FROST_MEAN + FROST_DEVIATION * _standard(ice)).clamp(0, 255)


def _grained(draws: Draws, height: int, width: int, length: float, turn: float) -> Tensor:
    """Noise whose grains are `length` long and an eighth as wide, at `turn` half-turns and up to a third more."""
    diagonal = math.hypot(height, width)
    along, across = (max(2, math.ceil(diagonal / grain)) for grain in (length, max(1, length / 8)))
    grains = draws.normal(1, across, along)
    angle = math.pi * (turn + draws.of("angle").uniform(1)[:, 0, None, None] / 3)
    row = torch.linspace(-height, height, height, device=angle.device)[:, None] / diagonal
    column = torch.linspace(-width, width, width, device=angle.device) / diagonal
    places = column * angle.cos() + row * angle.sin(), row * angle.cos() - column * angle.sin()
    grid = torch.stack(places, dim=-1)
    return F.grid_sample(grains, grid, padding_mode="reflection", align_corners=True)[:, 0].abs()


def _standard(x: Tensor) -> Tensor:
    """Every picture's mean 0 and deviation 1."""
    centred = x - x.mean((1, 2), keepdim=True)
    return centred / centred.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-6)
