"""Which labels are called wrong: agreement with cleanlab, and what is known of made cases."""

from __future__ import annotations

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from datasets import noise
from datasets.cleaning import detect
from datasets.refusal import Refusal


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pictures, true labels, labels of which one in ten is wrong) of 900 real digits."""
    pictures, truth = load_digits(return_X_y=True)
    pictures, truth = pictures[:900] / 16.0, truth[:900].astype(np.int64)
    return pictures, truth, noise.symmetric(rate=0.1)(truth, np.arange(900), 10)


def test_confident_learning_is_cleanlab_and_finds_real_noise(digits: tuple) -> None:
    pictures, truth, given = digits
    shares = cross_val_predict(
        LogisticRegression(max_iter=300), pictures, given, cv=3, method="predict_proba"
    )
    found = detect.confident(given, shares)
    assert np.array_equal(found.wrong, find_label_issues(given, shares, n_jobs=1))
    assert found.scores == pytest.approx(shares[np.arange(len(given)), given])
    told = detect.precision_recall(found.wrong, given != truth)
    assert told["precision"] > 0.6 and told["recall"] > 0.75
    right = found.suggested[found.wrong & (given != truth)] == truth[found.wrong & (given != truth)]
    assert right.mean() > 0.85
    assert found.joint is not None and found.joint.shape == (10, 10)
    assert found.joint.sum() == pytest.approx(len(given), rel=0.01)


def test_neighbours_find_real_noise_by_votes_that_leave_the_sample_out(digits: tuple) -> None:
    pictures, truth, given = digits
    votes = detect.votes(given, pictures, 10, 7)
    assert votes.shape == (900, 10) and votes.sum(1) == pytest.approx(np.ones(900))
    unit = pictures / np.linalg.norm(pictures, axis=1, keepdims=True)
    for row in (0, 17, 444):  # by hand, from all angles
        order = [n for n in np.argsort(-(unit @ unit[row]), kind="stable") if n != row][:7]
        assert votes[row] * 7 == pytest.approx(np.bincount(given[order], minlength=10))
    found = detect.by_neighbours(given, pictures, num_classes=10, neighbours=7)
    told = detect.precision_recall(found.wrong, given != truth)
    assert told["precision"] > 0.9 and told["recall"] > 0.8


def test_a_share_takes_the_lowest_scores(digits: tuple) -> None:
    pictures, _, given = digits
    found = detect.by_neighbours(given, pictures, num_classes=10, neighbours=7, share=0.05)
    assert found.wrong.sum() == 45
    assert found.scores[found.wrong].max() <= found.scores[~found.wrong].min()


def test_two_heaps_of_losses_are_told_apart_and_the_easiest_is_no_suspect() -> None:
    draws = np.random.default_rng(0)
    losses = np.concatenate([draws.normal(0.3, 0.05, 180), draws.normal(2.5, 0.5, 20), [0.0]])
    given = np.zeros(len(losses), np.int64)
    found = detect.by_loss(given, losses, num_classes=10)
    assert np.flatnonzero(found.wrong).tolist() == list(range(180, 200))
    assert found.scores[-1] == 1.0 and ((found.scores >= 0) & (found.scores <= 1)).all()
    assert detect.by_loss(given, losses, num_classes=10, share=0.02).wrong.sum() == 4


def test_hard_samples_are_no_wrong_labels_where_all_are_learnt() -> None:
    draws = np.random.default_rng(0)
    losses = np.concatenate([draws.normal(0.03, 0.01, 150), draws.normal(0.4, 0.1, 50)])
    assert not detect.by_loss(np.zeros(200, np.int64), losses, num_classes=10).wrong.any()


def test_a_sample_without_a_loss_stays_and_equal_losses_say_nothing() -> None:
    losses = np.array([0.1, 0.11, 0.12, 3.0, np.nan])
    found = detect.by_loss(np.zeros(5, np.int64), losses, num_classes=4)
    assert found.wrong.tolist() == [False, False, False, True, False] and found.scores[4] == 1.0
    assert found.scores[:4] == pytest.approx(np.exp(-losses[:4])), "higher losses rank lower"
    with pytest.raises(Refusal, match="same loss") as refused:
        detect.by_loss(np.zeros(3, np.int64), np.ones(3), num_classes=2)
    assert refused.value.path == "data.cleaned.by" and refused.value.remedy


def test_more_neighbours_than_samples_are_refused() -> None:
    with pytest.raises(Refusal) as refused:
        detect.votes(np.zeros(5, np.int64), np.eye(5), 2, 5)
    assert refused.value.path == "data.cleaned.neighbours" and refused.value.value == 5
    assert "4 or fewer" in refused.value.remedy


def test_a_class_that_nobody_has_is_no_trouble() -> None:
    shares = np.random.default_rng(1).dirichlet(np.ones(4), 60)
    given = shares.argmax(1)
    given[given == 2] = 3
    assert detect.confident(given, shares).wrong.shape == (60,)


@settings(max_examples=25, deadline=None)
@drawn(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_precision_and_recall_are_scikit_learns(pairs: list[tuple[bool, bool]]) -> None:
    from sklearn.metrics import f1_score, precision_score, recall_score

    wrong, truly = (np.array(column) for column in zip(*pairs, strict=True))
    told = detect.precision_recall(wrong, truly)
    for name, score in (
        ("precision", precision_score),
        ("recall", recall_score),
        ("f1", f1_score),
    ):
        assert told[name] == pytest.approx(score(truly, wrong, zero_division=0))
