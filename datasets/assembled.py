"""Data sets made of packed ones without copying a file: some of their rows, other labels, several sets as one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from datasets.order import Integers
from datasets.packed.columns import Array
from datasets.packed.manifest import Manifest, Shard, Split
from datasets.packed.records import Column
from datasets.packed.shelf import Books
from datasets.refusal import Refusal
from datasets.shards import Dataset

Columns = dict[str, Column]
Change = Callable[[Columns], Columns]
SET_IDS = 2**48  # ids of a mixture's second set begin here, those of its third at twice that
KEPT = 65_536  # record batches whose changed columns are remembered: labels and ids, no pictures


@dataclass(frozen=True)
class Part:
    """Rows of a split, all or those that are named (sorted), and what becomes of their columns."""

    dataset: Dataset
    split: str
    rows: Integers | None = None
    change: Change | None = None

    @property
    def num_rows(self) -> int:
        return self.dataset.manifest.split(self.split).rows if self.rows is None else len(self.rows)

    def shards(self) -> tuple[Shard, ...]:
        """The shards with the rows that are of the part, for whoever plans by them; `bytes` is their share."""
        found = self.dataset.manifest.split(self.split).shards
        if self.rows is None:
            return found
        bounds = np.cumsum([0, *(shard.rows for shard in found)])
        counts = np.diff(np.searchsorted(self.rows, bounds)).tolist()
        return tuple(
            dataclasses.replace(shard, rows=count, bytes=shard.bytes * count // shard.rows)
            for shard, count in zip(found, counts, strict=True)
        )

    def columns(self) -> Columns:
        """All of its columns but encoded pictures."""
        whole = self.dataset.columns(self.split)
        found: Columns = dict(whole)
        if self.rows is not None:
            found = {name: values[self.rows] for name, values in whole.items()}
        return self.change(found) if self.change else found


class Assembled(Dataset):
    """A data set whose splits are parts of others. Raises Refusal where a part's split is not there."""

    def __init__(self, manifest: Manifest, parts: Mapping[str, Sequence[Part]]) -> None:
        first = next(iter(parts.values()))[0].dataset
        splits = {name: _split(own) for name, own in parts.items()}
        super().__init__(first.url, dataclasses.replace(manifest, splits=splits))
        self.parts = parts
        counted = (part.dataset.stats for own in parts.values() for part in own)
        self.stats = next((stats for stats in counted if stats), None)
        self._columns: dict[str, dict[str, Array]] = {}
        self.ingredients: tuple[Split, ...] = ()  # of a mixture: the train split of each set

    def __reduce__(self) -> tuple[Any, ...]:
        return Assembled, (self.manifest, self.parts)

    def shelf(self, split: str) -> Books:
        self.manifest.split(split)  # refuses an unknown one
        return _Joined(self.parts[split])

    def columns(self, split: str) -> dict[str, Array]:
        self.manifest.split(split)
        if split not in self._columns:
            self._columns[split] = _joined_columns(self.manifest, self.parts[split])
        return dict(self._columns[split])


