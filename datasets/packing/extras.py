"""Altered copies of the pictures that are learnt from, made once and stored as rows of their own.

`rotate:45`, `mirror` and `crop:0.667` each add a row a training picture. Rows of val and test get none: a copy of what is
judged must not be learnt from. What is drawn is a function of (seed, id of the original, number of the alteration).
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets import order
from datasets.packed import folds
from datasets.packing import raw
from datasets.pictures.decode import Channels, Pixels, Undecodable, decode, pillow
from datasets.refusal import Refusal
from datasets.source import Pictures, Source

QUALITY = 95
Rows = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Extra:
    """One alteration: `rotate` by degrees counter-clockwise (corners black), `mirror`, or `crop` to a share of each side."""

    kind: str
    amount: float = 0.0

    @classmethod
    def all_of(cls, listed: Sequence[str]) -> list[Extra]:
        """As `parse`; Refusal where one is asked for twice, except for crops, which lie elsewhere each time."""
        found = [cls.parse(words) for words in listed]
        for number, words in enumerate(listed):
            if found[number].kind != "crop" and found[number] in found[:number]:
                raise Refusal(
                    f"'{words}' is asked for twice, the copies would be the same",
                    path="--extra",
                    value=words,
                    remedy="say it once",
                )
        return found

    @classmethod
    def parse(cls, words: str) -> Extra:
        """`rotate:45`, `mirror` or `crop:0.667`; Refusal for anything else."""
        kind, _, number = words.partition(":")
        try:
            amount = float(number) if number else 0.0
        except ValueError:
            amount = math.nan
        fits = {
            "rotate": 0 < abs(amount) <= 180,
            "mirror": not number,
            "crop": 0 < amount < 1,
        }
        if not fits.get(kind, False):
            raise Refusal(
                f"'{words}' is no alteration",
                path="--extra",
                value=words,
                remedy="use rotate:DEGREES (up to 180), mirror, or crop:SHARE (below 1)",
            )
        return cls(kind, amount)

    def __call__(self, pixels: Pixels, drawn: Sequence[float]) -> Pixels:
        """(H, W, C) -> (h, w, C); `drawn` are two numbers in [0, 1), where a crop lies."""
        height, width = pixels.shape[:2]
        if self.kind == "mirror":
            return np.ascontiguousarray(pixels[:, ::-1])
        if self.kind == "crop":
            tall, wide = (max(1, round(self.amount * side)) for side in (height, width))
            top, left = (
                int(place * (free + 1))
                for place, free in zip(drawn, (height - tall, width - wide), strict=True)
            )
            return np.ascontiguousarray(pixels[top : top + tall, left : left + wide])
        picture = pillow(pixels)
        turned = picture.rotate(self.amount, Image.Resampling.BILINEAR)
        return np.asarray(turned).reshape(pixels.shape)


@dataclass(frozen=True)
class Plan:
    """Which rows follow those of the source: of each extra, in turn, one for each of `originals`."""

    extras: tuple[Extra, ...]
    originals: NDArray[np.int64]  # rows
    ids: NDArray[np.int64]  # and their ids
    seed: int

    def apply(self, place: int, pixels: Pixels) -> Pixels:
        """The picture of the extra row `place`, from its original's."""
        number, of = divmod(place, len(self.originals))
        root = order.key("extra", self.seed, number)
        drawn = [float(order.uniform(root, self.ids[of], axis)[0]) for axis in (0, 1)]
        return self.extras[number](pixels, drawn)

    def original(self, place: int) -> int:
        return int(self.originals[place % len(self.originals)])


class AlteredPictures:
    """The pictures of a source, then their altered copies: JPEG of quality 95, or PNG where the original is one."""

    def __init__(self, pictures: Pictures, plan: Plan, channels: Channels) -> None:
        self.pictures, self.plan, self.channels = pictures, plan, channels

    def __len__(self) -> int:
        return len(self.pictures) + len(self.plan.extras) * len(self.plan.originals)

    def read(self, row: int) -> bytes:
        place = row - len(self.pictures)
        if place < 0:
            return self.pictures.read(row)
        data = self.pictures.read(self.plan.original(place))
        try:
            pixels = decode(data, self.channels)
        except Undecodable:
            return data  # the packer finds that out again, and knows what to do about it
        altered = self.plan.apply(place, pixels)
        file = io.BytesIO()
        picture = pillow(altered)
        if data[:4] == b"\x89PNG":
            picture.save(file, "PNG")
        else:
            picture.save(file, "JPEG", quality=QUALITY)
        return file.getvalue()

    def name(self, row: int) -> str:
        place = row - len(self.pictures)
        return self.pictures.name(row if place < 0 else self.plan.original(place))


def extended(
    source: Source, rows: Rows, extras: Sequence[Extra], seed: int
) -> tuple[Source, dict[str, NDArray[np.int64]]]:
    """The source with a row more for each extra and each row that is learnt from, and the rows of its splits.

    The new rows are of train, or of a split beside their original's fold. Their other columns are the original's (a
    box is not moved), their ids hashes of (id, number of the extra), the same for ever; the column `origin` has the
    original's id, in all rows. Raises Refusal for a table, and for a source that has such a column.
    """
    if source.kind != "image" or "origin" in source.columns:
        raise Refusal(
            f"source '{source.name}' "
            + ("has a column 'origin'" if source.kind == "image" else "is a table"),
            path="--extra",
            value=source.name,
            remedy="leave --extra out",
        )
    learnt = {split: own for split, own in rows.items() if folds.is_learnt(split)}
    originals = np.concatenate([*learnt.values()])
    ids = source.columns["id"]
    plan = Plan(tuple(extras), originals, ids[originals], seed)
    found: dict[str, NDArray[np.int64]] = dict(rows)
    start = 0
    for split, own in learnt.items():
        places = start + np.arange(len(own)) + np.arange(len(extras))[:, None] * len(originals)
        beside = folds.extra_of(split)
        added = source.num_rows + places.reshape(-1)
        found[beside] = np.concatenate([found[split], added]) if beside == split else added
        start += len(own)
    columns = {
        name: np.concatenate([values, *[values[originals]] * len(extras)])
        for name, values in source.columns.items()
        if name != "image"
    }
    new_ids = [
        (order.hashes(order.key("extra", number), plan.ids, 0) >> np.uint64(1)).astype(np.int64)
        for number in range(len(extras))
    ]
    columns |= {"id": np.concatenate([ids, *new_ids]), "origin": columns["id"]}
    if source.pictures is None:
        columns["image"] = _altered(source.columns["image"], plan)
        return replace(source, columns=columns, splits=None), found
    channels: Channels = 1 if source.shape[2] == 1 else 3
    pictures = AlteredPictures(source.pictures, plan, channels)
    return replace(source, columns=columns, pictures=pictures, splits=None), found


def _altered(image: Pixels, plan: Plan) -> Pixels:
    """Pixels of one shape, then those of the altered copies in that shape: a crop is enlarged again."""
    num, height, width, channels = image.shape
    whole = raw.memory((num + len(plan.extras) * len(plan.originals), height, width, channels))
    whole[:num] = image
    for place in range(len(whole) - num):
        pixels = plan.apply(place, image[plan.original(place)])
        whole[num + place] = raw.fitted(pixels, height, width)
    return whole
