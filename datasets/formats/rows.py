"""From paths, labels and splits to the rows of a source whose pictures are in files.

The id of a row is a 63-bit hash of its path below the folder or archive, so it is the same from either.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from datasets.packed.columns import Array
from datasets.refusal import Refusal, nearest
from datasets.source import Pictures, Source

# Words for official splits, and what we call them.
SPLITS = {
    **{"train": "train", "training": "train"},
    **{"val": "val", "valid": "val", "validation": "val"},
    **{"test": "test", "testing": "test"},
}
MOST_CLASSES = 1_000_000
_SAID_SPLIT = re.compile(rf"(?:^|[/_.-])({'|'.join(SPLITS)})(?=[/_.-])")


def picture_source(
    name: str,
    pictures: Pictures,
    paths: Sequence[str],
    *,
    labels: Sequence[int] | None = None,
    classes: Sequence[str] = (),
    splits: Sequence[str] | None = None,
    more: Mapping[str, Array] | None = None,
) -> Source:
    """A source of encoded pictures with a column `path`; `splits` names that of each row, `more` are further columns.

    Raises Refusal where a path comes twice, or where there are splits but none to train on.
    """
    _check(pictures, paths, splits)
    columns: dict[str, Array] = {
        "id": ids_of(paths),
        "path": np.array(paths, dtype=object),
        **(more or {}),
    }
    if labels is not None:
        columns["label"] = np.array(labels, dtype=np.int64)
    return Source(
        name=name,
        kind="image",
        shape=(0, 0, 3),
        pictures=pictures,
        classes=tuple(classes),
        columns=columns,
        splits=rows_of(splits) if splits else None,
    )


def numbered(words: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """The classes that the words name, sorted (as numbers, where all are), and each word's place among them."""
    numeric = all(word.isascii() and word.isdigit() for word in words)
    classes = sorted(set(words), key=lambda word: (int(word), word) if numeric else (0, word))
    number = {word: label for label, word in enumerate(classes)}
    return tuple(classes), [number[word] for word in words]


def named(labels: Sequence[int], names: Sequence[str], where: str) -> tuple[str, ...]:
    """The classes of labels that are numbers already: `names`, or the numbers. Raises Refusal where they do not fit."""
    low, high = (min(labels), max(labels)) if len(labels) else (0, 0)
    if low < 0 or high >= (len(names) or MOST_CLASSES):
        raise Refusal(
            f"there are labels {low} .. {high} for {len(names) or 'at most ' + format(MOST_CLASSES, ',')} classes",
            path=where,
            value=low if low < 0 else high,
            remedy="leave out rows without a label, and count classes from 0",
        )
    return tuple(names) or tuple(str(label) for label in range(high + 1))


def splits_of(names: Sequence[str]) -> list[str] | None:
    """The split that each file's path says, as in `train-000.tar`; None where there are no two of them.

    Raises Refusal where one says none.
    """
    found = [match and SPLITS[match[1]] for match in map(_SAID_SPLIT.search, names)]
    if len(set(found) - {None}) < 2:
        return None
    for name, split in zip(names, found, strict=True):
        if split is None:
            raise Refusal(
                "the name says no split, as those of other files do",
                path=name,
                remedy=f"name it after one of {', '.join(SPLITS)}, or move it away",
            )
    return [split for split in found if split]


def no_column(role: str, column: str, known: Iterable[str], where: str) -> Refusal:
    """What to say where a list or a table has not the column that is to play a role."""
    return Refusal(
        f"has no column '{column}'",
        path=where,
        value=column,
        remedy=f"{nearest(column, known)} -- say which with {role}=NAME behind `pack SOURCE URL`, or data.source.{role}=NAME",
    )


def ids_of(paths: Sequence[str]) -> NDArray[np.int64]:
    """(N,) int64: 63 bits of XXH3 of each path, so never negative."""
    return np.array(
        [xxhash.xxh3_64_intdigest(path.encode()) >> 1 for path in paths], dtype=np.int64
    )


def rows_of(splits: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """The rows of each split, ascending."""
    names = np.array(splits, dtype=object)
    return {name: np.flatnonzero(names == name) for name in sorted(set(splits))}


def _check(pictures: Pictures, paths: Sequence[str], splits: Sequence[str] | None) -> None:
    if splits and "train" not in splits:
        raise Refusal(
            f"there is no split 'train' among {', '.join(sorted(set(splits)))}",
            path=pictures.name(0),
            value=sorted(set(splits)),
            remedy="call one of them train",
        )
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise Refusal(
            f"the picture comes {paths.count(twice[0])} times",
            path=pictures.name(paths.index(twice[0])),
            value=twice[0],
            remedy="name each picture once",
        )
