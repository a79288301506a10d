"""The data card: what a person should know about a packed set before trusting a score on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from datasets import figures
from datasets.shards import Dataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 40


def card(dataset: Dataset) -> dict[str, Any]:
    """Counts by class and split, shape, channel mean and std, and where the set came from."""
    manifest = dataset.manifest
    counts = {}
    for split in manifest.splits:
        columns = dataset.columns(split)  # also of a table: damaged shards are found here
        if manifest.classes:
            labels = columns["label"]
            found = np.bincount(labels, minlength=len(manifest.classes)).tolist()
            counts[split] = dict(zip(manifest.classes, found, strict=True))
    return {
        "name": manifest.name,
        "kind": manifest.kind,
        "shape": list(manifest.shape),
        "classes": list(manifest.classes),
        "rows": {name: split.rows for name, split in manifest.splits.items()},
        "counts": counts,
        "mean": list(manifest.mean),
        "std": list(manifest.std),
        "packed": dict(manifest.packed),
        "digest": manifest.digest,
    }


def examples(dataset: Dataset) -> Figure | None:
    """A sheet of training pictures as they are stored, classes in turn; None for a table."""
    manifest = dataset.manifest
    if manifest.kind != "image":
        return None
    columns = dataset.columns("train")
    labels = columns.get("label", np.zeros(manifest.splits["train"].rows, np.int64))
    rank_in_class = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rank_in_class[labels == label] = np.arange(np.count_nonzero(labels == label))
    shown = np.lexsort((labels, rank_in_class))[:_SHOWN]
    pictures = [dataset.picture("train", int(row)) for row in shown]
    titles = [manifest.classes[labels[row]][:12] for row in shown] if manifest.classes else []
    return figures.sheet(pictures, titles, wide=10, cell=(0.8, 0.95))
