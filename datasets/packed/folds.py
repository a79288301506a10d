"""A set packed in folds, seen with one of them as val and the others joined as train: nothing is copied.

Folds are splits `fold-0`, `fold-1`, ... of the manifest. `fold-0-extra` holds altered copies of the rows of fold-0
(packing/extras.py): they are learnt from with it, and never judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import xxhash

from datasets.packed import manifest as manifests
from datasets.packed.manifest import Json, Manifest, Split
from datasets.refusal import Refusal

_FOLD = re.compile(r"fold-\d+")


def count(names: Iterable[str]) -> int:
    """How many folds there are among these splits."""
    return sum(map(is_fold, names))


def is_fold(name: str) -> bool:
    """Whether this split is one; its altered copies are none."""
    return _FOLD.fullmatch(name) is not None


def is_of_folds(name: str) -> bool:
    """Whether this split is a fold, or the altered copies of one."""
    return _FOLD.match(name) is not None


def is_learnt(name: str) -> bool:
    """Whether models learn from this split, in one view of the set at least."""
    return name == "train" or is_of_folds(name)


def extra_of(name: str) -> str:
    """The split of the altered copies of a split's rows: a fold's have one of their own."""
    return f"{name}-extra" if is_fold(name) else name


def meet(one: str, two: str) -> bool:
    """Whether some view has a model learn from one of two splits and judged on the other.

    Altered copies are never judged, and come and go with the fold that they are of.
    """
    copies = [is_of_folds(name) and not is_fold(name) for name in (one, two)]
    return not all(copies) and extra_of(one) != two and extra_of(two) != one


def members(names: Iterable[str], fold: int) -> dict[str, list[str]]:
    """The packed splits that make up each split where `fold` is val; altered copies of its rows are in none."""
    names, val = sorted(names), f"fold-{fold}"
    others = {name: [name] for name in names if not is_of_folds(name)}
    train = [name for name in names if is_of_folds(name) and name not in (val, extra_of(val))]
    return {**others, "val": [val], "train": train}


def view(manifest: Manifest, fold: int | None) -> Manifest:
    """The manifest with `fold` as val and the others as train; itself where it has no folds and none is asked for.

    Its digest is its own, `packed` says which fold it shows and has the leaks of this one alone. `mean` and `std` stay
    those of all folds. Raises Refusal where there is no such fold, or none is named.
    """
    num_folds = count(manifest.splits)
    if fold is None and not num_folds:
        return manifest
    _check(manifest, fold, num_folds)
    assert fold is not None
    splits = {
        name: _joined([manifest.splits[part] for part in parts])
        for name, parts in members(manifest.splits, fold).items()
    }
    content = manifest.shape, manifest.columns, manifest.classes, splits, manifest.mean
    listed = manifest.packed.get("leaks")
    leaks: list[Json] = listed if isinstance(listed, list) else []
    own: list[Json] = [
        leak for leak in leaks if isinstance(leak, dict) and leak.get("fold") == fold
    ]
    shown: dict[str, Json] = {
        "fold": fold,
        "folds": num_folds,
        "stored": manifest.digest,
        "leaks": own,
    }
    return replace(
        manifest,
        splits=splits,
        packed={**manifest.packed, **shown},
        digest=manifests.digest(manifest.kind, manifest.codec, *content, manifest.std),
    )


def _check(manifest: Manifest, fold: int | None, num_folds: int) -> None:
    if not num_folds:
        raise Refusal(
            f"'{manifest.name}' is not packed in folds",
            path="data.fold",
            value=fold,
            remedy="set data.splits.folds, or pack it with --folds",
        )
    if fold is None or not 0 <= fold < num_folds:
        numbers = f"0 .. {num_folds - 1}"
        raise Refusal(
            f"'{manifest.name}' is packed in {num_folds} folds, {numbers}: which one is val?"
            if fold is None
            else f"'{manifest.name}' has no fold {fold}, its folds are {numbers}",
            path="data.fold",
            value=fold,
            remedy="set data.fold=0, say",
        )


def _joined(parts: list[Split]) -> Split:
    """Rows of several splits end to end."""
    if len(parts) == 1:
        return parts[0]
    content = xxhash.xxh3_128_hexdigest(" ".join(part.content for part in parts).encode())
    return Split(
        sum(part.rows for part in parts),
        content,
        tuple(shard for part in parts for shard in part.shards),
        tuple(shard for part in parts for shard in part.index),
    )
