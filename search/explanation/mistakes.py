"""Who is taken for whom: the confusion matrix of chosen classes, its pairs in words, mistakes by confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.explain import Predicted

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """Two classes and how often either is taken for the other; `one` is the one that is mistaken more often."""

    one: int
    two: int
    one_as_two: int
    two_as_one: int
    of_one: int  # rows of the class
    of_two: int

    @property
    def mistakes(self) -> int:
        return self.one_as_two + self.two_as_one

    def words(self, classes: Sequence[str]) -> str:
        """`8` is taken for `1` in 3 of 26 pictures (12 %); the other way round in 1 of 27 (4 %)."""
        one, two = classes[self.one], classes[self.two]
        said = f"{one} is taken for {two} in {_of(self.one_as_two, self.of_one)}"
        if self.two_as_one:
            return f"{said}; the other way round in {_of(self.two_as_one, self.of_two)}"
        return f"{said}; never the other way round"


def _of(part: int, whole: int) -> str:
    share = f" ({100 * part / whole:.0f} %)" if whole else ""
    return f"{part:,} of {whole:,} pictures{share}"


def confusion(found: Predicted, num_classes: int) -> Rows:
    """Counts, rows true and columns predicted."""
    places = found.labels * num_classes + found.classes
    counts = np.bincount(places, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def pairs(counts: Rows, chosen: Sequence[int], most: int) -> list[Pair]:
    """The most confused pairs of which one is a chosen class: by the share of the two classes' rows."""
    own, listed = set(chosen), []
    both = counts + counts.T
    for one, two in np.argwhere(np.triu(both, 1)).tolist():
        if not {one, two} & own:
            continue
        first, second = (one, two) if counts[one, two] >= counts[two, one] else (two, one)
        of_first, of_second = int(counts[first].sum()), int(counts[second].sum())
        ahead, back = int(counts[first, second]), int(counts[second, first])
        listed.append(Pair(first, second, ahead, back, of_first, of_second))
    listed.sort(key=lambda pair: -pair.mistakes / max(1, pair.of_one + pair.of_two))
    return listed[:most]


def wrong(found: Predicted, chosen: Sequence[int]) -> Rows:
    """Rows of the chosen classes, or taken for them, that were classified wrongly: the most confident first."""
    concerned = np.isin(found.labels, chosen) | np.isin(found.classes, chosen)
    rows = np.flatnonzero((found.labels != found.classes) & concerned)
    return rows[np.argsort(-found.confidence[rows], kind="stable")]


def right(found: Predicted, chosen: Sequence[int], most: int) -> Rows:
    """As many of each chosen class, classified correctly: the most and the least confident ones in turn."""
    by_class = []
    for label in chosen:
        rows = np.flatnonzero((found.labels == label) & (found.classes == label))
        sure = rows[np.argsort(-found.confidence[rows], kind="stable")].tolist()
        turns = []
        while sure:
            turns.append(sure.pop(0))
            if sure:
                turns.append(sure.pop())
        by_class.append(turns)
    picked: list[int] = []
    while any(by_class) and len(picked) < most:
        for turns in by_class:
            if turns and len(picked) < most:
                picked.append(turns.pop(0))
    ordered = sorted(picked, key=lambda row: (found.labels[row], -found.confidence[row]))
    return np.array(ordered, np.int64)


def most_mistaken(counts: Rows, among: Sequence[int], most: int) -> list[int]:
    """Some of the classes, by the share of their rows that is wrong, or of others' that is taken for them; in their order."""
    off = counts - np.diag(np.diag(counts))
    share = (off.sum(1) + off.sum(0)) / np.maximum(1, counts.sum(1))
    return sorted(sorted(among, key=lambda label: (-share[label], label))[:most])
