"""The fifteen corruptions: functions of (seed, id), as strong as published, equal to scipy's, numpy's and Pillow's arithmetic."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from datasets import order
from datasets.corrupting import clouds, filters
from datasets.corrupting.draws import Draws
from datasets.corrupting.scene import SEVERITIES, Scene, corrupted
from trainers import rooms

NAMES = sorted(rooms.doors("corruptions"))
RANDOM = {
    *("gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur"),
    *("snow", "frost", "fog", "elastic_transform"),
}
KEY = order.key("corruption", "any", 0)


def photographs(side: int, rows: int = 4) -> Tensor:
    """Crops of scikit-learn's two photographs, (rows, side, side, 3) uint8."""
    from sklearn.datasets import load_sample_images

    found = []
    for number in range(rows):
        picture = Image.fromarray(load_sample_images().images[number % 2])
        left = 90 * (number // 2)
        cut = picture.crop((left, 60, left + 320, 380)).resize((side, side), Image.Resampling.BOX)
        found.append(np.asarray(cut))
    return torch.from_numpy(np.stack(found))


def digits(rows: int = 8) -> Tensor:
    from sklearn.datasets import load_digits

    pixels = (load_digits().images[:rows] * 15.9375).astype(np.uint8)
    return torch.from_numpy(pixels[..., None])


def scene(side: int, rows: int = 4) -> Scene:
    return Scene(Draws(KEY, torch.arange(rows)), side)


def planes(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float() / 255


def strength(images: Tensor, name: str, severity: int) -> float:
    """The mean square of what a corruption changes."""
    out = corrupted(images, torch.arange(len(images)), name, severity)
    return float((out.float() - images.float()).square().mean())


def test_there_are_the_fifteen_of_the_paper() -> None:
    assert len(NAMES) == 15


def test_draws_are_those_of_the_order() -> None:
    for key in (3, 2**63 + 11, 2**64 - 1):
        ids = np.array([0, 1, 7, 2**40], np.int64)
        draws = Draws(key, torch.from_numpy(ids))
        wanted = order.uniform(key, ids[:, None], np.arange(50))
        assert np.allclose(draws.uniform(50).numpy(), wanted, atol=2.0**-24, rtol=0)
        assert np.allclose(draws.normal(7).numpy(), order.normal(key, ids, 7), atol=1e-4)
        for high in (1, 3, 1000):
            wanted = order.hashes(key, ids[:, None], np.arange(50)) >> np.uint64(32)
            wanted = (wanted * np.uint64(high)) >> np.uint64(32)
            assert (draws.integers(high, 50).numpy() == wanted.astype(np.int64)).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pictures", [photographs(32), digits()], ids=["photographs", "digits"])
def test_what_befalls_a_picture_hangs_on_its_id_alone(name: str, pictures: Tensor) -> None:
    ids = torch.arange(len(pictures)) * 17
    whole = corrupted(pictures, ids, name, 3)
    assert whole.shape == pictures.shape
    assert whole.dtype == torch.uint8
    alone = torch.cat([corrupted(pictures[i : i + 1], ids[i : i + 1], name, 3) for i in range(4)])
    # A pixel whose value lies on the half between two may be rounded to either.
    differing = (alone.int() - whole[:4].int()).abs()
    assert int(differing.max()) <= 1
    assert float((differing > 0).float().mean()) < 0.002
    back = corrupted(pictures.flip(0), ids.flip(0), name, 3).flip(0)
    assert int((back.int() - whole.int()).abs().max()) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_or_id_is_another_draw(name: str) -> None:
    pictures, ids = photographs(32), torch.arange(4)
    first = corrupted(pictures, ids, name, 4)
    for other in (corrupted(pictures, ids, name, 4, seed=1), corrupted(pictures, ids + 4, name, 4)):
        assert bool((other != first).any()) == (name in RANDOM)


# Published settings go down now and then: (mean square of glass_blur at 224 px, 4 below 3), ...
NOT_MONOTONE = {"glass_blur", "elastic_transform", "snow", "frost"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [224, 64, 32])
def test_severities_grow(name: str, side: int) -> None:
    pictures = photographs(side, rows=2)
    found = [strength(pictures, name, severity) for severity in SEVERITIES]
    assert found[0] > 0
    assert found[-1] > found[0] or name == "elastic_transform"
    if name not in NOT_MONOTONE:
        assert found == sorted(found), found


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_any_shape_are_taken(name: str) -> None:
    for shape in [(1, 1, 1, 1), (2, 5, 9, 3), (1, 17, 12, 4), (2, 100, 30, 1)]:
        pictures = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.manual_seed(0))
        for severity in (1, 5):
            out = corrupted(pictures, torch.arange(len(pictures)), name, severity)
            assert out.shape == pictures.shape


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_of_one_colour_stays_in_range_and_the_input_as_it_was(name: str) -> None:
    for value in (0, 128, 255):
        pictures = torch.full((2, 16, 16, 3), value, dtype=torch.uint8)
        corrupted(pictures, torch.arange(2), name, 5)
        assert (pictures == value).all()


def test_the_table_and_the_canvas_go_by_size() -> None:
    found = {
        side: (scene(side).table, scene(side).fineness)
        for side in (8, 16, 28, 32, 64, 96, 224, 448)
    }
    assert found == {
        **{8: (2, 4), 16: (2, 2), 28: (2, 1), 32: (2, 1)},
        **{64: (1, 1), 96: (1, 1), 224: (0, 1), 448: (0, 1)},
    }
    assert scene(8).scale == scene(32).scale == scene(224).scale == 1
    assert scene(448).scale == 2
    x = planes(digits())
    assert torch.allclose(scene(8).reduced(scene(8).enlarged(x)), x)


def test_noises_have_the_published_moments() -> None:
    gray = torch.full((4, 224, 224, 3), 128, dtype=torch.uint8)
    ids = torch.arange(4)
    light = corrupted(gray, ids, "gaussian_noise", 1).float() / 255
    assert float(light.std()) == pytest.approx(0.08, rel=0.01)
    shot = corrupted(gray, ids, "shot_noise", 1).float() / 255
    assert float(shot.mean()) == pytest.approx(128 / 255, rel=0.01)
    assert float(shot.std()) == pytest.approx((128 / 255 / 60) ** 0.5, rel=0.02)
    pepper = corrupted(gray, ids, "impulse_noise", 5)
    assert float((pepper != 128).float().mean()) == pytest.approx(0.27, abs=0.005)
    assert float((pepper == 255).float().sum() / (pepper != 128).sum()) == pytest.approx(
        0.5, abs=0.01
    )


def test_shot_noise_is_poisson() -> None:
    from scipy.stats import poisson

    black_to_white = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).repeat(400, 1, 1, 1)
    x = planes(black_to_white)
    settings = Scene(Draws(KEY, torch.arange(400)), 224)
    from datasets import corruptions

    counts = (corruptions.shot_noise(x, settings, severity=5) * 3).round().flatten(1).numpy()
    for value in (0, 100, 255):
        wanted = poisson.pmf(np.arange(12), value / 255 * 3)
        found = np.bincount(counts[:, value].astype(int), minlength=12)[:12] / 400
        assert np.abs(found - wanted).max() < 0.08


