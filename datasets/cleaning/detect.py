"""Which labels are wrong: pure functions of what models say of samples that they did not learn from, or learnt with trouble.

Of each sample a score in [0, 1], how likely its given label is right, a class that would suit better, and whether the
given one is called wrong. N samples, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.order import Integers
from datasets.refusal import Refusal

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """scores (N,) in [0, 1], suggested (N,) class numbers, wrong (N,) bool, and what else the page shows.

    `joint` (C, C) is how many samples are estimated to have a given label (row) and a true one (column), or None.
    """

    scores: Floats
    suggested: Integers
    wrong: NDArray[np.bool_]
    joint: Floats | None = None


def confident(given: Integers, probabilities: Floats, *, share: float | None = None) -> Found:
    """Confident learning (arXiv 1911.00068) by cleanlab, from out-of-sample probabilities (N, C) of N given labels.

    With `share` the N * share labels of the lowest score are called wrong, whatever the estimated noise.
    """
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    scores = np.asarray(get_label_quality_scores(given, probabilities), np.float64)
    joint = np.asarray(compute_confident_joint(given, probabilities), np.float64)
    if share is None:
        # Its own processes would be forked beside torch's and Ray's threads.
        wrong = np.asarray(find_label_issues(given, probabilities, n_jobs=1), bool)
    else:
        wrong = lowest(scores, share)
    return Found(scores, probabilities.argmax(1), wrong, joint)


def by_loss(
    given: Integers, losses: Floats, *, num_classes: int, share: float | None = None
) -> Found:
    """From the mean loss (N,), in nats, of each sample over its epochs: that of wrong labels stays high for longer.

    A score is exp(-loss), the geometric mean of the probabilities that the label was given. Two Gaussians are fitted to the
    losses (DivideMix, arXiv 2002.07394, section 3.1): where the higher one is the likelier, a label is called wrong if its
    loss is above ln(C) / 2 as well, half of what chance has: hard samples are a heap of their own where no label is wrong.
    What would suit better is not known: the given label is suggested. A sample without a loss (NaN) was never learnt from,
    and stays.
    """
    from sklearn.mixture import GaussianMixture

    known = np.flatnonzero(np.isfinite(losses))
    own = losses[known]
    low, high = own.min(), own.max()
    if high <= low:
        raise Refusal(
            "all samples have the same loss: there is nothing to tell apart",
            path="data.cleaned.by",
            value="loss",
            remedy="train for more epochs, or find wrong labels by kfold",
        )
    scaled = ((own - low) / (high - low))[:, None]
    mixture = GaussianMixture(2, tol=1e-4, reg_covar=5e-4, n_init=4, random_state=0).fit(scaled)
    lower = int(mixture.means_.argmin())
    # The narrow, lower Gaussian ends before the wide one's tail on both sides: the easiest samples are no suspects.
    below = scaled[:, 0] <= mixture.means_[lower, 0]
    scores, wrong = np.ones(len(losses)), np.zeros(len(losses), bool)
    scores[known] = np.exp(-own)
    higher = ~below & (mixture.predict_proba(scaled)[:, lower] < 0.5)
    suspect = higher & (own > np.log(num_classes) / 2)
    wrong[known] = suspect if share is None else lowest(-own, share)
    return Found(scores, given.copy(), wrong)


def by_neighbours(
    given: Integers,
    features: NDArray[Any],
    *,
    num_classes: int,
    neighbours: int,
    share: float | None = None,
) -> Found:
    """From features (N, D): the nearest others, by angle, vote with their given labels; the votes' shares are
    probabilities, of which confident learning decides.
    """
    return confident(given, votes(given, features, num_classes, neighbours), share=share)


def votes(given: Integers, features: NDArray[Any], num_classes: int, neighbours: int) -> Floats:
    """(N, C): shares of classes among the nearest neighbours of each sample, itself not counted.

    Raises Refusal where there are no more samples than neighbours.
    """
    from sklearn.neighbors import NearestNeighbors

    if neighbours >= len(given):
        raise Refusal(
            f"{len(given)} samples have no {neighbours} neighbours",
            path="data.cleaned.neighbours",
            value=neighbours,
            remedy=f"use {len(given) - 1} or fewer",
        )
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(lengths, 1e-12)
    # Of unit vectors the order by distance is that by angle. Without a query, a sample is no neighbour of itself.
    found = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(unit)
    nearest = found.kneighbors(return_distance=False)
    counts = np.zeros((len(given), num_classes))
    rows = np.repeat(np.arange(len(given)), neighbours)
    np.add.at(counts, (rows, given[nearest.ravel()]), 1.0)
    return counts / neighbours


def lowest(scores: Floats, share: float) -> NDArray[np.bool_]:
    """The given share of the samples, those of the lowest scores."""
    wrong = np.zeros(len(scores), bool)
    wrong[np.argsort(scores, kind="stable")[: round(share * len(scores))]] = True
    return wrong


def precision_recall(wrong: NDArray[np.bool_], truly: NDArray[np.bool_]) -> dict[str, float]:
    """Of the labels called wrong how many are, of those that are how many were called so, and the F1 of both."""
    hits = int((wrong & truly).sum())
    precision = hits / max(1, int(wrong.sum()))
    recall = hits / max(1, int(truly.sum()))
    both = precision + recall
    f1 = 2 * precision * recall / both if both else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}
