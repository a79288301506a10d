"""The whole card: what is counted from columns alone, and what only decoding every picture tells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from datasets.card import card, duplicates, fingerprints
from datasets.card.duplicates import NEAR, Duplicates, Group
from datasets.card.fingerprints import Failures
from datasets.packed import folds
from datasets.packed.columns import Array
from datasets.packed.manifest import Split
from datasets.progress import Progress
from datasets.shards import Dataset

FEW = 10  # rows of a class in train
MOST_GROUPS = 10_000  # that are listed, of each kind


def whole(
    dataset: Dataset, *, near: int = NEAR, threads: int = 0, progress: Progress | None = None
) -> dict[str, Any]:
    """All that `card` says and more; it decodes every picture. Raises Refusal for damaged shards."""
    known = card(dataset)
    manifest = dataset.manifest
    found: dict[str, Any] = {
        **known,
        "bytes": {name: _bytes(split) for name, split in manifest.splits.items()},
        "columns": dict(manifest.columns),
        "sizes": sizes(dataset),
        "balance": balance(known["counts"]),
        "order": {split: order(dataset.columns(split)) for split in known["counts"]},
        "undecodable": {"left_out": manifest.packed.get("left_out", []), "met": []},
        "duplicates": None,
    }
    if manifest.kind == "image":
        prints = fingerprints.take(dataset, threads=threads, progress=progress)
        found["undecodable"]["met"] = [*_failed(dataset, prints.undecodable)]
        alike = duplicates.find(prints, near=near)
        found["duplicates"] = _listed(dataset, alike, near=near, read=len(prints))
    return found


def sizes(dataset: Dataset) -> dict[str, Any] | None:
    """Least, median and most of heights, widths and width by height, over all splits; None for a table."""
    manifest = dataset.manifest
    if manifest.kind != "image":
        return None
    if manifest.codec == "raw":
        heights, widths = (np.array([side]) for side in manifest.shape[:2])
    else:
        every = [dataset.columns(split) for split in manifest.splits]
        heights, widths = (np.concatenate([c[n] for c in every]) for n in ("height", "width"))
    if not len(heights):
        return None
    measured = {
        "height": heights,
        "width": widths,
        "shorter": np.minimum(heights, widths),
        "aspect": widths / heights,
    }
    return {
        name: {
            "min": round(float(values.min()), 3),
            "median": round(float(np.median(values)), 3),
            "max": round(float(values.max()), 3),
            "histogram": _histogram(values),
        }
        for name, values in measured.items()
    }


def _histogram(values: Array) -> list[list[float]]:
    """[from, to, how many] of at most 16 bins, wider the larger the values are."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return [[low, high, len(values)]]
    edges = np.geomspace(low, high, 17)
    counts, _ = np.histogram(values, np.r_[edges[:-1], np.inf])
    bins = zip(edges.round(3).tolist(), edges[1:].round(3).tolist(), counts.tolist(), strict=False)
    return [[start, end, num] for start, end, num in bins]


def balance(counts: dict[str, dict[str, int]]) -> dict[str, Any] | None:
    """Classes that lack examples, and how uneven those of train are; None without classes."""
    if not counts:
        return None
    train = counts.get("train") or _least_train(counts) or next(iter(counts.values()))
    total = {name: sum(of_split[name] for of_split in counts.values()) for name in train}
    shares = np.array([num for num in train.values() if num], float)
    shares /= max(1.0, shares.sum())
    seen = [num for num in train.values() if num]
    return {
        "empty": [name for name, num in total.items() if not num],
        "few": {name: num for name, num in train.items() if num < FEW and total[name]},
        "absent": {
            split: [name for name, num in of_split.items() if not num and total[name]]
            for split, of_split in counts.items()
        },
        # As many equal classes would be as hard to guess: the exponential of the entropy.
        "effective_classes": round(float(np.exp(-(shares * np.log(shares)).sum())), 2),
        "largest_by_smallest": round(max(seen) / min(seen), 2) if seen else None,
    }


def _least_train(counts: dict[str, dict[str, int]]) -> dict[str, int]:
    """Of a set in folds what is left of each class to learn from where the fold with most of it is val."""
    parts = [counts[name] for name in counts if folds.is_fold(name)]
    if not parts:
        return {}
    return {name: sum(p[name] for p in parts) - max(p[name] for p in parts) for name in parts[0]}


def order(columns: dict[str, Array]) -> dict[str, Any]:
    """How often neighbours are of one class, and how often they were in a shuffled split."""
    labels = columns["label"]
    num = len(labels)
    if num < 2:
        return {"neighbours_alike": None, "by_chance": None, "shuffled": None}
    alike = float((labels[1:] == labels[:-1]).mean())
    counts = np.bincount(labels).astype(float)
    chance = float((counts * (counts - 1)).sum() / (num * (num - 1)))
    spread = float(np.sqrt(chance * (1 - chance) / (num - 1)))
    shuffled = alike <= chance + 5 * spread
    return {
        "neighbours_alike": round(alike, 4),
        "by_chance": round(chance, 4),
        "shuffled": shuffled if chance < 1 else None,
    }


def _bytes(split: Split) -> int:
    return sum(file.bytes for file in (*split.shards, *split.index))


def _failed(dataset: Dataset, failures: Failures) -> Iterable[dict[str, Any]]:
    for split, row, reason in failures:
        yield {**_row(dataset, split, row), "reason": reason}


def _listed(dataset: Dataset, found: Duplicates, *, near: int, read: int) -> dict[str, Any]:
    groups = {}
    for kind in ("exact", "near"):
        own = [group for group in found.groups if group.kind == kind]
        groups[kind] = {
            "groups": len(own),
            "across_splits": sum(group.leaks for group in own),
            "rows": sum(len(group.members) for group in own),
            "listed": [_group(dataset, group) for group in own[:MOST_GROUPS]],
        }
    return {
        "pictures": read,
        "compared": found.compared,
        "near_bits": near,
        "leaks": [
            {
                "split": leak.split,
                "in": leak.within,
                "exact": leak.exact,
                "near": leak.near,
                "rows": dataset.manifest.splits[leak.split].rows,
            }
            for leak in found.leaks
        ],
        **groups,
    }


def _group(dataset: Dataset, group: Group) -> dict[str, Any]:
    members = [_row(dataset, split, row) for split, row in group.members]
    labels = {member.get("class") for member in members}
    return {
        "splits": list(group.splits),
        "leaks": group.leaks,
        "one_class": len(labels) == 1,
        "members": members,
    }


def _row(dataset: Dataset, split: str, row: int) -> dict[str, Any]:
    """What a person needs to find a picture again."""
    columns = dataset.columns(split)
    found: dict[str, Any] = {"split": split, "row": row, "id": int(columns["id"][row])}
    if "path" in columns:
        found["path"] = str(columns["path"][row])
    if dataset.manifest.classes and "label" in columns:
        found["class"] = dataset.manifest.classes[int(columns["label"][row])]
    return found
