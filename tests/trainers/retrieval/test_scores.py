"""Scores of an index agree with torchmetrics, scikit-learn and with what is worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from torchmetrics.functional import retrieval as reference

from datasets.refusal import Refusal
from trainers.retrieval import scores
from trainers.retrieval.embedder import Metric
from trainers.retrieval.scores import Ranking, score

CLASSES = ["a", "b", "c", "d"]


def ranking(
    seed: int, rows: int, *, metric: Metric = "cosine", classes: int = 3, split: int | None = None
) -> Ranking:
    """Rows that ask among themselves; with `split` the first so many ask among the others."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 6)).astype(np.float32)
    if metric == "cosine":
        features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels = np.arange(rows, dtype=np.int64) % classes
    if split is None:
        return Ranking(features, labels, features, labels, np.arange(rows), metric)
    none = np.full(split, -1, np.int64)
    return Ranking(features[:split], labels[:split], features[split:], labels[split:], none, metric)


def by_reference(given: Ranking, ks: list[int]) -> dict[str, float]:
    """The same by torchmetrics, query by query, on distances in float64."""
    told: dict[str, list[float]] = {}
    for place, query in enumerate(given.queries.astype(np.float64)):
        gallery = given.gallery.astype(np.float64)
        apart = (
            -gallery @ query
            if given.metric == "cosine"
            else np.linalg.norm(gallery - query, axis=1)
        )
        others = np.arange(len(gallery)) != given.own[place]
        near = torch.from_numpy(apart.max() + 1 - apart[others])  # torchmetrics wants them positive
        target = torch.from_numpy(given.gallery_labels[others] == given.query_labels[place])
        for k in ks:
            for name, function in (
                ("precision", reference.retrieval_precision),
                ("recall", reference.retrieval_recall),
                ("hit", reference.retrieval_hit_rate),
            ):
                told.setdefault(f"{name}@{k}", []).append(float(function(near, target, top_k=k)))
        told.setdefault("map", []).append(average_precision_score(target.numpy(), near.numpy()))
    return {name: float(np.mean(values)) for name, values in told.items()}


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("split", [None, 9])
def test_agree_with_torchmetrics_and_scikit_learn(metric: Metric, split: int | None) -> None:
    given_ = ranking(0, 40, metric=metric, split=split)
    ks = [1, 3, 10]
    found = score(given_, ks, CLASSES)
    assert found["scores"] == pytest.approx(by_reference(given_, ks), abs=1e-6)
    assert found["queries"] == (split or 40) and found["without_match"] == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(8, 40), st.integers(2, 4))
def test_hold_what_their_definitions_promise(seed: int, rows: int, classes: int) -> None:
    found = score(ranking(seed, rows, classes=classes), [1, 2, rows - 1], CLASSES)
    told = found["scores"]
    assert all(0 <= value <= 1 for value in told.values())
    assert told["precision@1"] == told["hit@1"]
    assert told["recall@1"] <= told["recall@2"] <= told[f"recall@{rows - 1}"] == 1.0
    assert told[f"precision@{rows - 1}"] == pytest.approx(found["chance"])
    assert sum(row["queries"] for row in found["classes"]) == rows


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = score(ranking(1, 50), [1, 5], CLASSES)
    monkeypatch.setattr(scores, "CELLS", 150)  # three queries at a time
    seen: list[tuple[int, int]] = []
    cut = score(ranking(1, 50), [1, 5], CLASSES, progress=lambda *now: seen.append(now))
    assert cut["scores"] == pytest.approx(whole["scores"], abs=1e-12)
    assert seen[0] == (3, 50) and seen[-1] == (50, 50)


def test_a_worked_example() -> None:
    # On a line: a at 0, b at 1, a at 2, b at 4; the first asks: b (1), a (2), b (4).
    features = np.array([[0.0], [1.0], [2.0], [4.0]], np.float32)
    labels = np.array([0, 1, 0, 1])
    found = score(Ranking(features, labels, features, labels, np.arange(4), "l2"), [1], CLASSES)
    # Of equal distances the earlier row comes first: the second asks a (0), a (2), b (4).
    # third: b (1), a (0), b (4); fourth: a (2), b (1), a (0).
    assert found["scores"]["precision@1"] == 0
    assert found["scores"]["map"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 2 + 1 / 2) / 4)
    assert found["chance"] == pytest.approx(1 / 3)


def test_a_query_without_its_like_is_counted_and_not_scored() -> None:
    features = np.eye(3, dtype=np.float32)
    labels = np.array([0, 0, 1])
    found = score(Ranking(features, labels, features, labels, np.arange(3), "l2"), [2], CLASSES)
    assert (found["queries"], found["without_match"]) == (2, 1)
    assert [row["class"] for row in found["classes"]] == ["a"]


def test_what_cannot_be_scored_is_refused() -> None:
    given_ = ranking(0, 10)
    with pytest.raises(Refusal) as caught:
        score(given_, [1, 10], CLASSES)
    refusal = caught.value
    assert (refusal.path, refusal.value) == ("--k", 10) and "from 1 to 9" in refusal.remedy
    with pytest.raises(Refusal, match="9 other pictures"):
        score(given_, [0], CLASSES)
    none = np.full(10, -1, np.int64)
    bare = Ranking(given_.queries, none, given_.gallery, none, given_.own, "cosine")
    with pytest.raises(Refusal, match="no classes"):
        score(bare, [1], CLASSES)
    alone = np.arange(10)
    each = Ranking(given_.queries, alone, given_.gallery, alone, given_.own, "cosine")
    with pytest.raises(Refusal, match="no picture has another of its class"):
        score(each, [1], [*map(str, range(10))])
