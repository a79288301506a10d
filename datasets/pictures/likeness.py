"""Whether two pictures look the same: a 64-bit perceptual hash to find candidates, a small copy to judge them.

The hash is the signs of the 64 lowest frequencies of a 32 x 32 gray reduction (a discrete cosine transform) against
their median; the mean is left out, so brightness is too (Zauner, "Implementation and Benchmarking of Perceptual Image
Hash Functions", 2010). Mirrored and turned pictures have other hashes. A few lines of numpy: the package for it would
bring wavelets along. What the thresholds find and miss was measured: docs/data.md.
"""

# B pictures, S the side of a reduction, F frequency

from __future__ import annotations

import functools
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from datasets.pictures.decode import Pixels, pillow

SIDE = 32  # pixels; a smaller picture is too like others of its kind for any of this
COPY_SIDE = 16
BITS = 64
LEAST_DETAIL = 0.5  # gray levels; below it half of the bits are noise
LEAST_CORRELATION = 0.98  # of two small copies
Hashes: TypeAlias = NDArray[np.uint64]
Copies: TypeAlias = NDArray[np.uint8]


def reduced(pixels: Pixels) -> NDArray[np.uint8]:
    """(H, W, C) uint8 -> (32, 32) gray."""
    from PIL import Image

    picture = pillow(pixels)
    small = picture.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(small.convert("L"))


def hashes(reduced_BSS: NDArray[np.uint8]) -> tuple[Hashes, NDArray[np.bool_]]:
    """(B, 32, 32) -> hashes (B,) and whether they say anything: not of one colour, nor of a plain gradient."""
    waves_FS = _waves()
    spectrum_BFF = waves_FS @ reduced_BSS.astype(np.float32) @ waves_FS.T
    rows, columns = _lowest()
    lowest_BF = spectrum_BFF[:, rows, columns]
    bits_BF = lowest_BF > np.median(lowest_BF, axis=1, keepdims=True)
    bytes_B8 = np.ascontiguousarray(np.packbits(bits_BF, axis=1))
    detail_B = np.median(np.abs(lowest_BF), axis=1)
    return bytes_B8.view(">u8")[:, 0].astype(np.uint64), detail_B >= LEAST_DETAIL


def copies(reduced_BSS: NDArray[np.uint8]) -> Copies:
    """(B, 32, 32) -> (B, 256) uint8: 16 x 16 means."""
    shape = (len(reduced_BSS), COPY_SIDE, SIDE // COPY_SIDE, COPY_SIDE, SIDE // COPY_SIDE)
    means = np.rint(reduced_BSS.reshape(shape).mean((2, 4))).astype(np.uint8)
    small: Copies = means.reshape(len(reduced_BSS), COPY_SIDE**2)
    return small


def alike(one: Copies, two: Copies) -> NDArray[np.bool_]:
    """Whether copies (B, 256) are the same but for brightness and contrast."""
    a, b = (x - x.mean(1, keepdims=True) for x in (one.astype(np.float32), two.astype(np.float32)))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    alike: NDArray[np.bool_] = (a * b).sum(1) >= LEAST_CORRELATION * np.maximum(lengths, 1e-6)
    return alike


@functools.cache
def _waves() -> NDArray[np.float32]:
    """(F, 32): the first cosines, scaled so that an amplitude is one of gray levels."""
    frequency, place = np.arange(SIDE // 2)[:, None], np.arange(SIDE)
    angles = np.pi * frequency * (2 * place + 1) / (2 * SIDE)
    waves: NDArray[np.float32] = (np.cos(angles) * (np.sqrt(2) / SIDE)).astype(np.float32)
    return waves


@functools.cache
def _lowest() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the 64 lowest frequencies but the mean, by diagonal."""
    side = SIDE // 2
    every = sorted(((r, c) for r in range(side) for c in range(side)), key=lambda p: (sum(p), p))
    chosen = np.array(every[1 : BITS + 1])
    return chosen[:, 0], chosen[:, 1]
