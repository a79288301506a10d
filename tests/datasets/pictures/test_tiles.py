"""A crop's tiles decode to the very pixels of the whole picture."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image

from datasets.pictures import tiles
from datasets.pictures.decode import decode


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with noise: edges in luma and in chroma."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 100 * np.sin(x / (5 + c) + y / (9 - 2 * c)) for c in range(3)]
    noisy = np.stack(waves, -1) + rng.normal(0, 12, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "JPEG", **options)
    return file.getvalue()


SUBSAMPLINGS = {"4:4:4": 8, "4:2:2": 16, "4:2:0": 16}


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize(("height", "width"), [(375, 500), (64, 64), (97, 131), (16, 640), (17, 9)])
def test_every_crop_is_the_same_to_the_bit(subsampling: str, height: int, width: int) -> None:
    mcu = SUBSAMPLINGS[subsampling]
    interval = tiles.best_interval(width, mcu)
    data = jpeg(
        picture(height, width),
        quality=90,
        subsampling=subsampling,
        restart_marker_blocks=interval,
        optimize=True,
    )
    index = tiles.index(data)
    assert len(index) > 4
    whole = decode(data)
    draws = random.Random(height * width)
    for _ in range(40):
        tall, wide = draws.randint(1, height), draws.randint(1, width)
        top, left = draws.randint(0, height - tall), draws.randint(0, width - wide)
        box = (top, left, tall, wide)
        part, above, before = tiles.splice(memoryview(data), index, height, width, box)
        pixels = decode(bytes(part))
        crop = pixels[top - above : top - above + tall, left - before : left - before + wide]
        assert np.array_equal(crop, whole[top : top + tall, left : left + wide]), box


def test_gray_pictures_have_tiles_too() -> None:
    pixels = picture(80, 120)[..., 0]
    data = jpeg(pixels, quality=85, restart_marker_blocks=5)
    part, above, before = tiles.splice(memoryview(data), tiles.index(data), 80, 120, (30, 50, 9, 9))
    crop = decode(bytes(part), 1)[30 - above : 39 - above, 50 - before : 59 - before]
    assert np.array_equal(crop, decode(data, 1)[30:39, 50:59])


def test_less_is_copied_than_the_whole() -> None:
    data = jpeg(picture(375, 500), quality=90, restart_marker_blocks=4)
    part, *_ = tiles.splice(memoryview(data), tiles.index(data), 375, 500, (100, 150, 100, 100))
    assert len(part) < len(data) / 3


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 5}])
def test_what_cannot_be_cut_has_no_index(options: dict[str, object]) -> None:
    # 500 pixels are 32 MCUs, which tiles of 5 would not fill.
    assert not len(tiles.index(jpeg(picture(375, 500), quality=90, **options)))


def test_cmyk_has_no_index_that_lies() -> None:
    file = io.BytesIO()
    Image.fromarray(picture(64, 64)).convert("CMYK").save(file, "JPEG")
    assert not len(tiles.index(file.getvalue()))


@pytest.mark.parametrize(
    ("width", "mcu", "interval"),
    [(500, 16, 2), (512, 16, 2), (16, 16, 1), (592, 16, 1), (80, 16, 1), (500, 8, 3), (64, 8, 4)],
)
def test_a_tile_is_near_32_pixels_wide_and_divides_the_row(
    width: int, mcu: int, interval: int
) -> None:
    assert tiles.best_interval(width, mcu) == interval
    assert -(-width // mcu) % interval == 0


def test_damaged_files_never_raise_anything_else() -> None:
    """index and layout look at bytes that nobody checked."""
    data = jpeg(picture(97, 131), quality=90, restart_marker_blocks=3)
    draws = random.Random(1)
    for _ in range(400):
        damaged = bytearray(data[: draws.randint(0, len(data))])
        for _ in range(draws.randint(0, 8)):
            if damaged:
                damaged[draws.randrange(len(damaged))] = draws.randrange(256)
        tiles.layout(bytes(damaged))
        tiles.index(bytes(damaged))
