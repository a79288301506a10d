"""The kernels are torchvision's, the draws ours: what a picture becomes at a magnitude is what torchvision makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode, functional

from datasets import augmentations, order, transforms
from datasets.refusal import Refusal

IMAGE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 20, 28), dtype=np.uint8))
IDS = np.arange(64, dtype=np.int64)
TORCHVISION = {
    **{"identity": "Identity", "shear_x": "ShearX", "shear_y": "ShearY", "rotate": "Rotate"},
    **{"translate_x": "TranslateX", "translate_y": "TranslateY", "brightness": "Brightness"},
    **{"color": "Color", "contrast": "Contrast", "sharpness": "Sharpness"},
    **{"posterize": "Posterize", "solarize": "Solarize", "autocontrast": "AutoContrast"},
    "equalize": "Equalize",
}


@pytest.mark.parametrize("name", TORCHVISION)
@pytest.mark.parametrize("policy", ["narrow", "wide"])
@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_an_operation_is_torchvisions(name: str, policy: str, magnitude: int) -> None:
    theirs = v2.RandAugment() if policy == "narrow" else v2.TrivialAugmentWide()
    largest = augmentations._NARROW if policy == "narrow" else augmentations._WIDE
    make, signed = theirs._AUGMENTATION_SPACE[TORCHVISION[name]]
    levels = make(augmentations.BINS, 20, 28)
    level = 0.0 if levels is None else float(levels[magnitude])
    strength = augmentations._strength(name, magnitude, IMAGE, largest)
    for backwards in (False, True) if signed else (False,):
        wanted = theirs._apply_image_or_video_transform(
            IMAGE,
            TORCHVISION[name],
            -level if backwards else level,
            v2.InterpolationMode.NEAREST,
            {},
        )
        ours = augmentations.operated(IMAGE, name, strength, backwards)
        # torchvision's magnitudes are float32: a level may round the other way.
        assert (ours.int() - wanted.int()).abs().max() <= 1


def pictures(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (64, 16, 16, channels), dtype=np.uint8)


def test_all_operations_are_drawn() -> None:
    drawn = np.random.default_rng(0).random((2000, augmentations.MOST_DRAWS))
    names = {augmentations._RAND[int(d[0] * len(augmentations._RAND))] for d in drawn}
    assert names == {*TORCHVISION}


def test_half_of_the_pictures_lose_their_colours() -> None:
    done = transforms.grayscale(probability=0.5)(pictures(), IDS, 3)
    grey = (done == done[..., :1]).all((1, 2, 3))
    assert 20 < grey.sum() < 44
    wanted = functional.rgb_to_grayscale(torch.from_numpy(pictures()).permute(0, 3, 1, 2), 3)
    np.testing.assert_array_equal(done[grey], wanted.permute(0, 2, 3, 1).numpy()[grey])


@pytest.mark.parametrize("draw", [0.0, 0.4, 0.99])
def test_a_blur_is_torchvisions(draw: float) -> None:
    alter = augmentations.blurred(0.5, 2.0, 1.0)
    image = functional.resize(IMAGE, [60, 80])
    sigma = 0.5 + 1.5 * draw
    wanted = functional.gaussian_blur(image, [7, 7], [sigma, sigma])
    ours = alter(image, np.array([0.0, draw]))
    assert (ours.int() - wanted.int()).abs().max() <= 1


def test_hue_alone_keeps_black_and_white() -> None:
    flat = np.zeros((4, 8, 8, 3), np.uint8)
    flat[2:] = 255
    assert np.array_equal(
        transforms.jitter(brightness=0, contrast=0, saturation=0, hue=0.5)(flat, IDS[:4], 0), flat
    )


@pytest.mark.parametrize("shape", [(70, 8, 8, 1), (150, 8, 10, 3), (5, 40, 33, 3), (2, 100, 90, 1)])
def test_rotate_is_torchvisions_to_the_bit(shape: tuple[int, ...]) -> None:
    """However many pictures are turned at a time, each by its own angle; none hangs on its neighbours."""
    images = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    ids = np.arange(100, 100 + len(images))
    found = transforms.rotate(degrees=180)(images, ids, 3)
    angles = 180 * (2 * order.uniform(3, ids[:, None], np.arange(1))[:, 0] - 1)
    for image, angle, ours in zip(images, angles.tolist(), found, strict=True):
        known = functional.rotate(
            torch.from_numpy(image).permute(2, 0, 1), angle, InterpolationMode.BILINEAR
        )
        assert np.array_equal(ours, known.permute(1, 2, 0).numpy())
    alone = transforms.rotate(degrees=180)(images[-1:], ids[-1:], 3)
    assert np.array_equal(alone[0], found[-1])


def test_brightness_lies_within_its_strength() -> None:
    flat = np.full((64, 4, 4, 3), 100, np.uint8)
    means = transforms.jitter(brightness=0.3, contrast=0, saturation=0, hue=0)(flat, IDS, 0).mean(
        (1, 2, 3)
    )
    assert means.min() >= 69 and means.max() <= 130 and means.std() > 10


def test_pictures_in_gray_have_no_colours_to_lose() -> None:
    gray = pictures(channels=1)
    for transform in (
        transforms.grayscale(probability=1),
        transforms.jitter(brightness=0, contrast=0, saturation=1, hue=0.5),
    ):
        assert np.array_equal(transform(gray, IDS, 0), gray)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("rotate", {"degrees": 0}),
        ("grayscale", {"probability": 1.5}),
        ("jitter", {"hue": 0.6}),
        ("jitter", {"contrast": -1}),
        ("blur", {"low": 3.0, "high": 2.0}),
        ("rand_augment", {"magnitude": 31}),
        ("rand_augment", {"ops": 0}),
    ],
)
def test_bad_arguments_are_refused(name: str, arguments: dict[str, float]) -> None:
    with pytest.raises(Refusal) as refused:
        getattr(transforms, name)(**arguments)
    assert refused.value.path in arguments
