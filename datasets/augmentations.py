"""Alterations of one picture at a time, by torchvision's kernels with draws of ours: what transforms.py has doors to.

torchvision's own transforms draw from global generators, so they need processes of their own; these run in the decoding
threads, each a function of (key, id). Torchvision is imported at the first picture, which takes seconds once.
"""

# C channel, H height, W width

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from datasets import order

if TYPE_CHECKING:
    from torch import Tensor

Draws: TypeAlias = NDArray[np.float64]  # of one picture: numbers in [0, 1)
Alter: TypeAlias = "Callable[[Tensor, Draws], Tensor]"  # (C, H, W) uint8 -> the same
MOST_DRAWS = 32
BINS = 31  # of magnitudes, in both papers
_ALONE = 4096  # pixels, below which torch's sampling is one thread's


@dataclass(frozen=True)
class PerPicture:
    """A transform of batches that alters each picture by itself. It is `costly`: worth threads even where all is in memory."""

    alter: Alter
    costly: bool = True

    def __call__(
        self, images: NDArray[np.uint8], ids: NDArray[np.int64], key: int
    ) -> NDArray[np.uint8]:
        import torch

        draws = order.uniform(key, ids[:, None], np.arange(MOST_DRAWS))
        done = np.empty_like(images)
        for place in range(len(images)):
            image_CHW = torch.from_numpy(images[place].copy()).permute(2, 0, 1)
            altered = self.alter(image_CHW, draws[place])
            done[place] = altered.permute(1, 2, 0).numpy()
        return done


@dataclass(frozen=True)
class Turned:
    """Each by an angle in ±degrees, bilinear; the corners are black. Torchvision's `rotate`, many small pictures at a time."""

    degrees: float
    costly: bool = True

    def __call__(
        self, images: NDArray[np.uint8], ids: NDArray[np.int64], key: int
    ) -> NDArray[np.uint8]:
        import torch
        from torch.nn.functional import grid_sample

        draws = order.uniform(key, ids[:, None], np.arange(1))[:, 0]
        height, width = images.shape[1:3]
        done = np.empty_like(images)
        # As few pixels as torch has one thread take: whoever decodes beside others starts none of its own.
        many = max(1, _ALONE // (height * width))
        for first in range(0, len(images), many):
            part = slice(first, first + many)
            grid_BHW2 = _grid(height, width, self.degrees * (2 * draws[part] - 1))
            pixels_BCHW = torch.from_numpy(images[part].copy()).permute(0, 3, 1, 2).float()
            turned_BCHW = grid_sample(pixels_BCHW, grid_BHW2, align_corners=False).round_()
            done[part] = turned_BCHW.to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return done


def _grid(height: int, width: int, degrees: NDArray[np.float64]) -> Tensor:
    """(B, H, W, 2): where each pixel comes from, of pictures turned counter-clockwise about their middles."""
    import torch

    turn = np.radians(-(degrees % 360))
    cos, sin = np.cos(turn), np.sin(turn)
    # Of torchvision's inverse matrix the part that turns, in pixels from the middle, then in halves of a side.
    turn_B22 = torch.from_numpy(np.stack([cos, sin, -sin, cos], 1).reshape(-1, 2, 2)).float()
    scaled_B22 = turn_B22.transpose(1, 2) / torch.tensor([0.5 * width, 0.5 * height])
    x = torch.linspace((1.0 - width) * 0.5, (width - 1.0) * 0.5, width)
    y = torch.linspace((1.0 - height) * 0.5, (height - 1.0) * 0.5, height)
    places_P2 = torch.stack(torch.meshgrid(x, y, indexing="xy"), 2).view(-1, 2)
    return (places_P2 @ scaled_B22).view(len(degrees), height, width, 2)


def gray(probability: float) -> Alter:
    """All channels the same, their luminance."""

    def alter(image: Tensor, draws: Draws) -> Tensor:
        from torchvision.transforms.v2 import functional

        if draws[0] >= probability or len(image) == 1:
            return image
        grey: Tensor = functional.rgb_to_grayscale(image, num_output_channels=3)
        return grey

    return alter


def jittered(strengths: Mapping[str, float], probability: float) -> Alter:
    """Brightness, contrast, saturation and hue by factors of their own, in an order of its own."""
    names = ("brightness", "contrast", "saturation", "hue")

    def alter(image: Tensor, draws: Draws) -> Tensor:
        from torchvision.transforms.v2 import functional

        if draws[0] >= probability:
            return image
        for place in np.argsort(draws[1:5]):
            name = names[place]
            strength = strengths.get(name, 0.0)
            if not strength or (len(image) == 1 and name in ("saturation", "hue")):
                continue
            push = strength * (2 * float(draws[5 + place]) - 1)
            factor = push if name == "hue" else max(0.0, 1 + push)
            image = getattr(functional, f"adjust_{name}")(image, factor)
        return image

    return alter


def blurred(low: float, high: float, probability: float) -> Alter:
    """By a Gaussian whose width, in pixels, lies between the two; its kernel is a tenth of the picture, as SimCLR's."""

    def alter(image: Tensor, draws: Draws) -> Tensor:
        import torch
        from torch.nn import functional

        if draws[0] >= probability:
            return image
        reach = max(1, min(image.shape[-2:]) // 20)
        sigma = low + (high - low) * float(draws[1])
        weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
        weights = (weights / weights.sum()).view(1, 1, 1, -1)
        # Two passes of k weights in the place of one of k x k.
        soft = functional.pad(image.float()[:, None], [reach] * 4, mode="reflect")
        soft = functional.conv2d(functional.conv2d(soft, weights), weights.mT)
        return soft[:, 0].round().to(torch.uint8)

    return alter


def rand_augmented(ops: int, magnitude: int) -> Alter:
    """`ops` operations drawn from 14, all at one of 31 magnitudes (RandAugment, arXiv 1909.13719)."""

    def alter(image: Tensor, draws: Draws) -> Tensor:
        for number in range(ops):
            name = _RAND[int(draws[2 * number] * len(_RAND))]
            image = operated(
                image, name, _strength(name, magnitude, image, _NARROW), draws[2 * number + 1] < 0.5
            )
        return image

    return alter


def trivially_augmented() -> Alter:
    """One operation at a drawn magnitude, from wide ranges (TrivialAugment, arXiv 2103.10158)."""

    def alter(image: Tensor, draws: Draws) -> Tensor:
        name = _RAND[int(draws[0] * len(_RAND))]
        strength = _strength(name, int(draws[1] * BINS), image, _WIDE)
        return operated(image, name, strength, draws[2] < 0.5)

    return alter


_RAND = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness"),
    *("color", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize"),
)
_SIGNED = frozenset(_RAND[1:10])
# The largest magnitude of each; of translations a share of the side, or pixels where above 1; of posterize the bits lost.
_NARROW = {
    **dict.fromkeys(("shear_x", "shear_y"), 0.3),
    **dict.fromkeys(("translate_x", "translate_y"), 150 / 331),
    **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), 0.9),
    "rotate": 30.0,
    "posterize": 4.0,
}
_WIDE = {
    **dict.fromkeys(("shear_x", "shear_y"), 0.99),
    **dict.fromkeys(("translate_x", "translate_y"), 32.0),
    **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), 0.99),
    "rotate": 135.0,
    "posterize": 6.0,
}


