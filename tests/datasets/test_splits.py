"""Splits: exact within each class, a function of (seed, index)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.packing import splits
from datasets.refusal import Refusal


@settings(max_examples=80, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=30, max_size=200),
    val=st.floats(0.05, 0.4),
    test=st.floats(0.05, 0.4),
    seed=st.integers(0, 9),
)
def test_each_row_once_and_each_class_by_its_share(
    labels: list[int], val: float, test: float, seed: int
) -> None:
    array = np.array(labels)
    found = splits.stratified(array, {"val": val, "test": test}, seed)
    assert sorted(np.concatenate(list(found.values()))) == list(range(len(labels)))
    shares = {"val": val, "test": test, "train": 1 - val - test}
    for label in set(labels):
        members = labels.count(label)
        for name, share in shares.items():
            count = int((array[found[name]] == label).sum())
            # Off by less than a row, or by one more where a split would have had none.
            assert abs(count - members * share) < 2
            assert count >= 1 or members < 3


def test_digits_like_counts_are_exact() -> None:
    labels = np.repeat(np.arange(10), 180)
    found = splits.stratified(labels, {"val": 0.15, "test": 0.15}, 0)
    for name, count in (("val", 27), ("test", 27), ("train", 126)):
        assert np.bincount(labels[found[name]]).tolist() == [count] * 10


def test_the_seed_decides_and_the_order_of_names_does_not() -> None:
    labels = np.arange(100) % 4
    one = splits.stratified(labels, {"val": 0.2, "test": 0.1}, 0)
    two = splits.stratified(labels, {"test": 0.1, "val": 0.2}, 0)
    other = splits.stratified(labels, {"val": 0.2, "test": 0.1}, 1)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["val"], other["val"])
    assert all(np.all(np.diff(rows) > 0) for rows in one.values())


def test_a_rare_class_is_in_every_split_while_it_can() -> None:
    labels = np.array([0] * 97 + [1] * 3)
    found = splits.stratified(labels, {"val": 0.05, "test": 0.05}, 0)
    assert all((labels[rows] == 1).sum() == 1 for rows in found.values())


def test_tables_are_cut_by_rows_alone() -> None:
    found = splits.unstratified(400, {"val": 0.15, "test": 0.15}, 0)
    assert {name: len(rows) for name, rows in found.items()} == {
        "test": 60,
        "val": 60,
        "train": 280,
    }


def test_no_fractions_are_all_train() -> None:
    assert splits.unstratified(5, {}, 0)["train"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("fractions", "path"),
    [
        ({"val": 0.0}, "data.splits.val"),
        ({"val": -0.1}, "data.splits.val"),
        ({"val": 1.0}, "data.splits.val"),
        ({"val": float("nan")}, "data.splits.val"),
        ({"train": 0.5}, "data.splits.train"),
        ({"val": 0.5, "test": 0.5}, "data.splits"),
        ({"val": 0.001, "test": 0.5}, "data.splits.val"),
    ],
)
def test_bad_fractions_are_refused(fractions: dict[str, float], path: str) -> None:
    with pytest.raises(Refusal) as caught:
        splits.stratified(np.zeros(2, np.int64), fractions, 0)
    assert caught.value.path == path and caught.value.remedy
