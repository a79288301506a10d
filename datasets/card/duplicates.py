"""Pictures that are in a set more than once, above all in two splits: exactly, or looking the same.

Exact: the same pixels, however they are stored. Near: perceptual hashes that differ in few bits, and small copies that
correlate; only among pictures of at least 32 pixels a side that are not of one colour (likeness.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from datasets.card.fingerprints import Fingerprints
from datasets.packed import folds
from datasets.pictures import likeness
from datasets.pictures.likeness import Hashes
from datasets.refusal import Refusal

NEAR = 6  # bits of 64
MOST_NEAR = 16
MOST_PAIRS = 5_000_000
CHUNK = 1 << 20
Pairs: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Rows that are one picture; `members` are split and row. Of a near group each is like another one."""

    kind: Literal["exact", "near"]
    members: tuple[tuple[str, int], ...]

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(split for split, _ in self.members))

    @property
    def leaks(self) -> bool:
        return any(folds.meet(one, two) for one, two in combinations(self.splits, 2))


@dataclass(frozen=True)
class Leak:
    """How many rows of `split` have the same picture in split `within`, and how many more a near one."""

    split: str
    within: str
    exact: int
    near: int


@dataclass(frozen=True)
class Duplicates:
    """`groups` with leaks first, exact before near; `compared` pictures took part in the search for near ones."""

    groups: list[Group]
    leaks: list[Leak]
    compared: int


def find(prints: Fingerprints, *, near: int = NEAR) -> Duplicates:
    """Near ones differ in at most `near` of 64 bits. Raises Refusal for a number out of range."""
    if not 0 <= near <= MOST_NEAR:
        raise Refusal(
            f"{near} bits of 64 is no measure of likeness",
            path="--near",
            value=near,
            remedy=f"use 0 .. {MOST_NEAR}; {NEAR} is what was measured",
        )
    # From here on pictures, not rows: exact copies are one picture.
    _, first, picture = np.unique(prints.pixels, return_index=True, return_inverse=True)
    chosen = np.flatnonzero(prints.telling[first])
    rows = first[chosen]
    pairs = chosen[close_pairs(prints.looks[rows], near, prints.small[rows])]
    groups = [*_exact(prints, picture), *_near(prints, picture, pairs)]
    groups.sort(key=lambda group: not group.leaks)
    return Duplicates(groups, _leaks(prints, picture, pairs), len(chosen))


def close_pairs(hashes: Hashes, near: int, small: likeness.Copies | None = None) -> Pairs:
    """(P, 2) numbers i < j of hashes that differ in at most `near` bits and, where given, have small copies alike.

    Cut into `near` + 2 blocks of bits, two such hashes have at least two blocks in common, so only hashes that share
    two blocks are compared. Raises Refusal beyond 5 million pairs.
    """
    found, total = [np.empty((0, 2), np.int64)], 0
    for pairs in _candidates(hashes, near):
        one, two = pairs.T
        pairs = pairs[np.bitwise_count(hashes[one] ^ hashes[two]) <= near]
        if small is not None:
            pairs = pairs[likeness.alike(small[pairs[:, 0]], small[pairs[:, 1]])]
        total += len(pairs)
        if total > MOST_PAIRS:
            raise Refusal(
                f"more than {MOST_PAIRS:,} pairs of pictures are alike",
                path="--near",
                value=near,
                remedy="use a smaller --near",
            )
        found.append(pairs)
    whole: Pairs = np.unique(np.concatenate(found), axis=0)
    return whole


def _candidates(hashes: Hashes, near: int) -> Iterator[Pairs]:
    """Pairs that share two blocks of bits, in chunks; some more than once."""
    edges = np.linspace(0, likeness.BITS, near + 3).round().astype(int)
    masks = [(1 << int(end)) - (1 << int(start)) for start, end in pairwise(edges)]
    for one, two in combinations(masks, 2):
        keys = hashes & np.uint64(one | two)
        by_key = np.argsort(keys, kind="stable")
        keys = keys[by_key]
        left, distance = np.arange(len(keys)), 0
        held: list[Pairs] = []
        while len(left):
            # Rows of a bucket lie side by side: each is paired with the next, then with the one after it.
            distance += 1
            left = left[left + distance < len(keys)]
            left = left[keys[left] == keys[left + distance]]
            held.append(np.stack((by_key[left], by_key[left + distance]), 1))
            if sum(map(len, held)) >= CHUNK or not len(left):
                yield np.sort(np.concatenate(held), axis=1)
                held = []


def _exact(prints: Fingerprints, picture: NDArray[np.int64]) -> list[Group]:
    """Rows with the same pixels, by picture."""
    by_picture = np.argsort(picture, kind="stable")
    cuts = np.flatnonzero(np.diff(picture[by_picture])) + 1
    return [_group("exact", prints, rows) for rows in np.split(by_picture, cuts) if len(rows) > 1]


def _near(prints: Fingerprints, picture: NDArray[np.int64], pairs: Pairs) -> list[Group]:
    """Pictures that are connected by pairs, with all their rows."""
    parent = {int(one): int(one) for one in np.unique(pairs)}

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    for one, two in pairs.tolist():
        low, high = sorted((root(one), root(two)))
        parent[high] = low
    members: dict[int, list[int]] = {}
    for row in np.flatnonzero(np.isin(picture, list(parent))).tolist():
        members.setdefault(root(int(picture[row])), []).append(row)
    return [_group("near", prints, np.array(rows)) for rows in members.values()]


def _group(kind: Literal["exact", "near"], prints: Fingerprints, rows: NDArray[np.int64]) -> Group:
    places = prints.place[np.sort(rows)].tolist()
    return Group(kind, tuple((prints.splits[split], row) for split, row in places))


def _leaks(prints: Fingerprints, picture: NDArray[np.int64], pairs: Pairs) -> list[Leak]:
    """For each two splits what the smaller one has of the other one's pictures."""
    split = prints.place[:, 0]
    exact = np.zeros((int(picture.max(initial=-1)) + 1, len(prints.splits)), bool)
    exact[picture, split] = True  # which splits a picture is in
    near = np.zeros_like(exact)
    for one, two in (pairs.T, pairs.T[::-1]):
        np.logical_or.at(near, one, exact[two])
    sizes = np.bincount(split, minlength=len(prints.splits))
    found = []
    for a, b in combinations(np.argsort(-sizes, kind="stable").tolist(), 2):
        if not folds.meet(prints.splits[a], prints.splits[b]):
            continue
        own = picture[split == b]
        same, like = exact[own, a], near[own, a]
        leak = Leak(prints.splits[b], prints.splits[a], int(same.sum()), int((like & ~same).sum()))
        if leak.exact or leak.near:
            found.append(leak)
    return found
