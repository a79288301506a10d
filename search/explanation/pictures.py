"""Pictures with heat over them, as a page and a sheet hold them."""

# S pixels a side

from __future__ import annotations

import base64
import io
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIDE = 160  # pixels of a picture with its map, at least
THUMB = 72  # of the longer side of one without
STRENGTH = 0.72  # of the heat where it is greatest

Pixels = NDArray[np.uint8]


def large(picture: Pixels) -> Pixels:
    """(H, W, C) -> RGB of at least 160 pixels a side: small ones are enlarged pixel by pixel."""
    image = _rgb(picture)
    times = max(1, -(-SIDE // max(image.size)))
    if times > 1:
        size = (image.width * times, image.height * times)
        image = image.resize(size, Image.Resampling.NEAREST)
    elif max(image.size) > 2 * SIDE:
        image.thumbnail((2 * SIDE, 2 * SIDE))
    return np.asarray(image)


def heated(picture: Pixels, heat_SS: NDArray[np.float32]) -> Pixels:
    """The picture, large, with the map over it: the more a place speaks for the class, the less it is seen through."""
    below = Image.fromarray(large(picture))
    small = Image.fromarray((heat_SS.clip(0, 1) * 255).astype(np.uint8))
    heat = small.resize(below.size, Image.Resampling.BICUBIC)
    # All by Pillow, in bytes: a quarter of the time of the same in floats.
    colours = heat.copy()
    colours.putpalette(_colours())
    shade = heat.point([round(STRENGTH * level) for level in range(256)])
    return np.asarray(Image.composite(colours.convert("RGB"), below, shade))


def marked(pixels: Pixels, box: NDArray[np.float64], at: NDArray[np.float64]) -> Pixels:
    """With a box (4,) left, top, right, bottom and a point (2,), as shares of the sides."""
    image = Image.fromarray(pixels)
    side = np.array(image.size)
    left, top, right, bottom = (box.reshape(2, 2) * side).clip(0, side - 1).reshape(-1).tolist()
    x, y = (at * side).tolist()
    draw = ImageDraw.Draw(image)
    for outline, width in (("black", 4), ("white", 2)):
        draw.rectangle((left, top, right, bottom), outline=outline, width=width)
        reach = 7 + width
        draw.line((x - reach, y, x + reach, y), fill=outline, width=width)
        draw.line((x, y - reach, x, y + reach), fill=outline, width=width)
    return np.asarray(image)


def url(pixels: Pixels) -> str:
    """A data: URL, PNG where that is smaller than JPEG."""
    image = Image.fromarray(pixels)
    files = []
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 84})):
        file = io.BytesIO()
        image.save(file, kind, **options)
        files.append((kind, file.getvalue()))
    kind, data = min(files, key=lambda found: len(found[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def thumb(picture: Pixels) -> str:
    """A small one as a data: URL; those that are small already are as they are."""
    image = _rgb(picture) if picture.shape[2] != 1 else Image.fromarray(picture[..., 0])
    if max(image.size) > THUMB:
        image.thumbnail((THUMB, THUMB))
    return url(np.asarray(image))


def _rgb(picture: Pixels) -> Image.Image:
    gray = picture.shape[2] == 1
    return Image.fromarray(picture[..., 0] if gray else picture).convert("RGB")


@cache
def _colours() -> bytes:
    """256 colours from cold to hot, RGB."""
    import matplotlib

    shares = matplotlib.colormaps["inferno"](np.arange(256))[:, :3]
    return (shares * 255).round().astype(np.uint8).tobytes()
