"""Confusion agrees with scikit-learn; pairs and sheets are in their order."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from cluster.explain import Predicted
from search.explanation import mistakes


@pytest.fixture
def found() -> Predicted:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(300, 4))
    labels = rng.integers(0, 4, 300)
    logits[np.arange(300), labels] += 1.5
    logits[labels == 2, 3] += 1.5  # a hard pair
    shares = np.exp(logits)
    return Predicted(np.arange(300) + 1000, labels, shares / shares.sum(1, keepdims=True))


def test_confusion_is_scikit_learns(found: Predicted) -> None:
    counts = mistakes.confusion(found, 4)
    assert (counts == confusion_matrix(found.labels, found.classes)).all()


def test_the_hardest_pair_is_first_and_said_in_words(found: Predicted) -> None:
    counts = mistakes.confusion(found, 4)
    first, *others = mistakes.pairs(counts, range(4), 9)
    assert {first.one, first.two} == {2, 3} and first.one == 2
    words = first.words(["a", "b", "whale", "shark"])
    share = round(100 * counts[2, 3] / counts[2].sum())
    assert words.startswith(
        f"whale is taken for shark in {counts[2, 3]} of {counts[2].sum()} pictures ({share} %); the other way"
    )
    assert len(others) == 5
    assert all({pair.one, pair.two} & {0} for pair in mistakes.pairs(counts, [0], 9))


def test_the_surest_mistakes_come_first(found: Predicted) -> None:
    rows = mistakes.wrong(found, range(4))
    assert (found.labels[rows] != found.classes[rows]).all()
    assert (np.diff(found.confidence[rows]) <= 0).all()
    assert len(rows) == (found.labels != found.classes).sum()
    some = mistakes.wrong(found, [1])
    assert ((found.labels[some] == 1) | (found.classes[some] == 1)).all() and len(some)


def test_right_ones_are_of_all_chosen_classes(found: Predicted) -> None:
    rows = mistakes.right(found, [0, 2], 6)
    assert np.bincount(found.labels[rows], minlength=4).tolist() == [3, 0, 3, 0]
    assert (found.labels[rows] == found.classes[rows]).all()
    assert mistakes.right(found, [0], 0).size == 0


def test_the_most_mistaken_classes(found: Predicted) -> None:
    counts = mistakes.confusion(found, 4)
    assert mistakes.most_mistaken(counts, range(4), 2) == [2, 3]
    assert mistakes.most_mistaken(counts, [0, 1, 2], 1) == [2]
