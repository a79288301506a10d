"""The nearest rows of an index: exact by default, by faiss's inverted lists or graphs where asked (arXiv 2401.08281)."""

# Q queries, N rows, D features, K found

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datasets import order, store
from datasets.refusal import Refusal
from trainers.retrieval.embedder import Features, Metric
from trainers.retrieval.index import Index

Approximate = Literal["ivf", "hnsw"]

NAME = "index.faiss"
POINTS_A_LIST = 39  # fewer, and faiss warns that its lists are badly placed
FEWEST = 256  # rows that are worth lists or a graph
LINKS = 32  # of a row in the graph
BREADTH = 128  # of the search in the graph; faiss's own 16 finds four of five
PROBED = 8  # one list in so many is looked through, at least as many lists
TRIED = 200  # rows by which an approximate index is judged
NEAR = 10  # and their neighbours


@dataclass(frozen=True)
class Found:
    """Rows (Q, K), nearest first, and their distances: 1 - cosine, or Euclid's. -1 where an approximate search found fewer."""

    rows: NDArray[np.int64]
    distances: NDArray[np.float64]


def nearest(index: Index, queries_QD: Features, k: int, *, without: int | None = None) -> Found:
    """The `k` nearest rows of an index, which was opened with its own metric; `without` is a row that is not meant.

    Equal distances are in the order of rows. Raises Refusal for more rows than there are.
    """
    there = len(index) - (without is not None)
    if not 1 <= k <= there:
        raise Refusal(
            f"the index has {there}{' other' if without is not None else ''} pictures",
            path="--k",
            value=k,
            remedy=f"use a number from 1 to {there}",
        )
    searcher = _opened(index)
    _, rows_QK = searcher.search(queries_QD, k + (without is not None))
    return _sorted(index.features, queries_QD, rows_QK, index.metric, k, without)


def distances(features_KD: Features, query_D: Features, metric: Metric) -> NDArray[np.float64]:
    """(K,) of one query: 1 - cosine of features of length 1, or Euclid's distance."""
    rows, query = features_KD.astype(np.float64), query_D.astype(np.float64)
    if metric == "cosine":
        return np.maximum(0.0, 1 - rows @ query)
    found: NDArray[np.float64] = np.sqrt(np.square(rows - query).sum(1))
    return found


def build(index: Index, kind: Approximate) -> float:
    """Write `index.faiss` beside the index; how many of the true ten nearest it finds, from 0 to 1.

    Raises Refusal for an index that is too small to gain by it.
    """
    import faiss

    features, rows = index.features, len(index)
    if rows < FEWEST:
        raise Refusal(
            f"an index of {rows} pictures is searched whole in no time",
            path="--approximate",
            value=kind,
            remedy="leave it out",
        )
    built = _empty(kind, rows, features.shape[1], index.metric)
    if kind == "ivf":
        built.train(features)
    built.add(features)
    written = faiss.serialize_index(built).tobytes()
    store.write_bytes(store.join(index.url, NAME), written)
    tried = np.sort(order.permutation(rows, order.key("tried"))[:TRIED])
    k = min(NEAR, rows)
    _, true = _exact(features, index.metric).search(features[tried], k)
    _, found = built.search(features[tried], k)
    return float(np.mean([len({*a} & {*b}) / k for a, b in zip(true, found, strict=True)]))


def _empty(kind: Approximate, rows: int, width: int, metric: Metric) -> Any:
    import faiss

    measure = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(width, LINKS, measure)
        graph.hnsw.efSearch = BREADTH
        return graph
    lists = max(1, min(int(4 * rows**0.5), rows // POINTS_A_LIST))
    found: Any = faiss.index_factory(width, f"IVF{lists},Flat", measure)
    found.nprobe = min(lists, max(PROBED, lists // PROBED))
    return found


def _exact(features: Features, metric: Metric) -> Any:
    import faiss

    width = features.shape[1]
    found = faiss.IndexFlatIP(width) if metric == "cosine" else faiss.IndexFlatL2(width)
    found.add(np.ascontiguousarray(features))
    return found


def _opened(index: Index) -> Any:
    """What searches: the file beside the index where it is approximate, else all of its rows."""
    if not index.about["approximate"]:
        return _exact(index.features, index.metric)
    import faiss

    file = store.join(index.url, NAME)
    if not store.exists(file):
        raise Refusal(
            f"the index is searched by its {NAME}, which is missing",
            path=file,
            remedy="copy the whole folder, or make the index again",
        )
    try:
        found = faiss.deserialize_index(np.frombuffer(store.read_bytes(file), np.uint8))
    except RuntimeError as error:
        raise Refusal(
            f"is damaged: {' '.join(str(error).split())[:200]}", path=file, remedy="copy it again"
        ) from None
    if found.ntotal != len(index):
        raise Refusal(
            f"has {found.ntotal} rows, the index beside it {len(index)}",
            path=file,
            value=found.ntotal,
            remedy="make the index again",
        )
    return found


def _sorted(
    features: Features,
    queries_QD: Features,
    rows_QK: NDArray[np.int64],
    metric: Metric,
    k: int,
    without: int | None,
) -> Found:
    """By distances in float64: faiss's own are of float32, and of equal ones it says any order."""
    rows = np.full((len(queries_QD), k), -1, np.int64)
    apart = np.full((len(queries_QD), k), np.inf)
    for place, query in enumerate(queries_QD):
        own = rows_QK[place]
        own = own[(own >= 0) & (own != (-1 if without is None else without))]
        measured = distances(features[own], query, metric)
        best = np.lexsort((own, measured))[:k]
        rows[place, : len(best)], apart[place, : len(best)] = own[best], measured[best]
    return Found(rows, apart)
