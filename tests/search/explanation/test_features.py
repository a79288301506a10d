"""Projections: PCA agrees with scikit-learn's, t-SNE keeps neighbours; points are drawn by (seed, id)."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from datasets.refusal import Refusal
from search.explanation import features


def test_pca_is_fitted_on_train_alone() -> None:
    data = load_digits().data.astype(np.float32)
    train, other = data[:300], data[300:400]
    plane = features.pca(train, other, 0)
    reference = PCA(2, svd_solver="full").fit(train)
    for ours, theirs in ((plane.train, train), (plane.other, other)):
        expected = reference.transform(theirs)
        signs = np.sign((ours * expected).sum(0))
        np.testing.assert_allclose(ours * signs, expected, atol=1e-2)
    share = 100 * reference.explained_variance_ratio_.sum()
    assert f"{share:.0f} % of its variance" in plane.note


def test_tsne_keeps_neighbours_and_repeats_itself() -> None:
    digits = load_digits()
    data, labels = digits.data.astype(np.float32), digits.target
    chosen = labels < 3
    data, labels = data[chosen][:240], labels[chosen][:240]
    plane = features.tsne(data[:200], data[200:], 0)
    near = KNeighborsClassifier(5).fit(plane.train, labels[:200])
    assert near.score(plane.other, labels[200:]) > 0.9
    again = features.tsne(data[:200], data[200:], 0)
    assert np.array_equal(plane.train, again.train) and np.array_equal(plane.other, again.other)


def test_points_are_shared_among_classes_and_drawn_by_id() -> None:
    labels = np.array([0] * 50 + [1] * 5 + [2] * 50)
    ids = np.arange(105) * 3
    rows = features.chosen(labels, ids, [0, 1], 30, seed=0)
    assert np.bincount(labels[rows], minlength=3).tolist() == [25, 5, 0]
    assert np.array_equal(rows, features.chosen(labels, ids, [0, 1], 30, seed=0))
    assert not np.array_equal(rows, features.chosen(labels, ids, [0, 1], 30, seed=1))
    turned = features.chosen(labels[::-1], ids[::-1], [0, 1], 30, seed=0)
    assert set(ids[::-1][turned]) == set(ids[rows])


def test_an_unknown_projection_is_refused() -> None:
    with pytest.raises(Refusal) as told:
        features.check(["pca", "umap"])
    assert (told.value.path, told.value.value) == ("--embed", "umap")
