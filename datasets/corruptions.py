"""The fifteen corruptions of ImageNet-C (Hendrycks and Dietterich, arXiv 1903.12261), five severities each.

A corruption maps pictures (B, C, H, W) float32 in [0, 1], which it leaves as they are, and their scene
(datasets/corrupting/scene.py) to pictures of the same shape, whose excess over [0, 1] is cut. The three rows of five are the
published settings of ImageNet-C, Tiny-ImageNet-C and CIFAR-10-C. Two differ from the publishers' pictures: frost is drawn
instead of photographed, and nothing is stored as JPEG in between. A new one is a new public function here.
"""

# B batch, C channel, H height, W width

from __future__ import annotations

import functools
import io

import numpy as np
import torch
from torch import Tensor

from datasets.corrupting import clouds, filters
from datasets.corrupting.scene import Scene
from datasets.ranges import Severity


def gaussian_noise(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """Normal noise on every pixel and channel."""
    deviation = scene.level(
        severity,
        (0.08, 0.12, 0.18, 0.26, 0.38),
        (0.04, 0.08, 0.12, 0.15, 0.18),
        (0.04, 0.06, 0.08, 0.09, 0.10),
    )
    return x + deviation * scene.draws.normal(*x.shape[1:])


def shot_noise(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """Poisson noise: light that comes in few photons."""
    photons = scene.level(
        severity, (60, 25, 12, 5, 3), (250, 100, 50, 30, 15), (500, 250, 100, 75, 50)
    )
    value = (x * 255).round().long()
    # A row of the table for each of 256 values, one after another: one sorted search draws from all of them.
    table = _poisson(photons).to("cpu" if x.device.type == "mps" else x.device)
    wanted = scene.draws.uniform(*x.shape[1:]).double().to(table.device) + 2 * value.to(
        table.device
    )
    count = (
        torch.searchsorted(table.flatten(), wanted, right=True).to(x.device)
        - value * table.shape[1]
    )
    return count.float() / photons


@functools.lru_cache(maxsize=8)
def _poisson(photons: int) -> Tensor:
    """(256, K): for a pixel of value v, 2 v + the chance of at most k photons."""
    from scipy.stats import poisson

    values = np.arange(256)[:, None]
    counts = np.arange(int(photons + 12 * photons**0.5 + 20))
    return torch.from_numpy(poisson.cdf(counts, values * photons / 255) + 2 * values)


def impulse_noise(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """Salt and pepper: values that became 0 or 1."""
    share = scene.level(
        severity,
        (0.03, 0.06, 0.09, 0.17, 0.27),
        (0.01, 0.02, 0.05, 0.08, 0.14),
        (0.01, 0.02, 0.03, 0.05, 0.07),
    )
    hit = scene.draws.uniform(*x.shape[1:]) < share
    salt = scene.draws.of("salt").uniform(*x.shape[1:]) < 0.5
    return torch.where(hit, salt.float(), x)


def defocus_blur(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """Out of focus: a disc for every point."""
    radius, rim = scene.level(
        severity,
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    )
    return scene.reduced(filters.defocus(scene.enlarged(x), radius * scene.scale, rim))


def glass_blur(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """Frosted glass: every pixel takes a near one's place, between two slight blurs.

    Pixel after pixel, from the last to the first. The published pictures were made by a swap of numpy views, which copies one
    pixel over the other; so does this.
    """
    sigma, delta, rounds = scene.level(
        severity,
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    )
    reach, sigma = max(1, round(delta * scene.scale)), sigma * scene.scale
    fine = scene.enlarged(x)
    soft = (filters.gaussian(fine, sigma) * 255).floor() / 255
    for each in range(rounds):
        shifts = scene.draws.of(f"round {each}").integers(2 * reach, 2, *fine.shape[-2:]) - reach
        soft = filters.scattered(soft, shifts[:, 0], shifts[:, 1], reach)
    return scene.reduced(filters.gaussian(soft, sigma))


def motion_blur(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """The camera moved, in a direction of up to 45 degrees from the horizon."""
    radius, sigma = scene.level(
        severity,
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    )
    angle = 90 * scene.draws.uniform(1)[:, 0] - 45
    fine = scene.enlarged(x)
    return scene.reduced(filters.streaks(fine, radius * scene.scale, sigma * scene.scale, angle))


def zoom_blur(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """Towards the picture while the shutter is open: the mean over zooms up to a third."""
    small = ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))
    large = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
    end, step = scene.level(severity, large, small, small)
    fine = scene.enlarged(x)
    factors = np.arange(1, end, step)
    total = fine.clone()
    for factor in factors:
        total += filters.zoomed(fine, float(factor))
    return scene.reduced(total / (len(factors) + 1))


def snow(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """Flakes that fall in streaks, and a whitened picture."""
    small = (
        *((0.1, 0.2, 1, 0.6, 8, 3), (0.1, 0.2, 1, 0.5, 10, 4), (0.15, 0.3, 1.75, 0.55, 10, 4)),
        *((0.25, 0.3, 2.25, 0.6, 12, 6), (0.3, 0.3, 1.25, 0.65, 14, 12)),
    )
    large = (
        *((0.1, 0.3, 3, 0.5, 10, 4), (0.2, 0.3, 2, 0.5, 12, 4), (0.55, 0.3, 4, 0.9, 12, 8)),
        *((0.55, 0.3, 4.5, 0.85, 12, 8), (0.55, 0.3, 2.5, 0.85, 12, 12)),
    )
    mean, deviation, zoom, least, radius, sigma = scene.level(severity, large, small, small)
    kept = scene.level(
        severity,
        (0.8, 0.7, 0.7, 0.65, 0.55),
        (0.8, 0.8, 0.7, 0.65, 0.6),
        (0.95, 0.9, 0.9, 0.85, 0.8),
    )
    fine = scene.enlarged(x)
    flakes = mean + deviation * scene.draws.normal(1, *fine.shape[-2:])
    flakes = filters.zoomed(flakes, zoom)
    flakes = (torch.where(flakes < least, 0, flakes).clamp(0, 1) * 255).floor() / 255
    angle = -45 - 90 * scene.draws.of("angle").uniform(1)[:, 0]
    flakes = filters.streaks(flakes, radius * scene.scale, sigma * scene.scale, angle)
    white = kept * fine + (1 - kept) * torch.maximum(fine, 1.5 * _gray(fine) + 0.5)
    return scene.reduced((white + flakes + flakes.flip(-1, -2)).clamp(0, 1))


def _gray(x: Tensor) -> Tensor:
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    weights = x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True)


def frost(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """Ice crystals on a pane, drawn (the publishers lay photographs over the pictures)."""
    kept, ice = scene.level(
        severity,
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    )
    fine = scene.enlarged(x)
    # The publishers shrink their photographs with the picture: to .3 for 64 pixels, to .2 for 32.
    crystal = scene.level(severity, [12.0] * 5, [3.6] * 5, [2.4] * 5) * scene.scale
    height, width = fine.shape[-2:]
    layer = clouds.frost(scene.draws, height, width, crystal)[:, None] / 255
    return scene.reduced((kept * fine + ice * layer).clamp(0, 1))


def fog(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """Clouds over the picture, which takes back as much contrast."""
    thickness, decay = scene.level(
        severity,
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    )
    fine = scene.enlarged(x)
    most = x.amax((1, 2, 3), keepdim=True)
    height, width = fine.shape[-2:]
    cloud = clouds.plasma(scene.draws, height, width, decay)[:, None]
    return scene.reduced(((fine + thickness * cloud) * most / (most + thickness)).clamp(0, 1))


def brightness(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """More light: the value of HSV raised, hue and saturation kept."""
    large = (0.1, 0.2, 0.3, 0.4, 0.5)
    more = scene.level(severity, large, large, (0.05, 0.1, 0.15, 0.2, 0.3))
    value = x.amax(1, keepdim=True)
    raised = (value + more).clamp(max=1)
    # Hue and saturation are ratios to the value; black has neither, and becomes gray.
    return torch.where(value > 0, x * raised / value.clamp(min=1e-12), raised)


def contrast(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """Less difference from each channel's mean."""
    large = (0.4, 0.3, 0.2, 0.1, 0.05)
    kept = scene.level(severity, large, large, (0.75, 0.5, 0.4, 0.3, 0.15))
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * kept + mean


def elastic_transform(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """Stretched: three points of the picture moved, then every pixel by a smooth field."""
    strength, smooth, corner = scene.level(
        severity,
        # Of 244 pixels, as published, whatever the side.
        ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
        ((0, 0, 0.08), (0.05, 0.3, 0.06), (0.1, 0.08, 0.06), (0.1, 0.03, 0.03), (0.16, 0.03, 0.02)),
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    )
    fine = scene.enlarged(x)
    side = min(fine.shape[-2:]) * (244 / 224 if scene.table == 0 else 1.0)
    rows, columns = _moved(fine, scene, corner * side)
    turned = filters.sampled(fine, rows, columns, edge=False)
    height, width = fine.shape[-2:]
    field = 2 * scene.draws.of("field").uniform(2, height, width) - 1
    field = filters.gaussian(field, smooth * side, mode="symmetric", truncate=3) * strength * side
    rows = torch.arange(height, device=x.device)[:, None] + field[:, 0]
    columns = torch.arange(width, device=x.device) + field[:, 1]
    return scene.reduced(filters.sampled(turned, rows, columns, edge=True))


def _moved(x: Tensor, scene: Scene, most: float) -> tuple[Tensor, Tensor]:
    """Where each pixel comes from, (B, H, W) rows and columns, when three points move by up to `most` pixels."""
    height, width = x.shape[-2:]
    middle, third = x.new_tensor([width // 2, height // 2]), min(height, width) // 3
    away = x.new_tensor([[third, third], [third, -third], [-third, -third]])
    before = middle + away
    after = before + most * (2 * scene.draws.of("points").uniform(3, 2) - 1)
    ones = after.new_ones(len(x), 3, 1)
    # The affine map that leads from where the points are now to where they were.
    back = torch.linalg.solve(torch.cat([after, ones], -1), before.expand(len(x), 3, 2))
    row, column = torch.meshgrid(
        torch.arange(height, device=x.device), torch.arange(width, device=x.device), indexing="ij"
    )
    here = torch.stack([column, row, torch.ones_like(row)], -1).to(x.dtype)
    source = torch.einsum("hwk,bkd->bhwd", here, back)
    return source[..., 1], source[..., 0]


def pixelate(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """Resized to a share of its side, and back."""
    share = scene.level(
        severity,
        (0.6, 0.5, 0.4, 0.3, 0.25),
        (0.9, 0.8, 0.7, 0.6, 0.5),
        (0.95, 0.9, 0.85, 0.75, 0.65),
    )
    height, width = x.shape[-2:]
    small = filters.boxed(x, (max(1, int(height * share)), max(1, int(width * share))))
    return filters.boxed((small * 255).round() / 255, (height, width))


def jpeg_compression(x: Tensor, scene: Scene, *, severity: Severity = 3) -> Tensor:
    """Through JPEG of low quality, by Pillow on the host."""
    from PIL import Image

    quality = scene.level(severity, (25, 18, 15, 10, 7), (65, 58, 50, 40, 25), (80, 65, 58, 50, 40))
    pixels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    colour = pixels.shape[3] == 3
    # Other channels than red, green and blue are pictures of their own.
    planes = pixels if colour else pixels.transpose(0, 3, 1, 2).reshape(-1, *pixels.shape[1:3])
    found = []
    for plane in planes:
        file = io.BytesIO()
        Image.fromarray(plane).save(file, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(file)))
    out = torch.from_numpy(np.stack(found)).to(x.device).float() / 255
    return out.permute(0, 3, 1, 2) if colour else out.view(x.shape)
