"""Searching an index: the true nearest, by faiss as by brute force; a damaged or another's file is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.refusal import Refusal
from trainers.retrieval import index as indexes
from trainers.retrieval import neighbours
from trainers.retrieval.embedder import Features, Metric
from trainers.retrieval.index import Index
from trainers.retrieval.jobs import Job, Piece
from trainers.retrieval.neighbours import Approximate, nearest


def made(
    folder: Path, features: Features, metric: Metric, approximate: Approximate | None = None
) -> Index:
    """An index of these features, ids 100, 101, ..., labels 0 and 1."""
    rows = len(features)
    about: dict[str, Any] = {
        "format": indexes.FORMAT,
        "metric": metric,
        "recipe": {"data": {"eval": {}}},
        "shape": {"num_classes": 2, "channels": 1, "size": 8},
        "codec": "raw",
        "weights": {"digest": "0"},
        "data": {"name": "made"},
        "classes": ["a", "b"],
        "approximate": approximate,
    }
    halves = np.array_split(np.arange(rows), 2)  # two record batches
    pieces = (
        Piece(
            Job(split, 0, 1), part + 100, part % 2, None, features[part], [b"picture"] * len(part)
        )
        for split, part in zip(("train", "test"), halves, strict=True)
    )
    indexes.write(str(folder), about, pieces)
    return Index.open(str(folder))


def drawn(rows: int, width: int, metric: Metric, seed: int = 0) -> Features:
    found = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    if metric == "cosine":
        found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def brute(features: Features, query: Features, metric: Metric) -> np.ndarray:
    rows, one = features.astype(np.float64), query.astype(np.float64)
    apart = 1 - rows @ one if metric == "cosine" else np.linalg.norm(rows - one, axis=1)
    return np.argsort(apart, kind="stable")


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_finds_the_true_nearest(metric: Metric, tmp_path: Path) -> None:
    features = drawn(500, 24, metric)
    index, queries = made(tmp_path, features, metric), drawn(200, 24, metric, seed=1)
    found = nearest(index, queries, 5)
    true = np.stack([brute(features, query, metric)[:5] for query in queries])
    np.testing.assert_array_equal(found.rows, true)
    assert (np.diff(found.distances, axis=1) >= 0).all()
    own = nearest(index, features[:50], 3)
    np.testing.assert_array_equal(own.rows[:, 0], np.arange(50))
    np.testing.assert_allclose(own.distances[:, 0], 0, atol=1e-6)
    other = nearest(index, features[7:8], 3, without=7)
    np.testing.assert_array_equal(other.rows[0], brute(features, features[7], metric)[1:4])


def test_of_equal_ones_the_first_comes_first(tmp_path: Path) -> None:
    features = np.repeat(drawn(4, 8, "l2"), 3, axis=0)
    found = nearest(made(tmp_path, features, "l2"), features[4:5], 3)
    assert found.rows.tolist() == [[3, 4, 5]]
    assert found.distances.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_approximate_ones_say_how_good_they_are(
    kind: Approximate, metric: Metric, tmp_path: Path
) -> None:
    # Ten heaps: what such indexes are good at.
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(10, 16))[np.arange(1500) % 10] * 4).astype(np.float32)
    features += rng.normal(size=features.shape).astype(np.float32)
    if metric == "cosine":
        features /= np.linalg.norm(features, axis=1, keepdims=True)
    index = made(tmp_path, features, metric, kind)
    share = neighbours.build(index, kind)
    found = nearest(index, features[:100], 10)
    true = [set(brute(features, one, metric)[:10]) for one in features[:100]]
    measured = np.mean([len(set(a) & b) / 10 for a, b in zip(found.rows, true, strict=True)])
    assert share > 0.8 and abs(measured - share) < 0.1
    assert (found.rows[:, 0] == np.arange(100)).mean() > 0.95
    (tmp_path / neighbours.NAME).write_bytes(b"something else")
    with pytest.raises(Refusal, match="is damaged"):
        nearest(index, features[:1], 3)
    (tmp_path / neighbours.NAME).unlink()
    with pytest.raises(Refusal, match="which is missing") as caught:
        nearest(index, features[:1], 3)
    assert caught.value.path.endswith(neighbours.NAME)


def test_more_than_there_are_is_refused(tmp_path: Path) -> None:
    index = made(tmp_path, drawn(6, 4, "l2"), "l2")
    with pytest.raises(Refusal) as caught:
        nearest(index, index.features[:1], 7)
    assert (caught.value.path, caught.value.value) == ("--k", 7)
    assert caught.value.remedy == "use a number from 1 to 6"
    with pytest.raises(Refusal, match="5 other pictures"):
        nearest(index, index.features[:1], 6, without=0)
    with pytest.raises(Refusal, match="searched whole in no time"):
        neighbours.build(index, "ivf")


def test_reads_back_what_was_written(tmp_path: Path) -> None:
    features = drawn(5, 4, "l2")
    index = made(tmp_path, features, "l2")
    np.testing.assert_array_equal(index.features, features)
    assert index.ids.tolist() == [100, 101, 102, 103, 104]
    assert index.splits.tolist() == ["train"] * 3 + ["test"] * 2
    assert index.told(1) == {"id": 101, "split": "train", "label": 1, "class": "b"}
    assert index.row_of(104) == 4 and Index.open(f"{tmp_path}/index.arrow").url == str(tmp_path)
    with pytest.raises(Refusal, match="no picture of the index has this id") as caught:
        index.row_of(104, "train")
    assert caught.value.path == "--id"


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no index here"):
        Index.open(str(tmp_path))
    index = made(tmp_path, drawn(5, 4, "l2"), "l2")
    file = Path(index.url, "index.arrow")
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"ARROW1 and then nothing"):
        file.write_bytes(damaged)
        with pytest.raises(Refusal, match="no index, or not a whole one") as caught:
            Index.open(index.url)
        assert caught.value.path == str(file)


def test_a_failure_leaves_no_index(tmp_path: Path) -> None:
    features = drawn(4, 4, "l2")
    about = {"format": indexes.FORMAT}

    def pieces() -> Any:
        ids = np.arange(4)
        yield Piece(Job("train", 0, 2), ids, ids, None, features, [b""] * 4)
        raise Refusal("a picture does not decode", path="DATA")

    with pytest.raises(Refusal, match="does not decode"):
        indexes.write(str(tmp_path / "index"), about, pieces())
    assert not (tmp_path / "index").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(Refusal, match="does not decode"):
        indexes.write(str(tmp_path / "mine"), about, pieces())
    assert [*(tmp_path / "mine").iterdir()] == [], "a folder that was there stays"
