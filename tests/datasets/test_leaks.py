"""Pictures in two splits are found when a set is packed, whatever it is packed as, and refused unless allowed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets import pack, shards
from datasets.packed import leaks
from datasets.packed.leaks import Leak
from datasets.packed.manifest import Manifest
from datasets.packing import encoded
from datasets.pictures.prepare import Options
from datasets.refusal import Refusal
from datasets.source import Source
from tests.datasets.photographs import source as photographs

SPLITS = {"train": np.arange(0, 30), "val": np.arange(30, 40), "test": np.arange(40, 60)}
# Rows of test (their ids are ten times as large) that get the bytes of a row of train, and of val.
COPIES = {41: 3, 45: 3, 50: 7, 55: 31}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("photographs")
    source = photographs(folder, 60)
    for copy, original in COPIES.items():
        (folder / f"{copy}.img").write_bytes((folder / f"{original}.img").read_bytes())
    return source


def pack_files(source: Source, url: Path, splits: dict[str, np.ndarray]) -> Manifest:
    options = Options(tile=False)
    return encoded.write(
        str(url), source, splits, name="photographs", options=options, packed={}, seed=0
    )


def test_copies_in_files_are_found_and_named(copied: Source, tmp_path: Path) -> None:
    manifest = pack_files(copied, tmp_path / "set", SPLITS)
    found = {leak.splits: leak for leak in leaks.of(manifest)}
    assert {pair: leak.rows for pair, leak in found.items()} == {"train/test": 3, "val/test": 1}
    pairs = {tuple(pair) for pair in found["train/test"].examples}
    assert pairs == {(30, 410), (30, 450), (70, 500)}
    assert found["val/test"].examples == [[310, 550]]
    assert leaks.of(shards.open_dataset(str(tmp_path / "set")).manifest) == leaks.of(manifest)


def test_copies_of_raw_pictures_are_found(source: Source, tmp_path: Path) -> None:
    rows = np.arange(source.num_rows)
    image = source.columns["image"].copy()
    image[1500:1504] = image[:4]
    columns = {**source.columns, "image": image}
    splits = {"train": rows[:1000], "test": rows[1000:]}
    manifest = shards.write(
        str(tmp_path / "x"),
        dict.fromkeys(splits, columns),
        rows=splits,
        name="digits",
        kind="image",
        shape=source.shape,
        classes=source.classes,
        packed={},
    )
    (leak,) = leaks.of(manifest)
    assert (leak.splits, leak.rows) == ("train/test", 4)
    assert all(copy == 1500 + own for own, copy in leak.examples)


def test_a_clean_set_has_none(tmp_path: Path) -> None:
    digits = pack.pack("digits", {}, str(tmp_path / "d"), splits={"val": 0.2, "test": 0.2}, seed=0)
    assert digits.packed["leaks"] == []
    leaks.refuse(digits, [])


def test_each_fold_shows_its_own(copied: Source, tmp_path: Path) -> None:
    """Row 3 is twice in test; rows 31 and 55 are in different folds, 3 and 7 in the same one."""
    folds = {"fold-0": np.arange(0, 20), "fold-1": np.arange(20, 40), "fold-2": np.arange(50, 60)}
    pack_files(copied, tmp_path / "set", {**folds, "test": np.arange(40, 50)})
    shown = [
        {
            leak.splits: leak.rows
            for leak in leaks.of(shards.open_fold(f"{tmp_path}/set", n).manifest)
        }
        for n in range(3)
    ]
    assert shown == [
        # 50 is 7 and 55 is 31: a fold that is val leaks to the others, and they to it.
        {"train/val": 1, "val/test": 2},
        {"train/val": 1, "train/test": 2},
        {"train/val": 2, "train/test": 2},
    ]


def test_training_is_refused_unless_the_pair_is_allowed(copied: Source, tmp_path: Path) -> None:
    manifest = pack_files(copied, tmp_path / "set", SPLITS)
    with pytest.raises(
        Refusal, match="3 of test's rows are pictures of train .*1 of test's"
    ) as all_:
        leaks.refuse(manifest, [])
    assert all_.value.path == "data.allow_leaks" and "\n" not in str(all_.value)
    assert "data.allow_leaks=[train/test, val/test]" in all_.value.remedy
    with pytest.raises(Refusal) as one:
        leaks.refuse(manifest, ["test/train"])
    assert "3 of test's" not in str(one.value) and "1 of test's" in str(one.value)
    leaks.refuse(manifest, ["train/test", "val/test"])
    with pytest.raises(Refusal, match="has no split 'text'") as unknown:
        leaks.refuse(manifest, ["train/test", "val/test", "train/text"])
    assert unknown.value.path == "data.allow_leaks" and "'test'" in unknown.value.remedy


def test_a_list_that_is_none_is_refused(copied: Source, tmp_path: Path) -> None:
    manifest = pack_files(copied, tmp_path / "set", SPLITS)
    for damaged in (5, [7], [{"split": "train/test"}]):
        with pytest.raises(Refusal, match="list of leaks"):
            leaks.of(replace(manifest, packed={"leaks": damaged}))
    assert leaks.of(replace(manifest, packed={})) == [], "packed before anybody looked"
    json.dumps(manifest.packed)


def test_a_leak_says_what_it_is() -> None:
    leak = Leak("train/val", 1200, [[5, 17]], fold=2)
    assert str(leak) == "1,200 of val's rows are pictures of train with data.fold=2 (ids 5 and 17)"
