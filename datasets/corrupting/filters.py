"""Blurs, zooms and shifts of batches of pictures (B, C, H, W) float32, as the publishers of ImageNet-C apply them."""

# B batch, C channel, H height, W width

from __future__ import annotations

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian(x: Tensor, sigma: float, *, mode: str = "edge", truncate: float = 4.0) -> Tensor:
    """A Gaussian blur, borders as numpy.pad's `mode`: matrices hold what a kernel wider than the picture folds back."""
    if sigma <= 0:
        return x
    down, right = (_smoothing(size, sigma, mode, truncate).to(x.device) for size in x.shape[-2:])
    return down @ x @ right.T


@functools.lru_cache(maxsize=64)
def _smoothing(size: int, sigma: float, mode: str, truncate: float) -> Tensor:
    """(size, size): row i holds the weights of the pixels that pixel i becomes."""
    reach = int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    places = np.pad(np.arange(size), reach, mode=mode)  # type: ignore[call-overload]
    matrix = np.zeros((size, size))
    for shift, weight in enumerate(weights):
        np.add.at(matrix, (np.arange(size), places[shift : shift + size]), weight)
    return torch.from_numpy(matrix.astype(np.float32))


def defocus(x: Tensor, radius: float, alias: float) -> Tensor:
    """A disc of `radius` pixels, its rim softened by a Gaussian of `alias`; the border is mirrored."""
    kernel = _disc(radius, alias).to(x.device)
    reach = kernel.shape[-1] // 2
    padded = F.pad(x, (reach, reach, reach, reach), mode="reflect")
    channels = x.shape[1]
    return F.conv2d(padded, kernel.expand(channels, 1, -1, -1), groups=channels)


@functools.lru_cache(maxsize=64)
def _disc(radius: float, alias: float) -> Tensor:
    wide = radius > 8
    reach, soft = (math.ceil(radius), 2) if wide else (8, 1)
    side = np.arange(-reach, reach + 1)
    disc = (side[:, None] ** 2 + side**2 <= radius**2).astype(np.float64)
    rim = np.exp(-0.5 * (np.arange(-soft, soft + 1) / alias) ** 2)
    rim /= rim.sum()
    mirrored = np.pad(disc / disc.sum(), soft, mode="reflect")
    for axis in (0, 1):
        mirrored = np.apply_along_axis(np.convolve, axis, mirrored, rim, mode="valid")
    # Most of the frame is empty where the disc is small, and a picture may be smaller than it.
    filled = int(np.abs(np.argwhere(mirrored > 1e-7) - reach).max())
    kept = mirrored[reach - filled : reach + filled + 1, reach - filled : reach + filled + 1]
    return torch.from_numpy((kept / kept.sum()).astype(np.float32))


def streaks(x: Tensor, radius: float, sigma: float, angle_B: Tensor) -> Tensor:
    """ImageMagick's motion blur: each picture smeared one way, at `angle_B` degrees, with half a Gaussian as weights."""
    steps = 2 * math.ceil(radius) + 1
    weights = np.exp(-0.5 * (np.arange(steps) / sigma) ** 2)
    weights /= weights.sum()
    turn = torch.deg2rad(angle_B.cpu())
    away = torch.arange(steps)
    down = torch.ceil(away * turn.sin()[:, None] - 0.5).long().tolist()
    right = torch.ceil(away * turn.cos()[:, None] - 0.5).long().tolist()
    height, width = x.shape[-2:]
    padded = F.pad(x, (steps, steps, steps, steps), mode="replicate")
    out = torch.zeros_like(x)
    # A slice for each picture and step: a gather of all would take a hundred times as long.
    for place in range(len(x)):
        for step, weight in enumerate(weights.tolist()):
            top, left = steps + down[place][step], steps + right[place][step]
            part = padded[place, :, top : top + height, left : left + width]
            out[place].add_(part, alpha=weight)
    return out


def scattered(x: Tensor, down: Tensor, right: Tensor, reach: int) -> Tensor:
    """Each pixel takes the place of one near it, one after another from the last to the first, `reach` from the border.

    `down` and `right`, (B, H, W), lie within -reach .. reach - 1. A pixel that another one has taken from may be taken again,
    so the order matters; those that are reach + 1 columns apart for each row between them do not meet, and are moved at once.
    """
    height, width = x.shape[-2:]
    places = torch.arange(height * width, device=x.device).expand(len(x), -1).clone()
    near = places + (down * width + right).flatten(1)
    # Rows and columns reach + 1 .. size - reach, as published.
    tall, wide = height - 2 * reach, width - 2 * reach
    for moment in range((tall - 1) * (reach + 1) + wide if min(tall, wide) > 0 else 0):
        first = max(0, -(-(moment - wide + 1) // (reach + 1)))
        last = min(tall - 1, moment // (reach + 1))
        rows = torch.arange(first, last + 1, device=x.device)
        here = (height - reach - rows) * width + width - reach - (moment - rows * (reach + 1))
        places[:, here] = places.gather(1, near[:, here])
    flat = places[:, None].expand(-1, x.shape[1], -1)
    return x.flatten(2).gather(2, flat).view(x.shape)


def zoomed(x: Tensor, factor: float) -> Tensor:
    """The middle, enlarged by `factor` to the size of the whole, corner on corner."""
    height, width = x.shape[-2:]
    tall, wide = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - tall) // 2, (width - wide) // 2
    middle = x[..., top : top + tall, left : left + wide]
    size = max(height, round(tall * factor)), max(width, round(wide * factor))
    large = F.interpolate(middle, size, mode="bilinear", align_corners=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[..., top : top + height, left : left + width]


def boxed(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resized as Pillow does with `BOX`: a pixel is the mean of those whose middles it covers."""
    down, right = (
        _boxes(old, new).to(x.device) for old, new in zip(x.shape[-2:], size, strict=True)
    )
    return down @ x @ right.T


@functools.lru_cache(maxsize=64)
def _boxes(old: int, new: int) -> Tensor:
    scale = old / new
    support = 0.5 * max(scale, 1.0)
    matrix = np.zeros((new, old), np.float32)
    for row in range(new):
        middle = (row + 0.5) * scale
        first, last = max(0, int(middle - support + 0.5)), min(old, int(middle + support + 0.5))
        inside = [
            at for at in range(first, last) if -0.5 < (at + 0.5 - middle) / max(scale, 1.0) <= 0.5
        ]
        matrix[row, inside] = 1 / len(inside)
    return torch.from_numpy(matrix)


def sampled(x: Tensor, rows_BHW: Tensor, columns_BHW: Tensor, *, edge: bool) -> Tensor:
    """Bilinear between pixels at fractional places; beyond the border the picture is mirrored.

    Mirrored about its rim (`edge`, scipy's "reflect"), or about its outermost pixels (OpenCV's BORDER_REFLECT_101).
    """
    height, width = x.shape[-2:]
    if edge:  # align_corners=False mirrors about the rim
        grid = ((2 * columns_BHW + 1) / width - 1, (2 * rows_BHW + 1) / height - 1)
    else:
        grid = (2 * columns_BHW / max(1, width - 1) - 1, 2 * rows_BHW / max(1, height - 1) - 1)
    return F.grid_sample(
        x, torch.stack(grid, dim=-1), padding_mode="reflection", align_corners=not edge
    )
