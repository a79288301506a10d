"""Pictures that two splits share, byte for byte: found when a set is packed, refused when a run would learn from it.

Copies that are stored otherwise, and near ones, are what `data card` looks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from datasets.packed import folds
from datasets.packed.manifest import Json, Manifest
from datasets.refusal import Refusal

EXAMPLES = 3
_ORDER = ("train", "val", "test")


@dataclass(frozen=True)
class Leak:
    """`rows` of the second of `splits`, as in train/test, have a picture of the first one.

    `examples` are ids, [of the first, of the second]; `fold` is the one that is val, None in a set without folds.
    """

    splits: str
    rows: int
    examples: list[list[int]]
    fold: int | None = None

    def __str__(self) -> str:
        first, _, second = self.splits.partition("/")
        ids = ", ".join(" and ".join(map(str, pair)) for pair in self.examples)
        where = "" if self.fold is None else f" with data.fold={self.fold}"
        return f"{self.rows:,} of {second}'s rows are pictures of {first}{where} (ids {ids})"


def find(hashes: Mapping[str, NDArray[np.uint64]], ids: Mapping[str, NDArray[np.int64]]) -> Json:
    """Every two splits that share pictures, as `packed.leaks` has them; of a set in folds as each fold shows them.

    `hashes` are those of the stored pictures of each split, (N,), and `ids` their rows' ids, (N,).
    """
    num_folds = folds.count(hashes)
    views: dict[int | None, dict[str, list[str]]] = {
        fold: folds.members(hashes, fold) for fold in range(num_folds)
    } or {None: {name: [name] for name in hashes}}
    found: list[Json] = []
    for fold, members in views.items():
        joined = {
            name: (
                np.concatenate([hashes[part] for part in parts]),
                np.concatenate([ids[part] for part in parts]),
            )
            for name, parts in members.items()
        }
        for one, two in combinations(sorted(joined, key=_place), 2):
            if leak := _between(f"{one}/{two}", joined[one], joined[two], fold):
                found.append(asdict(leak))
    return found


def of(manifest: Manifest) -> list[Leak]:
    """What packing found; nothing where the set was packed before it looked. Raises Refusal for a damaged list."""
    listed = manifest.packed.get("leaks", [])
    try:
        return [Leak(**leak) for leak in listed]  # type: ignore[arg-type, union-attr]
    except TypeError as error:
        raise Refusal(
            f"'{manifest.name}' has a list of leaks that is none: {error}",
            path="packed.leaks",
            value=listed,
            remedy="pack the data set again",
        ) from error


def refuse(manifest: Manifest, allowed: Sequence[str]) -> None:
    """Raises Refusal where splits share pictures, unless the pair is `allowed`, as in ["train/test"]."""
    permitted = {frozenset(pair.split("/")) for pair in allowed}
    for name in sorted({name for pair in permitted for name in pair}):
        manifest.split(name, "data.allow_leaks")
    met = [leak for leak in of(manifest) if frozenset(leak.splits.split("/")) not in permitted]
    if met:
        pairs = ", ".join([*allowed, *dict.fromkeys(leak.splits for leak in met)])
        raise Refusal(
            f"splits of '{manifest.name}' share pictures: {'; '.join(map(str, met))}",
            path="data.allow_leaks",
            value=list(allowed),
            remedy=f"pack it without them, or set data.allow_leaks=[{pairs}]",
        )


def _between(
    splits: str,
    one: tuple[NDArray[np.uint64], NDArray[np.int64]],
    two: tuple[NDArray[np.uint64], NDArray[np.int64]],
    fold: int | None,
) -> Leak | None:
    shared = np.flatnonzero(np.isin(two[0], one[0]))
    if not len(shared):
        return None
    examples = [
        [int(one[1][np.flatnonzero(one[0] == two[0][row])[0]]), int(two[1][row])]
        for row in shared[:EXAMPLES].tolist()
    ]
    return Leak(splits, len(shared), examples, fold)


def _place(split: str) -> tuple[int, str]:
    return (_ORDER.index(split) if split in _ORDER else len(_ORDER), split)
