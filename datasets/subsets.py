"""Subsets, noise, parts held out and weights: which samples a recipe learns from, and what they are said to be. Functions of (seed, id)."""

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
    imbalance: float | None = None,
    seed: int = 0,
) -> Integers:
    """Rows, sorted: `shots` of each class, the first `fraction` of a stratified order, or fewer of each further class.

    With `imbalance` the k-th of C classes keeps the share imbalance^(-k / (C - 1)) of the smallest one's size, rounded
    (arXiv 1901.05555). Draws are nested: what a smaller number chooses a larger one chooses too, and so for the others.
    """
    drawn = order.hashes(order.key("subset", seed), ids, 0)
    by_class = np.lexsort((drawn, labels))
    sizes = np.bincount(labels)
    rank = np.empty(len(labels), np.int64)
    rank[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    if shots is not None:
        return np.flatnonzero(rank < shots)
    if imbalance is not None:
        most = sizes[sizes > 0].min()
        shares = imbalance ** (-np.arange(len(sizes)) / max(1, len(sizes) - 1))
        return np.flatnonzero(rank < np.maximum(1, np.rint(most * shares))[labels])
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


def unjudged(dataset: Dataset) -> list[str]:
    """Classes that are learnt and have no validation sample, by name; none where there is no validation split."""
    if "val" not in dataset.manifest.splits:
        return []
    learnt, judged = counts(dataset), counts(dataset, "val")
    if not any(judged):
        return []
    pairs = zip(dataset.manifest.classes, learnt, judged, strict=True)
    return [name for name, n, seen in pairs if n and not seen]


def of_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """The samples of some classes, in all splits; labels are numbered by the order of their names in `classes`."""
    manifest = dataset.manifest
    check_labels(dataset, "data.subset.classes")
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


def joined(dataset: Dataset, splits: Sequence[str]) -> Dataset:
    """Several splits to learn from as one, "train"; those that join it are no splits of their own any more."""
    for number, name in enumerate(splits):
        if name not in dataset.manifest.splits or name in splits[:number]:
            raise Refusal(
                f"'{name}' is no split of '{dataset.manifest.name}'"
                if name not in dataset.manifest.splits
                else f"'{name}' is named twice",
                path=f"data.learn_from.{number}",
                value=name,
                remedy=nearest(name, dataset.manifest.splits),
            )
    parts = {name: [Part(dataset, name)] for name in dataset.manifest.splits if name not in splits}
    return Assembled(dataset.manifest, {"train": [Part(dataset, name) for name in splits], **parts})


def of_train(
    dataset: Dataset,
    *,
    shots: int | None = None,
    fraction: float | None = None,
    imbalance: float | None = None,
    seed: int = 0,
) -> Dataset:
    """Fewer samples to learn from; the other splits stay whole. Raises Refusal for more shots than a class has."""
    columns = dataset.columns("train")
    if shots is not None or imbalance is not None:
        check_labels(dataset, f"data.subset.{'shots' if shots is not None else 'imbalance'}")
    labels = columns.get("label", np.zeros(len(columns["id"]), np.int64))
    ids, origins = columns["id"], columns.get("origin", columns["id"])
    originals = np.flatnonzero(ids == origins)
    if shots is not None:
        check_shots(dataset, shots)
    drawn = chosen(
        labels[originals],
        ids[originals],
        shots=shots,
        fraction=fraction,
        imbalance=imbalance,
        seed=seed,
    )
    rows = np.flatnonzero(np.isin(origins, ids[originals[drawn]]))  # with their altered copies
    return with_train(dataset, Part(dataset, "train", rows))


def noisy(dataset: Dataset, noise: Noise) -> Dataset:
    """Labels of the train split as `noise` has them; the other splits keep theirs."""
    check_labels(dataset, "data.noise")
    num_classes = len(dataset.manifest.classes)

    def change(columns: Columns) -> Columns:
        # Altered copies of a picture are as wrong as it is.
        label, ids = np.asarray(columns["label"]), np.asarray(columns.get("origin", columns["id"]))
        return {**columns, "label": noise(label, ids, num_classes)}

    return with_train(dataset, Part(dataset, "train", change=change))


def held_out(dataset: Dataset, *, fold: int, folds: int, seed: int = 0) -> Dataset:
    """One of `folds` parts of train is the test split, in place of the set's own; train is the others.

    Parts are even in size, and in each class's share, to one row, by the labels as they stand. Altered copies are left
    out with the part that their originals are in. Raises Refusal where there are fewer rows than parts.
    """
    check_labels(dataset, "data.held_out")
    columns = dataset.columns("train")
    ids, origins = columns["id"], columns.get("origin", columns["id"])
    originals = np.flatnonzero(ids == origins)
    if folds > len(originals):
        raise Refusal(
            f"{len(originals)} rows to learn from make no {folds} parts",
            path="data.held_out.folds",
            value=folds,
            remedy=f"use {len(originals)} or fewer",
        )
    drawn = order.hashes(order.key("held out", seed), ids[originals], 0)
    # One class after the other without starting anew: else the first parts got what is left of every class.
    dealt = originals[np.lexsort((drawn, columns["label"][originals]))]
    test = np.sort(dealt[fold::folds])
    train = np.flatnonzero(~np.isin(origins, ids[test]))
    parts = {
        split: [Part(dataset, split)] for split in dataset.manifest.splits if split != "test"
    } | {"train": [Part(dataset, "train", train)], "test": [Part(dataset, "train", test)]}
    return Assembled(dataset.manifest, parts)


def weighted(dataset: Dataset) -> Dataset:
    """A column `weight` float32: N / (classes x samples of the class) of train, so that its mean there is 1.

    Where samples have weights, they count in a class's size as much, and both are multiplied.
    """
    check_labels(dataset, "data.class_weights")
    columns = dataset.columns("train")
    sizes = np.bincount(
        columns["label"], columns.get("weight"), minlength=len(dataset.manifest.classes)
    )
    present = np.count_nonzero(sizes)
    rare = np.where(sizes > 0, sizes, 1)
    weights = (sizes.sum() / (present * rare)).astype(np.float32)

    def change(columns: Columns) -> Columns:
        own = weights[np.asarray(columns["label"])]
        return {**columns, "weight": own * np.asarray(columns.get("weight", np.float32(1)))}

    found = with_weights(dataset, change)
    if isinstance(dataset, Assembled):
        found.ingredients = dataset.ingredients  # no row has moved
    return found


def check_shots(dataset: Dataset, shots: int, path: str = "data.subset.shots") -> None:
    """Refuse k shots of a class that has fewer: the classes would not be equal, as shots promise."""
    columns, classes = dataset.columns("train"), dataset.manifest.classes
    labels, ids = columns["label"], columns["id"]
    sizes = np.bincount(labels[ids == columns.get("origin", ids)], minlength=len(classes))
    if sizes.min() < shots:
        least = int(sizes.argmin())
        said = f"{path}={sizes[least]}"
        raise Refusal(
            f"class '{classes[least]}' has {sizes[least]} samples to learn from, not {shots}",
            path=path,
            value=shots,
            remedy=f"use {said} or fewer, or choose other classes with data.subset.classes"
            if sizes[least]
            else "choose classes that have some with data.subset.classes",
        )


def with_weights(dataset: Dataset, change: Callable[[Columns], Columns]) -> Assembled:
    """All splits with a column `weight`, float32, as `change` adds it."""
    manifest = dataset.manifest
    columns = {**manifest.columns, "weight": "float32"}
    parts = {split: [Part(dataset, split, change=change)] for split in manifest.splits}
    return Assembled(dataclasses.replace(manifest, columns=columns), parts)


def with_train(dataset: Dataset, train: Part) -> Assembled:
    """All splits, with another train."""
    parts: Mapping[str, Sequence[Part]] = {
        split: [train if split == "train" else Part(dataset, split)]
        for split in dataset.manifest.splits
    }
    return Assembled(dataset.manifest, parts)


def check_labels(dataset: Dataset, path: str) -> None:
    """Refuse data without classes, for what stands at `path` of the recipe."""
    if "label" not in dataset.manifest.columns or not dataset.manifest.classes:
        raise Refusal(
            f"'{dataset.manifest.name}' has no labels", path=path, remedy=f"leave out {path}"
        )
