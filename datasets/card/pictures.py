"""Pictures of a set as small data: URLs, and which ones are shown."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets.pictures.decode import pillow
from datasets.refusal import Refusal
from datasets.shards import Dataset

MOST_EXAMPLES = 64
LARGEST = 192  # pixels of the longer side
SMALL = 64  # and below it pixels are shown as they are


@dataclass(frozen=True)
class Shown:
    """A picture of the page; without a source it does not decode."""

    source: str
    sharp: bool  # to be enlarged pixel by pixel
    split: str = ""
    caption: str = ""


def shown(dataset: Dataset, split: str, row: int, caption: str = "") -> Shown:
    """A PNG of what is small, else a JPEG of at most 192 pixels a side; with a caption its split is named too."""

    try:
        pixels = dataset.picture(split, row)
    except Refusal:
        return Shown("", False, split if caption else "", caption)
    picture = pillow(pixels)
    sharp = max(picture.size) <= SMALL
    file = io.BytesIO()
    if sharp:
        picture.save(file, "PNG")
    else:
        picture.thumbnail((LARGEST, LARGEST))
        picture.save(file, "JPEG", quality=82)
    kind = "png" if sharp else "jpeg"
    data = base64.b64encode(file.getvalue()).decode()
    source = f"data:image/{kind};base64,{data}"
    return Shown(source, sharp, split if caption else "", caption)


def examples(dataset: Dataset, found: dict[str, Any]) -> list[tuple[str, list[Shown]]]:
    """The first pictures of train, class by class; of many classes some, evenly over the list."""
    if found["kind"] != "image":
        return []
    split = "train" if "train" in found["rows"] else next(iter(found["rows"]))
    columns = dataset.columns(split)
    if not found["classes"] or "label" not in columns:
        rows = range(min(MOST_EXAMPLES, found["rows"][split]))
        return [("", [shown(dataset, split, row) for row in rows])] if rows else []
    held = np.unique(columns["label"])
    some = held[np.linspace(0, len(held) - 1, min(len(held), MOST_EXAMPLES)).astype(int)]
    each = max(1, min(8, MOST_EXAMPLES // max(1, len(some))))
    return [
        (
            found["classes"][label],
            [
                shown(dataset, split, int(row))
                for row in np.flatnonzero(columns["label"] == label)[:each]
            ],
        )
        for label in some.tolist()
    ]