class _Joined:
    """The shelves of several parts as one: rows and record batches numbered through."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.shelves = [part.dataset.shelf(part.split) for part in parts]
        self.url = self.shelves[0].url
        self.firsts = np.cumsum([0, *(part.num_rows for part in parts)])
        self.numbers = np.cumsum([0, *(len(shelf) for shelf in self.shelves)])
        self._changed = lru_cache(maxsize=KEPT)(self._change)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Joined, (self.parts,)

    def __len__(self) -> int:
        return int(self.numbers[-1])

    def locate(self, rows: Integers) -> tuple[Integers, Integers]:
        numbers, places = np.empty_like(rows), np.empty_like(rows)
        owners = np.searchsorted(self.firsts, rows, side="right") - 1
        for owner in np.unique(owners).tolist():
            own = owners == owner
            inner = rows[own] - self.firsts[owner]
            chosen = self.parts[owner].rows
            found, places[own] = self.shelves[owner].locate(
                inner if chosen is None else chosen[inner]
            )
            numbers[own] = found + self.numbers[owner]
        return numbers, places

    def open(self, number: int) -> Columns:
        owner, inner = self._place(number)
        columns = self.shelves[owner].open(inner)
        if self.parts[owner].change is None:
            return columns
        # Pictures come from the shelf each time, so that it alone decides how long they are held.
        large: Columns = {name: columns[name] for name in ("image", "tiles") if name in columns}
        return {**self._changed(number), **large}

    def _change(self, number: int) -> Columns:
        owner, inner = self._place(number)
        change = self.parts[owner].change
        assert change is not None
        columns = self.shelves[owner].open(inner).items()
        return change({name: values for name, values in columns if name not in ("image", "tiles")})

    def _place(self, number: int) -> tuple[int, int]:
        owner = int(np.searchsorted(self.numbers, number, side="right")) - 1
        return owner, number - int(self.numbers[owner])

    def prefetch(self, numbers: Iterable[int]) -> None:
        wanted: dict[int, list[int]] = {}
        for number in numbers:
            owner, inner = self._place(number)
            wanted.setdefault(owner, []).append(inner)
        for owner, own in wanted.items():
            self.shelves[owner].prefetch(own)

    def interrupt(self) -> None:
        for shelf in self.shelves:
            shelf.interrupt()

    def close(self) -> None:
        for shelf in self.shelves:
            shelf.close()


def mixed(datasets: Sequence[Dataset], weights: Sequence[float]) -> Assembled:
    """Several sets' train splits as one, rows numbered through them; the other splits, classes and moments are the first's.

    Labels of other sets are found by the names of their classes. Columns that not all have are left out. Raises Refusal
    where the pictures differ in kind or shape, or a set has a class that the first has not.
    """
    first = datasets[0].manifest
    counted = [one for one in datasets if one.stats]
    for one in counted:
        one.stats = counted[0].stats
    for number, one in enumerate(datasets[1:], 1):
        _check_alike(first, one.manifest, f"data.mixture.{number}")
    shared = {
        name: words
        for name, words in first.columns.items()
        if all(one.manifest.columns.get(name) == words for one in datasets)
    }
    parts: dict[str, list[Part]] = {
        name: [Part(datasets[0], name, change=_only(shared))] for name in first.splits
    }
    parts["train"] = [
        Part(one, "train", change=_moved(number, shared, _classes_of(one.manifest, first, number)))
        for number, one in enumerate(datasets)
    ]
    told = json.dumps([[one.manifest.digest for one in datasets], list(weights)])
    manifest = dataclasses.replace(
        first,
        name="+".join(one.manifest.name for one in datasets),
        columns=shared,
        digest=hashlib.sha256(told.encode()).hexdigest(),
    )
    found = Assembled(manifest, parts)
    found.ingredients = tuple(_split([part]) for part in parts["train"])
    return found


def _split(parts: Sequence[Part]) -> Split:
    rows = sum(part.num_rows for part in parts)
    shards = tuple(shard for part in parts for shard in part.shards())
    content = "+".join(part.dataset.manifest.split(part.split).content for part in parts)
    return Split(rows, content, shards)


def _joined_columns(manifest: Manifest, parts: Sequence[Part]) -> dict[str, Array]:
    found = [part.columns() for part in parts]
    names = [name for name in found[0] if name in manifest.columns]
    columns = {}
    for name in names:
        pieces = [np.asarray(one[name]) for one in found]
        columns[name] = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return columns


def _only(shared: Mapping[str, str]) -> Change:
    return lambda columns: {name: values for name, values in columns.items() if name in shared}


def _moved(number: int, shared: Mapping[str, str], classes: Integers | None) -> Change:
    """Ids moved out of the way of other sets', labels made those of the first set."""

    def change(columns: Columns) -> Columns:
        found = _only(shared)(columns)
        found["id"] = np.asarray(columns["id"]) + number * SET_IDS
        if classes is not None and "label" in found:
            found["label"] = classes[np.asarray(columns["label"])]
        return found

    return change


def _classes_of(other: Manifest, first: Manifest, number: int) -> Integers | None:
    """Where the classes of a set are among the first's; None where they are the same."""
    if other.classes == first.classes:
        return None
    for name in other.classes:
        if name not in first.classes:
            raise Refusal(
                f"{_said(other)} has a class '{name}', which the first, {_said(first)}, has not",
                path=f"data.mixture.{number}",
                value=name,
                remedy="put the set with all classes first",
            )
    return np.array([first.classes.index(name) for name in other.classes], np.int64)


def _said(manifest: Manifest) -> str:
    """A set as people know it: two of one kind of source have one name."""
    arguments = manifest.packed.get("args")
    path = arguments.get("path") if isinstance(arguments, dict) else None
    return f"'{manifest.name}' of {path}" if path else f"'{manifest.name}'"


def _check_alike(first: Manifest, other: Manifest, path: str) -> None:
    for what in ("kind", "codec", "shape"):
        mine, theirs = getattr(first, what), getattr(other, what)
        if mine != theirs:
            raise Refusal(
                f"{_said(other)} has {what} {theirs}, {_said(first)} has {mine}: one batch cannot hold both",
                path=path,
                value=str(theirs),
                remedy="pack one of them like the other",
            )
