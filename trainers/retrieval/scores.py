"""How good an index is: each picture asks for its class among the others. Precision, recall and hits at k, mean average precision."""

# Q queries, N gallery rows, D features

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.progress import Progress
from datasets.refusal import Refusal, nearest
from trainers.retrieval.embedder import Features, Metric
from trainers.retrieval.index import Index

CELLS = 2**24  # distances that are held at once
NORMAL = 1.959964  # of the 95 % interval


@dataclass(frozen=True)
class Ranking:
    """Pictures by their features and labels: Q that ask, N that are asked for; `own` is each query's row among those, or -1."""

    queries: Features
    query_labels: NDArray[np.int64]
    gallery: Features
    gallery_labels: NDArray[np.int64]
    own: NDArray[np.int64]
    metric: Metric

    @classmethod
    def of(cls, index: Index, queries: str | None = None, against: str | None = None) -> Ranking:
        """Pictures of one split (None: of all) asking among those of another. Raises Refusal for a split that is not there."""
        asking = _rows(index, queries, "--queries")
        asked = _rows(index, against, "--against")
        place = np.full(len(index), -1, np.int64)
        place[asked] = np.arange(len(asked))
        return cls(
            index.features[asking],
            index.labels[asking],
            index.features[asked],
            index.labels[asked],
            place[asking],
            index.metric,
        )


def score(
    ranking: Ranking,
    ks: Sequence[int],
    classes: Sequence[str],
    *,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """`{scores, interval, chance, queries, gallery, without_match, classes: [{class, queries, ...}]}`.

    Of each query, its own row left out: `precision@k` is the share of the k nearest that are of its class, `recall@k` the
    share of its class that is among them, `hit@k` whether any is (what metric learning calls Recall@k), `map` the mean
    over its class of the precision at each one's rank. Queries without another picture of their class are counted, not scored.
    """
    ks = sorted(set(ks))
    counts = _matches(ranking)
    _check(ranking, counts, ks)
    names = [f"{kind}@{k}" for kind in ("precision", "recall", "hit") for k in ks] + ["map"]
    rows = np.flatnonzero(counts > 0)
    columns: list[NDArray[np.float64]] = []
    for relevant in _ranked(ranking, rows):
        columns.append(_of(relevant, ks).numpy())
        progress(sum(map(len, columns)), len(rows))
    values = np.concatenate(columns)  # (scored queries, names)
    labels = ranking.query_labels[rows]
    spread = values.std(0, ddof=1) if len(values) > 1 else np.full(len(names), np.nan)
    others = len(ranking.gallery) - (ranking.own[rows] >= 0)
    by_class = [
        {"class": classes[label], "queries": int((labels == label).sum())}
        | dict(zip(names, values[labels == label].mean(0).tolist(), strict=True))
        for label in np.unique(labels).tolist()
    ]
    return {
        "scores": dict(zip(names, values.mean(0).tolist(), strict=True)),
        "interval": dict(zip(names, (NORMAL * spread / len(values) ** 0.5).tolist(), strict=True)),
        "chance": float((counts[rows] / others).mean()),
        "queries": len(rows),
        "gallery": len(ranking.gallery),
        "without_match": int((counts == 0).sum()),
        "classes": by_class,
    }


def _of(relevant_QN: Tensor, ks: Sequence[int]) -> Tensor:
    """(Q, names) from whether the row of each rank is of the query's class."""
    found_QN = relevant_QN.double().cumsum(1)
    total = found_QN[:, -1]
    first = torch.stack([found_QN[:, k - 1] for k in ks], 1)
    precision = first / torch.tensor(ks)
    ranks = torch.arange(1, relevant_QN.shape[1] + 1)
    average = (found_QN / ranks * relevant_QN).sum(1) / total
    return torch.cat([precision, first / total[:, None], (first > 0).double(), average[:, None]], 1)


def _ranked(ranking: Ranking, rows: NDArray[np.int64]) -> Iterator[Tensor]:
    """Blocks of queries: whether each row of the gallery, nearest first, is of the query's class; the query's own comes last."""
    gallery = torch.from_numpy(np.array(ranking.gallery))
    labels = torch.from_numpy(np.array(ranking.gallery_labels))
    step = max(1, CELLS // max(1, len(gallery)))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        queries = torch.from_numpy(ranking.queries[block])
        own = torch.from_numpy(ranking.own[block])
        apart_QN = _apart(queries, gallery, ranking.metric)
        among = torch.nonzero(own >= 0).flatten()
        apart_QN[among, own[among]] = float("inf")
        near_QN = apart_QN.argsort(stable=True, dim=1)  # equal ones in the order of rows
        asked = torch.from_numpy(ranking.query_labels[block])
        relevant = labels[near_QN] == asked[:, None]
        relevant[among, -1] = False
        yield relevant


def _apart(queries_QD: Tensor, gallery_ND: Tensor, metric: Metric) -> Tensor:
    """What grows with the distance, (Q, N)."""
    if metric == "cosine":
        return -(queries_QD @ gallery_ND.T)
    # Not by |a|^2 + |b|^2 - 2ab, whose rounding changes the order of what is near.
    return torch.cdist(queries_QD, gallery_ND, compute_mode="donot_use_mm_for_euclid_dist")


def _rows(index: Index, split: str | None, said: str) -> NDArray[np.int64]:
    if split is None:
        return np.arange(len(index))
    rows = np.flatnonzero(index.splits == split)
    if not len(rows):
        known = sorted(set(index.splits))
        raise Refusal(
            f"the index has no split '{split}'",
            path=said,
            value=split,
            remedy=nearest(split, known),
        )
    return rows


def _matches(ranking: Ranking) -> NDArray[np.int64]:
    """Of each query: rows of its class, its own left out."""
    if min(ranking.query_labels.min(initial=0), ranking.gallery_labels.min(initial=0)) < 0:
        raise Refusal(
            "its pictures have no classes, so nothing says which results are right",
            path="INDEX",
            remedy="index a set with classes",
        )
    most = int(max(ranking.query_labels.max(initial=0), ranking.gallery_labels.max(initial=0)))
    sizes = np.bincount(ranking.gallery_labels, minlength=most + 1)
    return sizes[ranking.query_labels] - (ranking.own >= 0)


def _check(ranking: Ranking, counts: NDArray[np.int64], ks: Sequence[int]) -> None:
    there = len(ranking.gallery) - int((ranking.own >= 0).any())
    if ks[0] < 1 or ks[-1] > there:
        raise Refusal(
            f"a query has {there} other pictures to find",
            path="--k",
            value=ks[-1] if ks[-1] > there else ks[0],
            remedy=f"use numbers from 1 to {there}",
        )
    if not (counts > 0).any():
        raise Refusal(
            "no picture has another of its class to find",
            path="INDEX",
            value=len(counts),
            remedy="index more pictures",
        )