def _strength(name: str, bin: int, image: Tensor, largest: Mapping[str, float]) -> float:
    share = bin / (BINS - 1)
    if name == "posterize":
        return 8 - round(share * largest[name])
    if name == "solarize":
        return 1 - share
    most = largest.get(name, 0.0)
    if name.startswith("translate") and most <= 1:
        most *= image.shape[-1 if name == "translate_x" else -2]
    return share * most


def operated(image: Tensor, name: str, strength: float, backwards: bool) -> Tensor:
    """One operation of the two policies; `backwards` turns the sign of those that have one."""
    from torchvision.transforms.v2 import functional

    if backwards and name in _SIGNED:
        strength = -strength
    if name.startswith(("shear", "translate")):
        return _moved(image, name, strength)
    if name == "rotate":
        turned: Tensor = functional.rotate(image, strength)
        return turned
    factors = {"brightness": "brightness", "color": "saturation", "contrast": "contrast"}
    altered = image
    if name in (*factors, "sharpness"):
        if name == "color" and len(image) == 1:
            return image
        adjust = getattr(functional, f"adjust_{factors.get(name, name)}")
        altered = adjust(image, 1 + strength)
    elif name == "posterize":
        altered = functional.posterize(image, int(strength))
    elif name == "solarize":
        altered = functional.solarize(image, 255 * strength)
    elif name in ("autocontrast", "equalize"):
        altered = getattr(functional, name)(image)
    return altered


def _moved(image: Tensor, name: str, strength: float) -> Tensor:
    from torchvision.transforms.v2 import functional

    along = int(name.endswith("_y"))
    slant, shift = [0.0, 0.0], [0, 0]
    if name.startswith("shear"):
        slant[along] = math.degrees(math.atan(strength))
    else:
        shift[along] = int(strength)
    moved: Tensor = functional.affine(
        image,
        angle=0.0,
        translate=shift,
        scale=1.0,
        shear=slant,
        center=[0, 0] if name.startswith("shear") else None,
    )
    return moved
