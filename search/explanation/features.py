"""Features of chosen classes in the plane: PCA and t-SNE, fitted on what was learnt from, all else put in afterwards."""

# N rows of train, M rows of another split, D features

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets import order
from datasets.refusal import Refusal

FEWEST = 8  # rows of train that a projection needs

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Plane:
    """A projection: points of train (N, 2) and of the other split (M, 2), and what a reader must know of it."""

    name: str
    title: str
    train: Floats
    other: Floats
    note: str


def pca(train_ND: Floats, other_MD: Floats, seed: int) -> Plane:
    """The first two principal components of train; the other split is put on the same axes."""
    middle = train_ND.mean(0)
    _, values, axes = np.linalg.svd(train_ND - middle, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2].sum(1, keepdims=True) + 1e-12)  # signs are not defined
    shares = np.square(values) / max(float(np.square(values).sum()), 1e-12)
    note = f"The first two principal components of train hold {100 * shares[:2].sum():.0f} % of its variance."
    return Plane("pca", "PCA", (train_ND - middle) @ axes.T, (other_MD - middle) @ axes.T, note)


def tsne(train_ND: Floats, other_MD: Floats, seed: int) -> Plane:
    """openTSNE (van der Maaten & Hinton 2008; arXiv 1902.05804): embedded on train, the other split placed into it."""
    from openTSNE import TSNE

    perplexity = min(30.0, (len(train_ND) - 1) / 3)
    method = TSNE(perplexity=perplexity, random_state=seed, n_jobs=1)
    embedded = method.fit(train_ND.astype(np.float64))
    # As many neighbours as there are at most: openTSNE asks for three times its perplexity.
    placed = (
        embedded.transform(other_MD.astype(np.float64), perplexity=min(5.0, perplexity))
        if len(other_MD)
        else np.zeros((0, 2))
    )
    note = (
        f"t-SNE with perplexity {perplexity:.0f}: who is near is true, how far groups lie apart and how large they are "
        "is not."
    )
    train, other = np.asarray(embedded, np.float32), np.asarray(placed, np.float32)
    return Plane("tsne", "t-SNE", train, other, note)


PLANES: dict[str, Callable[[Floats, Floats, int], Plane]] = {"pca": pca, "tsne": tsne}


def check(names: Sequence[str]) -> None:
    """Raises Refusal for a projection that is not known."""
    for name in names:
        if name not in PLANES:
            raise Refusal(
                f"'{name}' is none of {', '.join(PLANES)}",
                path="--embed",
                value=name,
                remedy=f"use --embed {','.join(PLANES)}, or --embed none",
            )


def chosen(labels: Rows, ids: Rows, classes: list[int], most: int, seed: int) -> Rows:
    """At most so many rows of the classes, as many of each as there are; which ones is a function of (seed, id)."""
    draws = order.uniform(order.key(seed, "explain"), ids, 0)
    found: list[Rows] = []
    left = most
    own = {label: np.flatnonzero(labels == label) for label in classes}
    for place, label in enumerate(sorted(classes, key=lambda label: len(own[label]))):
        share = left // (len(classes) - place)
        rows = own[label]
        kept = rows[np.argsort(draws[rows], kind="stable")[:share]]
        left -= len(kept)
        found.append(kept)
    return np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)
