"""What packing does to a picture's file: check that it decodes, cut a JPEG into tiles, or make it smaller."""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
from dataclasses import dataclass

import numpy as np
from PIL import Image

from datasets.pictures import tiles as tiling
from datasets.pictures.decode import Channels, Pixels, decode, pillow, size
from datasets.pictures.tiles import Offsets
from datasets.refusal import Refusal

LOOKED = 16  # of pictures that are not checked one in so many is decoded
_THIN = 4  # every 4th row and column enters mean and std


@dataclass(frozen=True, slots=True)
class Options:
    """How pictures are stored. Without a size they are kept as they are, but for lossless tiles."""

    tile: bool | None = None  # None: where jpegtran is found
    longest: int | None = None  # pixels; larger pictures are reduced and stored as JPEG
    shorter: int | None = None
    quality: int = 90
    checked: bool = True  # every picture is decoded; else one in LOOKED, for mean and std

    def __post_init__(self) -> None:
        for name, value in (("longest", self.longest), ("shorter", self.shorter)):
            _check(name, value, value is None or 8 <= value <= 8192, "use 8 .. 8192 pixels")
        _check("quality", self.quality, 1 <= self.quality <= 100, "use 1 .. 100")
        both = self.longest is not None and self.shorter is not None
        _check("longest", self.longest, not both, "give either longest or shorter")
        altered = self.tile or self.longest or self.shorter
        _check(
            "unchecked",
            True,
            self.checked or not altered,
            "leave it out, or tile, longest and shorter: who alters pictures decodes them all",
        )
        missing = self.tile is True and jpegtran() is None
        _check(
            "tile", True, not missing, "install jpegtran (libjpeg-turbo-progs), or use --no-tile"
        )

    @property
    def tiled(self) -> bool:
        return self.checked and (
            self.tile is True or (self.tile is None and jpegtran() is not None)
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture as it is stored; `sums` (3, C) int64 are count, sum and sum of squares of thinned pixels."""

    data: bytes
    height: int
    width: int
    tiles: Offsets
    sums: np.ndarray[tuple[int, int], np.dtype[np.int64]]


@functools.cache
def jpegtran() -> str | None:
    """The path of libjpeg-turbo's lossless transformer, or None."""
    return shutil.which("jpegtran")


def prepare(
    data: bytes, options: Options, channels: Channels = 3, *, look: bool = True
) -> Prepared:
    """Raises Undecodable for what is no picture; where it is not looked at, for what has no header of one."""
    if not look:
        height, width = size(data)
        return Prepared(data, height, width, tiling.index(data), np.zeros((3, channels), np.int64))
    pixels = decode(data, channels)
    smaller = _smaller(pixels, options)
    if smaller is not None:
        data = smaller
        pixels = decode(data, channels)
    cut = tiled(data, pixels) if smaller is None and options.tiled else None
    data, tiles = cut or (data, tiling.index(data))
    height, width = pixels.shape[:2]
    return Prepared(data, height, width, tiles, _sums(pixels))


def tiled(data: bytes, pixels: Pixels) -> tuple[bytes, Offsets] | None:
    """A JPEG with restart markers and the same pixels, and its index; None where that cannot be had."""
    program = jpegtran()
    if program is None or data[:2] != b"\xff\xd8":
        return None
    plain = [program, "-copy", "none", "-optimize"]
    baseline = (
        data if tiling.layout(data) else _ran(plain, data)
    )  # progressive ones become baseline
    found = tiling.layout(baseline) if baseline else None
    if not baseline or found is None:
        return None
    interval = tiling.best_interval(found.width, found.mcu_width)
    cut = _ran([*plain, "-restart", f"{interval}B"], baseline)
    channels: Channels = 1 if pixels.shape[2] == 1 else 3
    if not cut or not len(tiles := tiling.index(cut)):
        return None
    return (cut, tiles) if np.array_equal(decode(cut, channels), pixels) else None


def _ran(command: list[str], data: bytes) -> bytes | None:
    done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=120)
    return done.stdout if done.returncode == 0 and done.stdout else None


def _smaller(pixels: Pixels, options: Options) -> bytes | None:
    """The picture reduced as asked for, as a JPEG with tiles; None where it is small enough."""
    height, width = pixels.shape[:2]
    if options.longest:
        scale = options.longest / max(height, width)
    elif options.shorter:
        scale = options.shorter / min(height, width)
    else:
        return None
    if scale >= 1:
        return None
    wanted = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = pillow(pixels).resize(wanted, Image.Resampling.BILINEAR)
    file = io.BytesIO()
    mcu = 8 if picture.mode == "L" else 16
    interval = tiling.best_interval(wanted[0], mcu) if options.tile is not False else 0
    picture.save(
        file, "JPEG", quality=options.quality, optimize=True, restart_marker_blocks=interval
    )
    return file.getvalue()


def _sums(pixels: Pixels) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    # A plane a channel, in doubles, which hold these sums exactly: a ninth of the time of integers side by side.
    planes = np.ascontiguousarray(pixels[::_THIN, ::_THIN].transpose(2, 0, 1))
    thin = planes.reshape(len(planes), -1).astype(np.float64)
    count = np.full(len(thin), thin.shape[1])
    return np.stack((count, thin.sum(1), np.einsum("cn,cn->c", thin, thin))).astype(np.int64)


def _check(name: str, value: object, holds: bool, remedy: str) -> None:
    if not holds:
        raise Refusal(f"cannot pack with {name}={value}", path=name, value=value, remedy=remedy)
