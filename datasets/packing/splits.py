"""Cuts rows into splits: a function of the seed and of each row's index."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from datasets import order
from datasets.refusal import Refusal

REST = "train"  # the split of all rows that no fraction asks for
SHARE = 0.15  # of a split that the source has not, where nobody says how large


def stratified(
    labels: NDArray[np.int64], fractions: Mapping[str, float], seed: int
) -> dict[str, NDArray[np.int64]]:
    """Row numbers, ascending, of each split in `fractions` and of "train", which gets the rest.

    Within each class the shares are exact to one row (largest remainder), and a class with at
    least as many rows as there are splits is in every one of them.

    Raises Refusal for fractions outside (0, 1) or with no rest, and for a split without rows.
    """
    names = [*sorted(fractions), REST]
    shares = _shares(fractions)
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in names}
    places = order.hashes(order.key("split", seed), np.arange(len(labels)), 0)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(places[members], kind="stable")]
        cuts = np.cumsum(_counts(len(members), shares))[:-1]
        for name, part in zip(names, np.split(members, cuts), strict=True):
            parts[name].append(part)
    found = {name: np.sort(np.concatenate(parts[name] or [labels[:0]])) for name in names}
    for name, rows in found.items():
        if not len(rows):
            raise Refusal(
                f"split '{name}' gets none of the {len(labels)} rows",
                path=f"data.splits.{name}",
                value=fractions.get(name),
                remedy="use larger fractions, fewer splits or more rows",
            )
    return found


def unstratified(
    num_rows: int, fractions: Mapping[str, float], seed: int
) -> dict[str, NDArray[np.int64]]:
    """As `stratified`, of rows without labels."""
    return stratified(np.zeros(num_rows, np.int64), fractions, seed)


def folded(labels: NDArray[np.int64], num_folds: int, seed: int) -> dict[str, NDArray[np.int64]]:
    """Row numbers, ascending, of `fold-0` .. : rows of each class are dealt out in turn, by a hash of their index.

    The sizes of folds differ by one row at most, and so do those of each class in them. Raises Refusal
    where there are fewer than two folds, or fewer rows than folds.
    """
    if not 2 <= num_folds <= len(labels):
        raise Refusal(
            f"{len(labels)} rows make no {num_folds} folds",
            path="data.splits.folds",
            value=num_folds,
            remedy=f"use 2 .. {len(labels)} folds" if len(labels) > 1 else "bring more rows",
        )
    places = order.hashes(order.key("folds", seed), np.arange(len(labels)), 0)
    # One class after the other without starting anew: else the first folds got what is left of every class.
    dealt = np.lexsort((places, labels))
    return {f"fold-{fold}": np.sort(dealt[fold::num_folds]) for fold in range(num_folds)}


def _shares(fractions: Mapping[str, float]) -> list[float]:
    """Fractions by name, then the rest; Refusal where they are not fractions."""
    for name, fraction in fractions.items():
        path = f"data.splits.{name}"
        if name == REST:
            raise Refusal(
                f"'{REST}' is what the others leave",
                path=path,
                value=fraction,
                remedy="name only the others",
            )
        if not (math.isfinite(fraction) and 0 < fraction < 1):
            raise Refusal(
                f"{fraction} is not a fraction of the rows",
                path=path,
                value=fraction,
                remedy="use a number between 0 and 1, or leave the split out",
            )
    rest = 1 - math.fsum(fractions.values())
    if rest <= 1e-9:
        raise Refusal(
            f"fractions that sum to {1 - rest:g} leave no rows to train on",
            path="data.splits",
            value=dict(fractions),
            remedy="let them sum to less than 1",
        )
    return [fractions[name] for name in sorted(fractions)] + [rest]


def _counts(num_rows: int, shares: list[float]) -> list[int]:
    """Rows of each share by largest remainder; none is empty while there are rows for all."""
    quotas = [num_rows * share for share in shares]
    # .15 * 180 is 26.999999999999996: without the nudge such a share would lose a row.
    counts = [math.floor(quota + 1e-9) for quota in quotas]
    by_remainder = sorted(range(len(shares)), key=lambda i: (counts[i] - quotas[i], i))
    for index in by_remainder[: num_rows - sum(counts)]:
        counts[index] += 1
    if num_rows >= len(shares):
        while 0 in counts:
            counts[counts.index(0)] += 1
            counts[counts.index(max(counts))] -= 1
    return counts
