"""The pictures of an index cut into jobs, which any process can do: a job is the same rows however many workers there are."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from datasets import subsets
from datasets.assembled import Assembled, Part
from datasets.pictures import decode
from datasets.progress import Progress
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.stream import EvalStream
from trainers.retrieval.embedder import Embedder, Features, Metric

ROWS = 256  # of a job, or up to twice as many
SIDE = 96  # pixels of a thumbnail's longer side; smaller pictures are kept as they are
LOSSLESS = 64  # pixels of the longest side that is kept as PNG


@dataclass(frozen=True)
class Job:
    """Part `part` of `parts` of a split's rows."""

    split: str
    part: int
    parts: int


@dataclass(frozen=True)
class Piece:
    """What a job came to: N rows in the split's order. `labels` is None of a set without classes."""

    job: Job
    ids: NDArray[np.int64]
    labels: NDArray[np.int64] | None
    paths: list[str] | None  # within the source, where it has files
    features: Features  # (N, D)
    thumbnails: list[bytes]  # what the model saw, reduced: PNG or JPEG


# Does jobs, and yields which one is done with what came of it, in any order.
Runner: TypeAlias = Callable[[Sequence[Job]], Generator[tuple[int, Piece]]]


def cut(dataset: Dataset, splits: Sequence[str]) -> list[Job]:
    """The jobs of some splits, in order."""
    jobs = []
    for split in splits:
        parts = max(1, dataset.manifest.split(split).rows // ROWS)
        jobs += [Job(split, part, parts) for part in range(parts)]
    return jobs


def done(job: Job, embedder: Embedder, dataset: Dataset, metric: Metric, *, check: bool) -> Piece:
    """Embed a job's pictures; with `check` the first batch shows whether a picture's features are its own."""
    stream = EvalStream(
        dataset,
        job.split,
        batch=embedder.recipe.data.batch,
        rank=job.part,
        world=job.parts,
        view=embedder.view,
    )
    ids, labels, features, thumbnails = [], [], [], list[bytes]()
    for batch in stream:
        if check:
            embedder.check(batch)
            check = False
        features.append(embedder.features(batch, metric))
        ids.append(batch["id"].numpy())
        if "label" in batch.columns:
            labels.append(batch["label"].numpy())
        thumbnails += [thumbnail(pixels) for pixels in batch["image"].numpy()]
    paths: list[str] | None = None
    if "path" in dataset.manifest.columns:
        paths = dataset.columns(job.split)["path"][stream.share.start : stream.share.stop].tolist()
    told = np.concatenate(labels) if labels else None
    return Piece(job, np.concatenate(ids), told, paths, np.concatenate(features), thumbnails)


def here(embedder: Embedder, dataset: Dataset, metric: Metric) -> Runner:
    """A runner that does all jobs in this process, one after the other."""

    def run(jobs: Sequence[Job]) -> Generator[tuple[int, Piece]]:
        for place, job in enumerate(jobs):
            yield place, done(job, embedder, dataset, metric, check=place == 0)

    return run


def told(pieces: Iterator[Piece], total: int, progress: Progress) -> Iterator[Piece]:
    """The pieces, and to whoever watches how many pictures are done."""
    done = 0
    for piece in pieces:
        done += len(piece.ids)
        progress(done, total)
        yield piece


def thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    """A picture (H, W, C) as PNG where it is small, else as JPEG of at most 96 pixels a side."""
    picture, file = decode.pillow(pixels), io.BytesIO()
    if max(picture.size) <= LOSSLESS:
        picture.save(file, "PNG")
    else:
        picture.thumbnail((SIDE, SIDE))
        picture.save(file, "JPEG", quality=85)
    return file.getvalue()


def sampled(dataset: Dataset, splits: Sequence[str], rows: int | None, seed: int) -> Dataset:
    """These splits alone, with `rows` of each (None: all), classes in proportion: a function of (seed, id).

    Raises Refusal where a split is not there, or has fewer.
    """
    parts = {}
    for split in splits:
        found = dataset.manifest.split(split, "--on").rows
        if rows is None:
            parts[split] = [Part(dataset, split)]
            continue
        if not 0 < rows <= found:
            raise Refusal(
                f"split '{split}' has {found} pictures",
                path="--subset",
                value=rows,
                remedy=f"use a number from 1 to {found}",
            )
        columns = dataset.columns(split)
        labels = columns.get("label", np.zeros(found, np.int64))
        drawn = subsets.chosen(labels, columns["id"], fraction=rows / found, seed=seed)
        parts[split] = [Part(dataset, split, drawn)]
    return Assembled(dataset.manifest, parts)
