"""Pictures in files made into pixels of one shape, by threads, in a temporary file: small ones are read fastest so.

Pictures that have one small size already are taken as they are. Others are cut to their central square and resized
(bilinear, antialiased), as the field makes small sets; of a square picture nothing is cut.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets import order
from datasets.packed.manifest import Json
from datasets.packing.encoded import SAMPLE
from datasets.packing.jobs import read, undecodable
from datasets.pictures import decode
from datasets.pictures.decode import Channels, Pixels, Undecodable
from datasets.progress import Progress
from datasets.refusal import Refusal
from datasets.remote import explained
from datasets.source import Source

SMALL = 64  # pixels a side: pictures of one size up to this are stored raw without being asked
SIDES = range(4, 1025)
CHUNK = 256  # pictures a thread takes at once

Rows = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Raw:
    """A source whose pictures are its column `image`, the rows of its splits that decode, and what to say of it."""

    source: Source
    rows: Rows
    says: dict[str, Json]
    left_out: list[str]


class _OtherSize(Exception):
    """A picture has not the size that the others promised."""


def of_side(
    source: Source,
    rows: Rows,
    side: int,
    *,
    workers: int,
    leave_out: bool,
    progress: Progress | None = None,
) -> Raw:
    """All pictures `side` x `side`. Raises Refusal for a side out of range, a set too large to be held, and for pictures that do not decode unless they are to be left out."""
    if side not in SIDES:
        raise Refusal(
            f"cannot pack raw pictures of {side} x {side}",
            path="--raw",
            value=side,
            remedy=f"use {SIDES[0]} .. {SIDES[-1]} pixels",
        )
    size = side * side * source.shape[2] * max(len(own) for own in rows.values())
    if size > order.WHOLE_BYTES:
        raise Refusal(
            f"a split of {size / 2**30:.1f} GiB is more than the {order.WHOLE_BYTES / 2**30:.0f} GiB that raw sets are held in",
            path="--raw",
            value=side,
            remedy="use fewer pixels, or leave the pictures in files",
        )
    says = "central square, resized to it (bilinear, antialiased)"
    making = _Making(source, (side, side), exact=False)
    return making.made(rows, says, workers=workers, leave_out=leave_out, progress=progress)


def of_one_size(
    source: Source,
    rows: Rows,
    *,
    workers: int,
    leave_out: bool,
    progress: Progress | None = None,
) -> Raw | None:
    """The pictures as they are, where all have one size of at most 64 pixels a side; else None."""
    size = _common_size(source, rows)
    if size is None:
        return None
    try:
        making = _Making(source, size, exact=True)
        says = "as they are: all have this size"
        return making.made(rows, says, workers=workers, leave_out=leave_out, progress=progress)
    except _OtherSize:
        return None


def memory(shape: tuple[int, ...]) -> Pixels:
    """Bytes of a temporary file without a name: the system writes them out where memory is short, and nothing stays."""
    folder = tempfile.gettempdir()
    with explained("written", folder), tempfile.TemporaryFile(prefix="manta-") as file:
        # On a full disk this is an error, and writing into what is mapped the end of the process.
        if hasattr(os, "posix_fallocate"):  # macOS has none
            os.posix_fallocate(file.fileno(), 0, max(1, math.prod(shape)))
        return np.memmap(file, np.uint8, "w+", shape=shape)


def fitted(pixels: Pixels, height: int, width: int) -> Pixels:
    """(H, W, C) -> (height, width, C): the largest central part of that shape, resized."""
    tall, broad, channels = pixels.shape
    if (tall, broad) == (height, width):
        return pixels
    scale = min(tall / height, broad / width)
    top, left = (tall - height * scale) / 2, (broad - width * scale) / 2
    box = (left, top, left + width * scale, top + height * scale)
    picture = decode.pillow(pixels)
    small = picture.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(small).reshape(height, width, channels)


def _common_size(source: Source, rows: Rows) -> tuple[int, int] | None:
    """What some pictures have in common; a look at a few tells most sets apart."""
    assert source.pictures is not None
    every = np.concatenate([*rows.values()])
    found: set[tuple[int, int]] = set()
    for row in every[order.permutation(len(every), order.key("sample"))[:SAMPLE]].tolist():
        try:
            found.add(decode.size(read(source.pictures, row)))
        except Undecodable:
            continue  # whoever decodes it in earnest will say so
        if len(found) > 1 or any(max(size) > SMALL for size in found):
            return None
    return next(iter(found), None)


@dataclass(frozen=True)
class _Making:
    source: Source
    size: tuple[int, int]
    exact: bool

    def made(
        self, rows: Rows, says: str, *, workers: int, leave_out: bool, progress: Progress | None
    ) -> Raw:
        source, wanted = self.source, np.sort(np.concatenate([*rows.values()]))
        image = memory((source.num_rows, *self.size, source.shape[2]))
        chunks = [wanted[start : start + CHUNK] for start in range(0, len(wanted), CHUNK)]
        failed: list[tuple[int, str]] = []
        done = 0
        with ThreadPoolExecutor(workers, "pack") as pool:
            try:
                waiting = {pool.submit(self._decode, chunk, image): len(chunk) for chunk in chunks}
                for future in as_completed(waiting):
                    failed += future.result()
                    done += waiting[future]
                    if progress:
                        progress(done, len(wanted))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        assert source.pictures is not None
        named = [(source.pictures.name(row), reason) for row, reason in sorted(failed)]
        if named and not leave_out:
            raise undecodable(named)
        lost = np.array([row for row, _ in failed], np.int64)
        kept = {split: own[~np.isin(own, lost)] for split, own in rows.items()}
        found = replace(
            source,
            columns={**source.columns, "image": image},
            shape=image.shape[1:],
            pictures=None,
            splits=None,
        )
        said: dict[str, Json] = {"raw": [*self.size], "made": says}
        return Raw(found, kept, said, [f"{name}: {reason}" for name, reason in named])

    def _decode(self, rows: NDArray[np.int64], image: Pixels) -> list[tuple[int, str]]:
        """In a thread: writes these rows; those that do not decode, and why."""
        assert self.source.pictures is not None
        channels: Channels = 1 if self.source.shape[2] == 1 else 3
        failed = []
        for row in rows.tolist():
            try:
                pixels = decode.decode(read(self.source.pictures, row), channels)
            except Undecodable as error:
                failed.append((row, str(error)))
                continue
            if self.exact and pixels.shape[:2] != self.size:
                raise _OtherSize
            image[row] = fitted(pixels, *self.size)
        return failed
