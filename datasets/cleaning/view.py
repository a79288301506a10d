"""A set as a list of its labels wants it: samples dropped, relabelled or weighted. No file is copied."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
from numpy.typing import NDArray

from datasets.assembled import Columns, Part
from datasets.cleaning.lists import Labels
from datasets.order import Integers
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.subsets import check_labels, with_train, with_weights

PATH = "data.cleaned"  # where a recipe says it


class _Listed:
    """A list by its ids: what is said of some rows. Altered copies have their original's place."""

    def __init__(self, labels: Labels) -> None:
        by_id = np.argsort(labels.ids)
        self.ids, self.given = labels.ids[by_id], labels.given[by_id]
        self.actions = labels.actions[by_id]
        self.labels = np.where(self.actions == "relabel", labels.suggested[by_id], -1)
        weights = np.where(self.actions == "downweight", labels.weights[by_id], 1.0)
        self.weights = weights.astype(np.float32)

    def places(self, columns: Columns) -> tuple[Integers, NDArray[np.bool_]]:
        """Where in the list each row is, and whether it is there."""
        wanted = np.asarray(columns.get("origin", columns["id"]))
        places = np.searchsorted(self.ids, wanted).clip(max=len(self.ids) - 1)
        return places, self.ids[places] == wanted

    def relabelled(self, columns: Columns) -> Columns:
        places, there = self.places(columns)
        label, wanted = np.asarray(columns["label"]), self.labels[places]
        return {**columns, "label": np.where(there & (wanted >= 0), wanted, label)}

    def weighted(self, columns: Columns) -> Columns:
        places, there = self.places(columns)
        return {**columns, "weight": np.where(there, self.weights[places], np.float32(1))}

    def told(self) -> str:
        """What is changed, as text: equal for lists that do the same."""
        changed = self.actions != "keep"
        columns = (self.ids, self.actions, self.labels, self.weights)
        return "\n".join(str(column[changed].tolist()) for column in columns)


def cleaned(dataset: Dataset, labels: Labels, *, other: bool) -> Dataset:
    """The train split's samples dropped, relabelled, or with a `weight` (float32, 1 for all others), as the list says.

    With `other` the manifest's digest says that these are other data. Raises Refusal where the list's given labels are
    not those of the set, or nothing is left to learn from.
    """
    check_labels(dataset, PATH)
    if not len(labels.ids):
        return dataset
    listed = _Listed(labels)
    columns: Columns = dict(dataset.columns("train"))
    places, there = listed.places(columns)
    _check_given(dataset, listed, places, there)
    kept = ~(there & (listed.actions[places] == "drop"))
    if not kept.any():
        raise Refusal(
            "the list drops every sample to learn from",
            path=PATH,
            remedy="keep some, or relabel them",
        )
    train = Part(dataset, "train", np.flatnonzero(kept), listed.relabelled)
    found = with_train(dataset, train)
    if (listed.weights < 1).any():
        found = with_weights(found, listed.weighted)
    if other:
        text = f"{dataset.manifest.digest}\n{listed.told()}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        found.manifest = dataclasses.replace(found.manifest, digest=digest)
    return found


def _check_given(
    dataset: Dataset, listed: _Listed, places: Integers, there: NDArray[np.bool_]
) -> None:
    """Refuse a list whose given labels are not the set's, or none of whose ids is there: it was made of others."""
    columns, names = dataset.columns("train"), dataset.manifest.classes
    if not there.any():
        raise Refusal(
            f"none of the list's {len(listed.ids):,} ids is among the {len(there):,} samples to learn from",
            path=PATH,
            value=int(listed.ids[0]),
            remedy="look whether its ids were mistyped, or leave it out",
        )
    given = listed.given[places]
    differ = np.flatnonzero(there & (given != columns["label"]))
    if len(differ):
        row = int(differ[0])
        raise Refusal(
            f"the list has id {columns['id'][row]} as '{names[given[row]]}', the data have it as "
            f"'{names[columns['label'][row]]}' ({len(differ):,} differ so)",
            path=PATH,
            value=int(columns["id"][row]),
            remedy="make a list of these labels: `python launch.py data clean RECIPE`",
        )