@pytest.mark.parametrize("sigma", [0.05, 0.7, 1.5, 12.0])
def test_gaussian_is_that_of_scipy(sigma: float) -> None:
    x = planes(photographs(32))
    for ours, theirs, truncate in (("edge", "nearest", 4.0), ("symmetric", "reflect", 3.0)):
        wanted = ndimage.gaussian_filter(
            x.numpy(), (0, 0, sigma, sigma), mode=theirs, truncate=truncate
        )
        found = filters.gaussian(x, sigma, mode=ours, truncate=truncate)
        assert np.allclose(found.numpy(), wanted, atol=1e-5)


def test_defocus_is_a_correlation_with_a_disc() -> None:
    x = planes(photographs(64))
    side = np.arange(-8, 9)
    disc = (side[:, None] ** 2 + side**2 <= 36).astype(float)
    disc = ndimage.gaussian_filter(disc / disc.sum(), 0.5, radius=1, mode="mirror")
    wanted = ndimage.correlate(x[1, 2].numpy(), disc, mode="mirror")
    assert np.allclose(filters.defocus(x, 6, 0.5)[1, 2].numpy(), wanted, atol=1e-5)


def test_zoom_is_that_of_scipy() -> None:
    x = planes(photographs(64))
    middle = x[0, 0].numpy()[3:61, 3:61]  # 58 pixels: 64 / 1.11, rounded up
    wanted = ndimage.zoom(middle, 1.11, order=1)
    assert wanted.shape == (64, 64)
    assert np.allclose(filters.zoomed(x, 1.11)[0, 0].numpy(), wanted, atol=1e-5)


