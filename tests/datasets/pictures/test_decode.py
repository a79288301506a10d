"""One picture's bytes to pixels: Pillow's own, for every format; damaged bytes are one kind of error, never a crash."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.pictures import decode, tiles
from datasets.pictures.decode import Undecodable
from tests.datasets.photographs import encoded, picture

ROOT = Path(__file__).resolve().parents[3]


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


MODES = ("RGB", "L", "RGBA", "P", "1", "CMYK", "LA")
UNHELD = {  # modes that a format has no room for
    "PNG": {"CMYK"},
    "JPEG": {"RGBA", "P", "LA"},
    "WEBP": set(),
    "GIF": {"CMYK"},
    "BMP": {"CMYK", "LA"},
    "TIFF": set(),
}
HELD = [(mode, kind) for kind in UNHELD for mode in MODES if mode not in UNHELD[kind]]


@pytest.mark.parametrize(("mode", "kind"), HELD)
def test_every_kind_becomes_rgb_or_gray(mode: str, kind: str) -> None:
    image = picture(3).convert(mode)
    data = saved(image, kind)
    there = Image.open(io.BytesIO(data))
    assert decode.size(data) == (image.height, image.width)
    for channels, wanted in ((3, "RGB"), (1, "L")):
        pixels = decode.decode(data, channels)  # type: ignore[arg-type]
        expected = np.asarray(there.convert(wanted), int).reshape(pixels.shape)
        assert pixels.dtype == np.uint8
        # Two builds of one JPEG library round chroma differently by a level or two.
        assert np.abs(pixels.astype(int) - expected).max() <= (4 if kind == "JPEG" else 0)


@pytest.mark.parametrize("row", range(8))
def test_a_box_is_a_crop_of_the_whole(row: int) -> None:
    data = encoded(row)
    whole = decode.decode(data)
    height, width = whole.shape[:2]
    out = torch.empty(20, 20, 3, dtype=torch.uint8)
    decode.show(data, (5, 7, 20, 20), out, height=height, width=width)
    assert np.array_equal(out.numpy(), whole[5:25, 7:27]), "no resizing, no change"
    decode.show(data, (5, 7, 20, 20), out, height=height, width=width, mirror=True)
    assert np.array_equal(out.numpy(), whole[5:25, 7:27][:, ::-1])


def test_resizing_is_torchs_antialiased_bilinear() -> None:
    pixels = decode.decode(encoded(0))
    out = torch.empty(13, 13, 3, dtype=torch.uint8)
    decode.resized(pixels, out)
    plain = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    wanted = torch.nn.functional.interpolate(plain, (13, 13), mode="bilinear", antialias=True)
    assert torch.equal(out, wanted[0].permute(1, 2, 0))


def damaged(data: bytes, draws: random.Random) -> bytes:
    spoilt = bytearray(data[: draws.randint(0, len(data))] if draws.random() < 0.3 else data)
    for _ in range(draws.randint(1, 12)):
        if spoilt:
            spoilt[draws.randrange(len(spoilt))] = draws.randrange(256)
    return bytes(spoilt)


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_decode_or_are_undecodable() -> None:
    draws = random.Random(0)
    kinds = [encoded(row) for row in (0, 1, 5, 6, 7)]
    kinds += [saved(picture(2), "WEBP"), saved(picture(2), "GIF"), saved(picture(2), "TIFF")]
    kinds += [saved(picture(2), "JPEG", quality=90, restart_marker_blocks=1)]
    refused = 0
    for _ in range(800):
        data = damaged(draws.choice(kinds), draws)
        try:
            assert decode.decode(data).ndim == 3
        except Undecodable:
            refused += 1
    assert 50 < refused < 750


FUZZ = """
import faulthandler, random, sys, warnings
import numpy as np, torch
from datasets.pictures import decode, tiles
from tests.datasets.pictures.test_decode import damaged, saved
from tests.datasets.photographs import encoded, picture

warnings.simplefilter("ignore")
draws, refused = random.Random(7), 0
whole = [encoded(row) for row in (0, 1, 5, 6, 7)]
whole.append(saved(picture(2), "JPEG", quality=90, restart_marker_blocks=1))
index, out = tiles.index(whole[-1]), torch.empty(16, 16, 3, dtype=torch.uint8)
for _ in range(3000):
    place = draws.randrange(len(whole))
    data = damaged(whole[place], draws)
    faulthandler.dump_traceback_later(20, exit=True)
    try:
        if place == len(whole) - 1:
            height, width = decode.size(whole[-1])
            box = (draws.randrange(20), draws.randrange(20), 17, 18)
            decode.show(data, box, out, height=height, width=width, tiles=index)
        else:
            assert decode.decode(data, draws.choice((1, 3))).dtype == np.uint8
    except decode.Undecodable:
        refused += 1
print(refused)
"""


def test_thousands_of_damaged_files_neither_crash_nor_hang() -> None:
    """In a process of its own: what a decoder's C code does wrong, no exception tells."""
    command = [sys.executable, "-c", FUZZ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert 300 < int(done.stdout) < 2700


@pytest.mark.filterwarnings("ignore")
def test_an_index_that_lies_is_an_error_not_a_crash() -> None:
    """Tiles come from a shard that anybody may have written."""
    data = saved(picture(2), "JPEG", quality=90, restart_marker_blocks=1)
    height, width = decode.size(data)
    true, draws = tiles.index(data), random.Random(1)
    out = torch.empty(8, 8, 3, dtype=torch.uint8)
    for _ in range(300):
        lies = true.copy()
        for _ in range(draws.randint(1, 4)):
            lies[draws.randrange(len(lies))] = draws.choice([0, 1, 7, 2**16, 2**31, 2**32 - 1])
        try:
            decode.show(data, (3, 3, 20, 20), out, height=height, width=width, tiles=lies)
        except Undecodable:
            continue


def test_sixteen_bits_become_eight_and_more_is_refused() -> None:
    gray = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    file = io.BytesIO()
    Image.fromarray(gray).save(file, "PNG")
    for channels in (1, 3):
        pixels = decode.decode(file.getvalue(), channels)  # type: ignore[arg-type]
        assert np.array_equal(pixels, np.repeat((gray >> 8)[..., None], channels, 2))
    for kind in (np.int32, np.float32):
        file = io.BytesIO()
        Image.fromarray(gray.astype(kind)).save(file, "TIFF")
        with pytest.raises(Undecodable, match="32 bits"):
            decode.decode(file.getvalue())


def test_a_bomb_is_refused_before_memory_is_taken() -> None:
    """A PNG and a JPEG that say that they have billions of pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    png += struct.pack(">I", zlib.crc32(chunk)) + b"\0" * 64
    jpeg = bytearray(saved(picture(2), "JPEG", quality=90))
    found = tiles.layout(bytes(jpeg))
    assert found
    jpeg[found.frame + 5 : found.frame + 9] = struct.pack(">HH", 65_000, 65_000)
    for data in (png, bytes(jpeg)):
        with pytest.raises(Undecodable):
            decode.decode(data)
    out = torch.empty(8, 8, 3, dtype=torch.uint8)
    with pytest.raises(Undecodable):
        decode.show(bytes(jpeg), (0, 0, 9, 9), out, height=65_000, width=65_000)
