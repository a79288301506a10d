"""Transforms: a function of (key, id), whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from datasets import transforms
from datasets.refusal import Refusal
from datasets.transforms import Images, Transform

FACTORIES: dict[str, Callable[..., Transform]] = {
    name: found
    for name, found in vars(transforms).items()
    if callable(found)
    and getattr(found, "__module__", "") == transforms.__name__
    and not name.startswith("_")
}
IDS = np.arange(100, 164, dtype=np.int64)


@pytest.fixture(params=[(8, 8, 1), (12, 7, 3)])
def images(request: pytest.FixtureRequest) -> Images:
    return np.random.default_rng(0).integers(1, 256, (64, *request.param), dtype=np.uint8)


@pytest.mark.parametrize("name", FACTORIES)
def test_a_sample_does_not_depend_on_its_batch(name: str, images: Images) -> None:
    transform, before = FACTORIES[name](), images.copy()
    whole = transform(images, IDS, 5)
    assert (whole.shape, whole.dtype) == (images.shape, np.uint8)
    assert np.array_equal(images, before)  # the split in memory is never written to
    shuffled = np.random.default_rng(1).permutation(64)
    assert np.array_equal(transform(images[shuffled], IDS[shuffled], 5), whole[shuffled])
    assert np.array_equal(transform(images[9:10], IDS[9:10], 5), whole[9:10])
    assert transform(images[:0], IDS[:0], 5).shape == images[:0].shape


@pytest.mark.parametrize("name", FACTORIES)
def test_the_key_decides(name: str, images: Images) -> None:
    if name == "grayscale" and images.shape[-1] == 1:
        pytest.skip("pictures in gray have no colours to lose")
    transform = FACTORIES[name]()
    assert np.array_equal(transform(images, IDS, 5), transform(images, IDS, 5))
    assert not np.array_equal(transform(images, IDS, 5), transform(images, IDS, 6))


def test_a_share_of_the_side_is_so_many_pixels(images: Images) -> None:
    side = min(images.shape[1:3])
    by_share = transforms.pad_crop(share=2.2 / side)(images, IDS, 3)
    assert np.array_equal(by_share, transforms.pad_crop(padding=2)(images, IDS, 3))


def test_pad_crop_is_a_shift(images: Images) -> None:
    done = transforms.pad_crop(padding=2)(images, IDS, 0)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    height, width = images.shape[1:3]
    shifts = set()
    for before, after in zip(padded, done, strict=True):
        fits = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if np.array_equal(before[down : down + height, right : right + width], after)
        ]
        assert len(fits) == 1
        shifts.add(fits[0])
    assert len(shifts) > 15  # of 25


def test_flip_mirrors_by_its_probability(images: Images) -> None:
    assert np.array_equal(transforms.flip(probability=1.0)(images, IDS, 0), images[:, :, ::-1])
    assert np.array_equal(transforms.flip(probability=0.0)(images, IDS, 0), images)
    done = transforms.flip()(images, IDS, 0)
    changed = (done != images).any(axis=(1, 2, 3)).sum()
    assert 20 < changed < 44


def test_erase_hides_one_rectangle(images: Images) -> None:
    done = transforms.erase(probability=1.0, share=0.25)(images, IDS, 0)
    height, width = images.shape[1:3]
    for before, after in zip(images, done, strict=True):
        hidden = (after == 0).all(axis=-1)
        down, right = np.flatnonzero(hidden.any(1)), np.flatnonzero(hidden.any(0))
        assert hidden[down[0] : down[-1] + 1, right[0] : right[-1] + 1].all()
        assert 1 <= len(down) <= height / 2 and 1 <= len(right) <= width / 2
        assert np.array_equal(after[~hidden], before[~hidden])


def test_brightness_is_one_factor_an_image(images: Images) -> None:
    done = transforms.brightness(strength=0.2)(images, IDS, 0)
    dark = images < 200
    ratio = done[dark] / images[dark]
    assert np.all(np.abs(done.astype(int) - images) <= 0.2 * images + 1)
    assert ratio.std() > 0.05
    assert np.array_equal(transforms.brightness(strength=0.0)(images, IDS, 0), images)
    white = np.full((64, 4, 4, 1), 255, np.uint8)
    assert transforms.brightness(strength=1.0)(white, IDS, 0).max() == 255


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("pad_crop", {"padding": 0}),
        ("pad_crop", {"padding": -1}),
        ("pad_crop", {"padding": 65}),
        ("pad_crop", {"share": 0.6}),
        ("flip", {"probability": 1.5}),
        ("flip", {"probability": float("nan")}),
        ("erase", {"probability": -0.1}),
        ("erase", {"share": 0.0}),
        ("erase", {"share": 2.0}),
        ("brightness", {"strength": -1.0}),
    ],
)
def test_arguments_out_of_range_are_refused(name: str, arguments: dict[str, float]) -> None:
    with pytest.raises(Refusal) as caught:
        FACTORIES[name](**arguments)
    assert caught.value.path == next(iter(arguments))
    assert str(next(iter(arguments.values()))) in str(caught.value) and caught.value.remedy
