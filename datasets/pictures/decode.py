"""One encoded picture's bytes -> pixels of a box, resized: the hot path of the stream.

JPEG by simplejpeg (libjpeg-turbo), of a tiled one only the tiles that cover the box; anything else by Pillow. Resizing is
bilinear with antialiasing, as Pillow's and torchvision's is, in torch's kernel.
"""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from datasets.pictures import tiles as tiling
from datasets.pictures.tiles import Box, Offsets

if TYPE_CHECKING:  # packing decodes too, in processes that need no torch
    import torch
    from PIL.Image import Image

Pixels: TypeAlias = NDArray[np.uint8]
Bytes: TypeAlias = bytes | bytearray | memoryview
Channels: TypeAlias = Literal[1, 3]

# A picture of more pixels is refused before memory is taken for it: 512 MiB as RGB.
MOST_PIXELS = 178_956_970

_NO_TILES: Offsets = np.empty(0, np.uint32)
_thread = threading.local()


class Undecodable(ValueError):
    """The bytes are no picture that we can read."""


def size(data: Bytes) -> tuple[int, int]:
    """(height, width), from the header alone. Raises Undecodable."""
    found = tiling.layout(memoryview(data))
    if found:
        return found.height, found.width
    with _opened(data) as picture:
        return picture.height, picture.width


def decode(data: Bytes, channels: Channels = 3) -> Pixels:
    """All pixels, (H, W, channels), an array of its own. Raises Undecodable."""
    if bytes(data[:2]) == b"\xff\xd8":
        found = tiling.layout(memoryview(data))
        if found:
            _check_size(found.height, found.width)
        try:
            return _jpeg(data, channels, None)
        except ValueError:
            pass  # CMYK and other rarities: Pillow may know
    with _opened(data) as picture:
        _check_size(picture.height, picture.width)
        mode = "RGB" if channels == 3 else "L"
        if picture.mode in ("I", "F"):  # Pillow would cut what is above 255 off
            raise Undecodable(f"has pixels of 32 bits (mode {picture.mode}): make them 8 or 16")
        try:
            if picture.mode.startswith("I;16"):
                return np.repeat(_eight_bits(picture)[..., None], channels, axis=2)
            pixels = np.array(picture.convert(mode), np.uint8)
        except Exception as error:  # decoders raise whatever their format's damage leads to
            raise Undecodable(f"cannot be decoded: {error}") from error
    return pixels.reshape(*pixels.shape[:2], channels)


def _eight_bits(picture: Image) -> Pixels:
    """The upper eight of sixteen bits, (H, W); Pillow would cut what is above 255 off."""
    return (np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)


def pillow(pixels: Pixels) -> Image:
    """(H, W, C) as Pillow has it."""
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def show(
    data: Bytes,
    box: Box,
    out: torch.Tensor,
    *,
    height: int,
    width: int,
    tiles: Offsets = _NO_TILES,
    mirror: bool = False,
) -> None:
    """Write the box of a picture into `out`, (S, S, C) uint8, resized, perhaps mirrored. Raises Undecodable."""
    top, left, tall, wide = box
    channels: Channels = 1 if out.shape[2] == 1 else 3
    if len(tiles):
        try:
            part, above, before = tiling.splice(memoryview(data), tiles, height, width, box)
            pixels = _jpeg(part, channels, _buffer(len(part), height, width, channels))
        except (ValueError, IndexError, TypeError, ArithmeticError) as error:  # an index that lies
            raise Undecodable(f"cannot be decoded: {error}") from error
        top, left = top - above, left - before
    elif bytes(data[:2]) == b"\xff\xd8":
        try:
            pixels = _jpeg(data, channels, _buffer(len(data), height, width, channels))
        except ValueError:
            pixels = decode(data, channels)
    else:
        pixels = decode(data, channels)
    cut(pixels, (top, left, tall, wide), out, mirror=mirror)


def cut(pixels: Pixels, box: Box, out: torch.Tensor, *, mirror: bool = False) -> None:
    """Write the box of decoded pixels, (H, W, C), into `out` as `show` does. Raises Undecodable."""
    top, left, tall, wide = box
    crop = pixels[top : top + tall, left : left + wide]
    if crop.shape[:2] != (tall, wide):
        raise Undecodable(f"has {pixels.shape[:2]} pixels, less than its size promises")
    resized(crop, out, mirror=mirror)


def resized(pixels: Pixels, out: torch.Tensor, *, mirror: bool = False) -> None:
    """(H, W, C) uint8 into (S, S, C) uint8, bilinear and antialiased, left and right changed where asked."""
    import torch

    # A contiguous copy (which may as well be a flipped one) and an `out` that is a channels-last view: a third of the
    # time of the plain call.
    part = torch.from_numpy(pixels)
    part = part.flip(1) if mirror else part.contiguous()
    if pixels.shape == tuple(out.shape):
        out.copy_(part)
        return
    source = part.permute(2, 0, 1)[None]
    target = out.permute(2, 0, 1)[None]
    torch.ops.aten._upsample_bilinear2d_aa.out(
        source, list(out.shape[:2]), False, None, None, out=target
    )


def one_thread() -> None:
    """For the threads that decode: torch's kernels in them run on their own thread alone."""
    import torch

    torch.set_num_threads(1)


def _jpeg(data: Bytes, channels: Channels, buffer: NDArray[np.uint8] | None) -> Pixels:
    import simplejpeg

    pixels: Pixels = simplejpeg.decode_jpeg(
        data, colorspace="RGB" if channels == 3 else "GRAY", buffer=buffer
    )
    return pixels


def _buffer(num_bytes: int, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """This thread's memory for decoded pixels, as large as its largest picture."""
    needed = height * width * channels
    held: NDArray[np.uint8] | None = getattr(_thread, "buffer", None)
    if held is None or len(held) < needed:
        _check_size(height, width)
        held = _thread.buffer = np.empty(max(needed, 1 << 20), np.uint8)
    return held


def _check_size(height: int, width: int) -> None:
    if height * width > MOST_PIXELS:
        raise Undecodable(
            f"has {width} x {height} pixels, more than the {MOST_PIXELS:,} that are decoded"
        )


def _opened(data: Bytes) -> Image:
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data))
    except Exception as error:
        raise Undecodable("is no picture that Pillow knows") from error
