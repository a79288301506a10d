"""Training transforms of whole uint8 batches, each a factory: `pad_crop(padding=1)`.

A transform maps images (B, H, W, C) uint8, their ids (B,) int64 and a key to new images of the same
shape. What happens to a sample is a function of (key, id) alone, whatever else is in its batch. The
stream gives each transform of a pipeline a key of its own. A new one is a new public function here.
"""

# B batch, H height, W width, C channel

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from datasets import augmentations, order
from datasets.augmentations import PerPicture
from datasets.refusal import Refusal

Images: TypeAlias = NDArray[np.uint8]
Transform: TypeAlias = Callable[[Images, NDArray[np.int64], int], Images]


def pad_crop(*, padding: int = 1, share: float = 0.0) -> Transform:
    """Shifts by up to `padding` pixels each way, or by a `share` of the side, filling with zeros: pad, then a random crop."""
    _check("padding", padding, 1 <= padding <= 64, "use 1 .. 64 pixels")
    _check("share", share, 0 <= share <= 0.5, "use a number from 0, which means `padding`, to .5")
    pixels = padding

    def transform(images: Images, ids: NDArray[np.int64], key: int) -> Images:
        num_images, height, width, channels = images.shape
        padding = max(1, round(share * min(height, width))) if share else pixels
        padded = np.zeros(
            (num_images, height + 2 * padding, width + 2 * padding, channels), np.uint8
        )
        padded[:, padding:-padding, padding:-padding] = images
        down = order.integers(key, ids, 0, 2 * padding + 1)
        right = order.integers(key, ids, 1, 2 * padding + 1)
        # All crops of all images as one view; picking from it copies whole rows of pixels.
        image, row, pixel, _ = padded.strides
        shifts = 2 * padding + 1
        crops = as_strided(
            padded,
            shape=(num_images, shifts, shifts, height, width * channels),
            strides=(image, row, pixel, row, 1),
            writeable=False,
        )
        chosen: Images = crops[np.arange(num_images), down, right].reshape(images.shape)
        return chosen

    return transform


def flip(*, probability: float = 0.5) -> Transform:
    """Mirrors left and right."""
    _check("probability", probability, 0 <= probability <= 1, "use a number from 0 to 1")

    def transform(images: Images, ids: NDArray[np.int64], key: int) -> Images:
        import torch  # packing and listing need none

        chosen = np.flatnonzero(order.uniform(key, ids, 0) < probability)
        flipped = images.copy()
        for (
            place
        ) in chosen.tolist():  # torch's kernel: a twentieth of numpy's time [12 µs at 224 x 224]
            image = torch.from_numpy(flipped[place])
            image.copy_(image.flip(1))
        return flipped

    return transform


def erase(*, probability: float = 0.5, share: float = 0.25) -> Transform:
    """Blackens a rectangle whose sides are at most sqrt(share) of the image's (arXiv 1708.04896)."""
    _check("probability", probability, 0 <= probability <= 1, "use a number from 0 to 1")
    _check("share", share, 0 < share <= 1, "use a number above 0, at most 1")

    def transform(images: Images, ids: NDArray[np.int64], key: int) -> Images:
        _, height, width, _ = images.shape
        chosen = order.uniform(key, ids, 0) < probability
        down = _covered(height, share, order.uniform(key, ids, 1), order.uniform(key, ids, 2))
        right = _covered(width, share, order.uniform(key, ids, 3), order.uniform(key, ids, 4))
        hidden = down[:, :, None] & right[:, None, :] & chosen[:, None, None]
        erased: Images = images * ~hidden[..., None]
        return erased

    return transform


def brightness(*, strength: float = 0.2) -> Transform:
    """Multiplies each image by its own factor in [1 - strength, 1 + strength]."""
    _check("strength", strength, 0 <= strength <= 1, "use a number from 0 to 1")

    def transform(images: Images, ids: NDArray[np.int64], key: int) -> Images:
        factors = 1 + strength * (2 * order.uniform(key, ids, 0) - 1)
        # In 1/256, so that rounding is the same on every machine.
        scaled = images * np.round(factors * 256).astype(np.uint32)[:, None, None, None]
        scaled = np.minimum((scaled + 128) >> 8, 255)
        return np.asarray(scaled, np.uint8)

    return transform


def rotate(*, degrees: float = 45.0) -> Transform:
    """Turns by an angle in ±degrees, bilinear; the corners are black."""
    _check("degrees", degrees, 0 < degrees <= 180, "use a number above 0, at most 180")
    return augmentations.Turned(degrees)


def grayscale(*, probability: float = 0.5) -> Transform:
    """Takes the colours away."""
    _check("probability", probability, 0 <= probability <= 1, "use a number from 0 to 1")
    return PerPicture(augmentations.gray(probability))


def jitter(
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    probability: float = 1.0,
) -> Transform:
    """Factors in [1 - strength, 1 + strength] of brightness, contrast and saturation, a turn of hue in ±hue, in any order."""
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, strength in strengths.items():
        _check(name, strength, strength >= 0, "use 0 or more")
    _check("hue", hue, 0 <= hue <= 0.5, "use a number from 0 to .5")
    _check("probability", probability, 0 <= probability <= 1, "use a number from 0 to 1")
    return PerPicture(augmentations.jittered({**strengths, "hue": hue}, probability))


def blur(*, low: float = 0.1, high: float = 2.0, probability: float = 0.5) -> Transform:
    """A Gaussian blur of `low` to `high` pixels; the kernel is a tenth of the side."""
    _check("low", low, 0 < low <= high, "use a number above 0, at most high")
    _check("probability", probability, 0 <= probability <= 1, "use a number from 0 to 1")
    return PerPicture(augmentations.blurred(low, high, probability))


def rand_augment(*, ops: int = 2, magnitude: int = 9) -> Transform:
    """RandAugment (arXiv 1909.13719): `ops` of 14 operations at a magnitude of 0 to 30."""
    _check("ops", ops, 1 <= ops <= 8, "use 1 .. 8")
    _check("magnitude", magnitude, 0 <= magnitude <= 30, "use 0 .. 30")
    return PerPicture(augmentations.rand_augmented(ops, magnitude))


def trivial_augment() -> Transform:
    """TrivialAugment (arXiv 2103.10158): one operation at a drawn magnitude."""
    return PerPicture(augmentations.trivially_augmented())


def _covered(
    size: int, share: float, extent: NDArray[np.float64], place: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(B, size): which pixels of a side lie in its random interval, at least one pixel long."""
    longest = max(1, int(size * share**0.5))
    length = 1 + (extent * longest).astype(np.int64)
    start = (place * (size - length + 1)).astype(np.int64)
    pixels = np.arange(size)
    return (pixels >= start[:, None]) & (pixels < (start + length)[:, None])


def _check(name: str, value: float, holds: bool, remedy: str) -> None:
    if not holds:
        raise Refusal(
            f"{value} is not a {name}",
            path=name,
            value=value,
            remedy=remedy,
        )
