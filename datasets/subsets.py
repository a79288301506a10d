"""Subsets, noise and weights: which samples a recipe learns from, and what they are said to be. Functions of (seed, id)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from datasets import order
from datasets.assembled import Assembled, Columns, Part
from datasets.order import Integers
from datasets.refusal import Refusal, nearest
from datasets.shards import Dataset

Noise: TypeAlias = Callable[[Integers, Integers, int], Integers]  # labels, ids, number of classes


def chosen(
    labels: Integers,
    ids: Integers,
    *,
    shots: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
) -> Integers:
    """Rows, sorted: `shots` of each class, or the first `fraction` of a stratified order.

    Draws are nested: what a smaller number chooses a larger one chooses too, and so for fractions.
    """
    drawn = order.hashes(order.key("subset", seed), ids, 0)
    by_class = np.lexsort((drawn, labels))
    sizes = np.bincount(labels)
    rank = np.empty(len(labels), np.int64)
    rank[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    if shots is not None:
        return np.flatnonzero(rank < shots)
    assert fraction is not None
    # A class's k-th sample comes at the share (k + 1/2) / n of the order: every beginning of it is stratified.
    whole = np.lexsort((drawn, (rank + 0.5) / sizes[labels]))
    return np.sort(whole[: max(1, round(fraction * len(labels)))])


def counts(dataset: Dataset, split: str = "train") -> list[int]:
    """Samples of each class in a split, by the labels that are learnt from; empty where there are none."""
    labels = dataset.columns(split).get("label")
    if labels is None or not dataset.manifest.classes:
        return []
    found: list[int] = np.bincount(labels, minlength=len(dataset.manifest.classes)).tolist()
    return found


def of_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """The samples of some classes, in all splits; labels are numbered by the order of their names in `classes`."""
    manifest = dataset.manifest
    _check_labels(dataset, "data.subset.classes")
    for number, name in enumerate(classes):
        twice = name in classes[:number]
        if name not in manifest.classes or twice:
            raise Refusal(
                f"'{name}' is named twice"
                if twice
                else f"'{name}' is no class of '{manifest.name}'",
                path=f"data.subset.classes.{number}",
                value=name,
                remedy="name it once" if twice else nearest(name, manifest.classes),
            )
    label_of = np.full(len(manifest.classes), -1, np.int64)
    label_of[[manifest.classes.index(name) for name in classes]] = np.arange(len(classes))

    def change(columns: Columns) -> Columns:
        return {**columns, "label": label_of[np.asarray(columns["label"])]}

    parts = {}
    for split in manifest.splits:
        rows = np.flatnonzero(label_of[dataset.columns(split)["label"]] >= 0)
        if not len(rows):
            raise Refusal(
                f"split '{split}' has no sample of {', '.join(classes)}",
                path="data.subset.classes",
                value=list(classes),
                remedy="choose other classes",
            )
        parts[split] = [Part(dataset, split, rows, change)]
    return Assembled(dataclasses.replace(manifest, classes=tuple(classes)), parts)


def of_train(
    dataset: Dataset, *, shots: int | None, fraction: float | None, seed: int = 0
) -> Dataset:
    """Fewer samples to learn from; the other splits stay whole."""
    columns = dataset.columns("train")
    if shots is not None:
        _check_labels(dataset, "data.subset.shots")
        _check_shots(dataset, shots)
    labels = columns.get("label", np.zeros(len(columns["id"]), np.int64))
    ids, origins = columns["id"], columns.get("origin", columns["id"])
    originals = np.flatnonzero(ids == origins)
    drawn = chosen(labels[originals], ids[originals], shots=shots, fraction=fraction, seed=seed)
    rows = np.flatnonzero(np.isin(origins, ids[originals[drawn]]))  # with their altered copies
    return _with_train(dataset, Part(dataset, "train", rows))


def noisy(dataset: Dataset, noise: Noise) -> Dataset:
    """Labels of the train split as `noise` has them; the other splits keep theirs."""
    _check_labels(dataset, "data.noise")
    num_classes = len(dataset.manifest.classes)

    def change(columns: Columns) -> Columns:
        # Altered copies of a picture are as wrong as it is.
        label, ids = np.asarray(columns["label"]), np.asarray(columns.get("origin", columns["id"]))
        return {**columns, "label": noise(label, ids, num_classes)}

    return _with_train(dataset, Part(dataset, "train", change=change))


def weighted(dataset: Dataset) -> Dataset:
    """A column `weight` float32: N / (classes x samples of the class) of train, so that its mean there is 1."""
    _check_labels(dataset, "data.class_weights")
    sizes = np.bincount(dataset.columns("train")["label"], minlength=len(dataset.manifest.classes))
    present = np.count_nonzero(sizes)
    weights = (sizes.sum() / (present * np.maximum(sizes, 1))).astype(np.float32)

    def change(columns: Columns) -> Columns:
        return {**columns, "weight": weights[np.asarray(columns["label"])]}

    manifest = dataset.manifest
    columns = {**manifest.columns, "weight": "float32"}
    parts = {split: [Part(dataset, split, change=change)] for split in manifest.splits}
    found = Assembled(dataclasses.replace(manifest, columns=columns), parts)
    if isinstance(dataset, Assembled):
        found.ingredients = dataset.ingredients  # no row has moved
    return found


def _with_train(dataset: Dataset, train: Part) -> Assembled:
    parts: Mapping[str, Sequence[Part]] = {
        split: [train if split == "train" else Part(dataset, split)]
        for split in dataset.manifest.splits
    }
    return Assembled(dataset.manifest, parts)


def _check_shots(dataset: Dataset, shots: int) -> None:
    """Refuse more samples a class than the smallest one has, which would no longer be so many shots."""
    columns = dataset.columns("train")
    originals = columns["id"] == columns.get("origin", columns["id"])
    sizes = np.bincount(columns["label"][originals], minlength=len(dataset.manifest.classes))
    present = np.flatnonzero(sizes)
    smallest = present[sizes[present].argmin()]
    if sizes[smallest] < shots:
        raise Refusal(
            f"class '{dataset.manifest.classes[smallest]}' has {sizes[smallest]} samples to learn from, not {shots}",
            path="data.subset.shots",
            value=shots,
            remedy=f"use data.subset.shots={sizes[smallest]} or fewer, "
            "or choose other classes with data.subset.classes",
        )


def _check_labels(dataset: Dataset, path: str) -> None:
    if "label" not in dataset.manifest.columns or not dataset.manifest.classes:
        raise Refusal(
            f"'{dataset.manifest.name}' has no labels", path=path, remedy=f"leave out {path}"
        )
