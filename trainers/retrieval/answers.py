"""What a query comes to: the nearest pictures of an index, as rows of JSON and as a sheet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datasets import figures
from trainers.retrieval.embedder import Features
from trainers.retrieval.index import Index
from trainers.retrieval.neighbours import nearest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ITSELF = 1e-5  # of the cosine distance; of Euclid's, SAME times the length of the features
SAME = 1e-3
CELL = (1.25, 1.6)  # inches
LONGEST = 18  # letters of a name on the sheet


@dataclass(frozen=True)
class Answer:
    """The nearest rows of an index to one query, nearest first; `pixels` (H, W, C) are what the model saw of it."""

    name: str
    pixels: NDArray[np.uint8]
    rows: tuple[int, ...]
    distances: tuple[float, ...]
    itself: bool  # the first one is the query, or is the same to rounding

    def told(self, index: Index) -> dict[str, Any]:
        """`{image, itself, results: [{rank, id, split, label, class, distance}]}`."""
        results = [
            {"rank": rank, **index.told(row), "distance": distance}
            for rank, (row, distance) in enumerate(
                zip(self.rows, self.distances, strict=True), start=1
            )
        ]
        return {"image": self.name, "itself": self.itself, "results": results}


def answer(
    index: Index,
    name: str,
    pixels: NDArray[np.uint8],
    features_1D: Features,
    k: int,
    *,
    without: int | None = None,
) -> Answer:
    """Ask an index for the `k` nearest to one picture's features, (1, D); `without` is a row that is left out."""
    found = nearest(index, features_1D, k, without=without)
    there = found.rows[0] >= 0
    rows, distances = found.rows[0][there], found.distances[0][there]
    length = float(np.linalg.norm(features_1D))
    limit = ITSELF if index.metric == "cosine" else SAME * length
    itself = without is None and len(rows) > 0 and float(distances[0]) <= limit
    return Answer(name, pixels, tuple(rows.tolist()), tuple(distances.tolist()), itself)


def sheet(index: Index, answers: Sequence[Answer]) -> Figure:
    """A line for each query: its picture, then what was found, with class and distance."""
    pictures: list[NDArray[np.uint8]] = []
    titles: list[str] = []
    wide = 1 + max(len(each.rows) for each in answers)
    for each in answers:
        pictures.append(each.pixels)
        titles.append(f"query\n{_short(each.name)}")
        for row, distance in zip(each.rows, each.distances, strict=True):
            told = index.told(row)
            pictures.append(pixels(index.thumbnail(row)))
            named = _short(told.get("class", f"id {told['id']}"))
            titles.append(f"{named}\n{distance:.4f}")
        missing = wide - 1 - len(each.rows)  # an approximate index may find fewer
        pictures += [np.full((1, 1, 3), 255, np.uint8)] * missing
        titles += [""] * missing
    return figures.sheet(pictures, titles, wide=wide, cell=CELL, fontsize=7)


def pixels(thumbnail: bytes) -> NDArray[np.uint8]:
    """(H, W, C) of a thumbnail."""
    from PIL import Image

    found = np.asarray(Image.open(io.BytesIO(thumbnail)))
    return found[..., None] if found.ndim == 2 else found


def _short(name: str) -> str:
    leaf = name.rstrip("/").rsplit("/", 1)[-1]
    return leaf if len(leaf) <= LONGEST else f"{leaf[: LONGEST - 1]}…"
