"""A set in folds: dealt out evenly, seen with any fold as val, read through one path, nothing copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets import pack, shards
from datasets.order import Plan
from datasets.packed import folds
from datasets.packing import encoded, splits
from datasets.pictures.prepare import Options
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.stream import EvalStream
from tests.datasets.photographs import source as photographs
from tests.datasets.streaming import shuffled

NUM_FOLDS = 5


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digits in five folds, and a test split."""
    folder = str(tmp_path_factory.mktemp("folds") / "digits")
    pack.pack("digits", {}, folder, splits={"test": 0.15}, folds=NUM_FOLDS, seed=0)
    return folder


def ids(dataset: Dataset, split: str) -> set[int]:
    return set(dataset.columns(split)["id"].tolist())


@pytest.mark.parametrize("num_folds", [2, 3, 7])
def test_rows_are_dealt_out_evenly_class_by_class(num_folds: int) -> None:
    labels = np.repeat(np.arange(9), [1, 2, 3, 4, 5, 6, 7, 8, 90])
    found = splits.folded(labels, num_folds, seed=0)
    assert sorted(np.concatenate([*found.values()])) == list(range(len(labels)))
    sizes = [len(rows) for rows in found.values()]
    assert max(sizes) - min(sizes) <= 1
    for label in range(9):
        counts = [int((labels[rows] == label).sum()) for rows in found.values()]
        assert max(counts) - min(counts) <= 1
    other = splits.folded(labels, num_folds, seed=1)
    assert not np.array_equal(found["fold-0"], other["fold-0"])


def test_each_fold_is_val_once(url: str) -> None:
    views = [shards.open_fold(url, fold) for fold in range(NUM_FOLDS)]
    every = set(range(1797)) - ids(views[0], "test")
    judged: set[int] = set()
    for fold, dataset in enumerate(views):
        train, val = ids(dataset, "train"), ids(dataset, "val")
        assert sorted(dataset.manifest.splits) == ["test", "train", "val"]
        assert not train & val and train | val == every
        assert dataset.manifest.splits["train"].rows == len(train)
        assert dataset.manifest.packed["fold"] == fold
        assert not judged & val
        judged |= val
    assert judged == every
    assert len({view.manifest.digest for view in views}) == NUM_FOLDS
    assert len({view.manifest.stored for view in views}) == 1, "one cache for all of them"


def test_moments_are_those_of_all_folds(url: str) -> None:
    dataset = shards.open_fold(url, 0)
    both = [dataset.columns(split)["image"] for split in ("train", "val")]
    pixels = np.concatenate(both) / 255
    assert dataset.manifest.mean == pytest.approx([pixels.mean()])
    assert dataset.manifest.std == pytest.approx([pixels.std()])


def test_without_a_fold_or_with_a_strange_one_it_is_refused(url: str, packed: Dataset) -> None:
    with pytest.raises(Refusal, match=r"5 folds, 0 .. 4: which one") as caught:
        shards.open_fold(url, None)
    assert caught.value.path == "data.fold"
    with pytest.raises(Refusal, match=r"no fold 5, its folds are 0 .. 4"):
        shards.open_fold(url, 5)
    with pytest.raises(Refusal, match="not packed in folds"):
        shards.open_fold(packed.url, 0)
    assert shards.open_fold(packed.url, None).manifest == packed.manifest


def test_pictures_of_several_folds_are_streamed_as_one_split(tmp_path: Path) -> None:
    """Encoded pictures with an index of each fold: every row once, val in its own stored order."""
    source = photographs(tmp_path / "photographs", 60)
    rows = splits.folded(source.columns["label"], 3, seed=0)
    url = str(tmp_path / "set")
    options = Options(tile=False)
    encoded.write(url, source, rows, name="photographs", options=options, packed={}, seed=0)
    dataset = shards.open_fold(url, 1)
    assert len(dataset.manifest.split("train").index) == 2
    for split, num in (("train", 40), ("val", 20)):
        columns = dataset.columns(split)
        assert len(columns["id"]) == num
        assert np.array_equal(columns["label"], columns["id"] // 10 % 2)
        expected = [dataset.picture(split, row).shape[:2] for row in range(num)]
        sizes = np.stack([columns["height"], columns["width"]], 1).tolist()
        assert sizes == [list(shape) for shape in expected]


def test_an_epoch_of_joined_folds_uses_each_row_once(url: str) -> None:
    dataset = shards.open_fold(url, 3)
    plan = Plan(dataset.manifest.split("train").rows, batch=100, lanes=4, tail="keep")
    stream = shuffled(dataset, plan, seed=0)
    used = [int(own) for batch in stream.epoch(0, 0) for own in batch["id"]]
    assert sorted(used) == sorted(ids(dataset, "train"))
    judged = [int(own) for batch in EvalStream(dataset, "val", batch=64) for own in batch["id"]]
    assert judged == dataset.columns("val")["id"].tolist()


def test_an_official_val_is_dealt_out_too(
    tmp_path: Path, source: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from datasets.sources import digits

    rows, whole = np.arange(1797), digits.build()
    official = {"train": rows[:900], "val": rows[900:1200], "test": rows[1200:]}
    monkeypatch.setattr(digits, "build", lambda: replace(whole, splits=official))
    url = str(tmp_path / "digits")
    pack.pack("digits", {}, url, splits={}, folds=3, seed=0)
    dataset = shards.open_fold(url, 0)
    assert ids(dataset, "test") == set(range(1200, 1797))
    assert ids(dataset, "train") | ids(dataset, "val") == set(range(1200))


@pytest.mark.parametrize("num_folds", [1, 1798, -2])
def test_impossible_numbers_of_folds_are_refused(tmp_path: Path, num_folds: int) -> None:
    with pytest.raises(Refusal, match="folds") as caught:
        pack.pack("digits", {}, str(tmp_path / "x"), splits={}, folds=num_folds, seed=0)
    assert caught.value.path == "data.splits.folds"


def test_altered_copies_of_the_judged_fold_are_left_out() -> None:
    names = ["test", "fold-0", "fold-0-extra", "fold-1", "fold-1-extra", "fold-10"]
    assert folds.count(names) == 3
    assert folds.members(names, 0) == {
        "test": ["test"],
        "val": ["fold-0"],
        "train": ["fold-1", "fold-1-extra", "fold-10"],
    }
