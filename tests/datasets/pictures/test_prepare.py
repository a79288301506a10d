"""What packing does to a picture's file: the sums that mean and deviation are made of, tiles, smaller pictures."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.pictures import prepare, tiles
from datasets.pictures.decode import decode
from datasets.pictures.prepare import Options
from tests.datasets.photographs import encoded


@pytest.mark.parametrize("channels", [1, 3])
def test_sums_are_exact(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (301, 402, channels), dtype=np.uint8)
    thin = pixels[::4, ::4].reshape(-1, channels).astype(np.int64)
    found = prepare._sums(pixels)
    assert found.dtype == np.int64
    assert np.array_equal(found, [[len(thin)] * channels, thin.sum(0), (thin * thin).sum(0)])


@pytest.mark.skipif(prepare.jpegtran() is None, reason="needs jpegtran")
@pytest.mark.parametrize("row", range(8))
def test_tiles_keep_every_pixel(row: int) -> None:
    data = encoded(row)
    found = prepare.prepare(data, Options(tile=True))
    assert np.array_equal(decode(found.data), decode(data))
    assert np.array_equal(found.tiles, tiles.index(found.data))
    assert len(found.tiles) or row % 8 == 5, "all but the PNG have tiles"


@pytest.mark.skipif(prepare.jpegtran() is None, reason="needs jpegtran")
def test_a_cut_that_changed_a_pixel_is_not_taken() -> None:
    data = encoded(0)
    pixels = decode(data)
    assert prepare.tiled(data, pixels) is not None
    pixels[-1, -1, 0] ^= 1
    assert prepare.tiled(data, pixels) is None


def test_untouched_pictures_keep_their_bytes() -> None:
    found = prepare.prepare(encoded(0), Options(tile=False))
    assert found.data == encoded(0) and not len(found.tiles)


def test_smaller_pictures_have_tiles_without_jpegtran() -> None:
    found = prepare.prepare(encoded(2), Options(shorter=32))
    assert min(found.height, found.width) == 32 and len(found.tiles)