def test_scattered_is_one_pixel_after_another() -> None:
    x, generator = planes(photographs(24)), torch.manual_seed(3)
    for reach in (1, 2, 4):
        shifts = torch.randint(-reach, reach, (2, 4, 24, 24), generator=generator)
        wanted = x.clone()
        for picture in range(4):
            for row in range(24 - reach, reach, -1):
                for column in range(24 - reach, reach, -1):
                    down, right = shifts[:, picture, row, column].tolist()
                    wanted[picture, :, row, column] = wanted[picture, :, row + down, column + right]
        assert torch.equal(filters.scattered(x, shifts[0], shifts[1], reach), wanted)


def test_streaks_to_the_right_are_a_correlation() -> None:
    x = planes(photographs(32))
    weights = np.exp(-0.5 * (np.arange(13) / 2) ** 2)
    wanted = ndimage.correlate1d(
        x.numpy(), weights / weights.sum(), axis=3, mode="nearest", origin=-6
    )
    found = filters.streaks(x, 6, 2, torch.zeros(4))
    assert np.allclose(found.numpy(), wanted, atol=1e-5)
    # Downwards is to the right of the picture on its side.
    aside = filters.streaks(x.mT, 6, 2, torch.full((4,), 90.0)).mT
    assert torch.allclose(aside[..., 1:-1, 1:-1], found[..., 1:-1, 1:-1], atol=0.05)


def test_places_between_pixels_are_those_of_scipy() -> None:
    x = planes(photographs(32))
    generator = torch.manual_seed(0)
    rows, columns = (40 * torch.rand(2, 4, 32, 32, generator=generator) - 4).unbind()
    for edge, mode in ((True, "reflect"), (False, "mirror")):
        wanted = ndimage.map_coordinates(
            x[2, 1].numpy(), [rows[2].numpy(), columns[2].numpy()], order=1, mode=mode
        )
        found = filters.sampled(x, rows, columns, edge=edge)
        assert np.allclose(found[2, 1].numpy(), wanted, atol=1e-4)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_and_jpeg_are_those_of_pillow(severity: int) -> None:
    pictures = photographs(224, rows=2)
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    quality = (25, 18, 15, 10, 7)[severity - 1]
    small = int(224 * share), int(224 * share)
    pixels = corrupted(pictures, torch.arange(2), "pixelate", severity).numpy()
    jpegs = corrupted(pictures, torch.arange(2), "jpeg_compression", severity).numpy()
    for place in range(2):
        picture = Image.fromarray(pictures[place].numpy())
        boxed = picture.resize(small, Image.Resampling.BOX).resize((224, 224), Image.Resampling.BOX)
        assert np.abs(np.asarray(boxed).astype(int) - pixels[place]).max() <= 1
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        assert (np.asarray(Image.open(file)) == jpegs[place]).all()


def test_brightness_raises_the_value_of_hsv() -> None:
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    pictures = photographs(64)
    hsv = rgb_to_hsv(pictures.numpy() / 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + 0.3, 0, 1)
    found = corrupted(pictures, torch.arange(4), "brightness", 3).numpy()
    assert np.abs(hsv_to_rgb(hsv) * 255 - found).max() <= 0.51


def test_contrast_keeps_the_mean() -> None:
    pictures = photographs(64)
    out = corrupted(pictures, torch.arange(4), "contrast", 5).float()
    assert torch.allclose(out.mean((1, 2)), pictures.float().mean((1, 2)), atol=0.5)
    assert torch.allclose(out.std((1, 2)), 0.05 * pictures.float().std((1, 2)), atol=0.5)


def test_clouds_fill_their_range_and_differ() -> None:
    draws = Draws(KEY, torch.arange(3))
    for height, width in ((32, 32), (20, 50)):
        cloud = clouds.plasma(draws, height, width, 2.0)
        assert cloud.shape == (3, height, width)
        assert float(cloud.min()) >= 0
        assert float(cloud.max()) <= 1
        assert float((cloud[0] - cloud[1]).abs().mean()) > 0.01
    rough = clouds.plasma(draws, 64, 64, 1.4).diff(dim=1).abs().mean()
    assert rough > 2 * clouds.plasma(draws, 64, 64, 3.0).diff(dim=1).abs().mean()
    ice = clouds.frost(draws, 224, 224, 12.0)
    assert float(ice.mean()) == pytest.approx(clouds.FROST_MEAN, abs=2)
    assert float(ice.std()) == pytest.approx(clouds.FROST_DEVIATION, abs=3)
