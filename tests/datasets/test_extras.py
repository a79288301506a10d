"""Altered copies: of train alone, the same for ever, traced to their originals, never judged by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets import pack, shards
from datasets.packed import leaks
from datasets.packing import encoded, extras, splits
from datasets.packing.extras import Extra
from datasets.pictures.decode import decode
from datasets.pictures.prepare import Options
from datasets.refusal import Refusal
from datasets.shards import Dataset
from tests.datasets.photographs import source as photographs

WORDS = ("rotate:45", "mirror", "crop:0.667")
NUM = 60


def packed(url: Path, **changes: object) -> Dataset:
    """Digits with an original and three altered copies of each row of train."""
    given: dict[str, object] = {"splits": {"val": 0.1, "test": 0.1}, "seed": 0, "extras": WORDS}
    pack.pack("digits", {}, str(url), **{**given, **changes})  # type: ignore[arg-type]
    return shards.open_dataset(str(url))


def test_train_is_fourfold_and_nothing_else_changes(tmp_path: Path) -> None:
    plain, found = packed(tmp_path / "plain", extras=()), packed(tmp_path / "set")
    for split in ("val", "test"):
        columns = found.columns(split)
        assert np.array_equal(columns["id"], columns["origin"])
        assert np.array_equal(columns["image"], plain.columns(split)["image"])
    train, originals = found.columns("train"), plain.columns("train")
    assert len(train["id"]) == 4 * len(originals["id"]) == len(np.unique(train["id"]))
    assert np.unique(train["origin"], return_counts=True)[1].tolist() == [4] * len(originals["id"])
    assert set(train["origin"].tolist()) == set(originals["id"].tolist())
    label_of = dict(zip(originals["id"].tolist(), originals["label"].tolist(), strict=True))
    assert [label_of[own] for own in train["origin"].tolist()] == train["label"].tolist()
    assert found.manifest.packed["extra"] == [*WORDS]
    assert leaks.of(found.manifest) == []


def test_raw_copies_are_what_they_are_called(tmp_path: Path) -> None:
    columns = packed(tmp_path / "set", extras=("mirror",)).columns("train")
    image = dict(zip(columns["id"].tolist(), columns["image"], strict=True))
    altered = columns["id"] != columns["origin"]
    assert altered.sum() * 2 == len(altered)
    for own, origin in zip(
        columns["id"][altered].tolist(), columns["origin"][altered].tolist(), strict=True
    ):
        assert np.array_equal(image[own], image[origin][:, ::-1])


def test_a_copy_depends_on_seed_id_and_number_alone(tmp_path: Path) -> None:
    def crops(name: str, **changes: object) -> dict[tuple[int, int], bytes]:
        columns = packed(tmp_path / name, extras=("crop:0.5", "crop:0.5"), **changes).columns(
            "train"
        )
        rows = zip(
            columns["origin"].tolist(), columns["id"].tolist(), columns["image"], strict=True
        )
        return {(origin, own): image.tobytes() for origin, own, image in rows if origin != own}

    one = crops("one")
    fewer = crops("fewer", splits={"val": 0.5, "test": 0.1})
    shared = one.keys() & fewer.keys()
    assert len(shared) > 100 and all(one[key] == fewer[key] for key in shared)
    other = crops("other", seed=1)
    shared = one.keys() & other.keys()
    assert any(one[key] != other[key] for key in shared)
    by_origin: dict[int, set[bytes]] = {}
    for (origin, _), image in one.items():
        by_origin.setdefault(origin, set()).add(image)
    assert sum(len(images) == 2 for images in by_origin.values()) > len(by_origin) / 2


def test_pictures_in_files_get_copies_in_files(tmp_path: Path) -> None:
    source = photographs(tmp_path / "photographs", NUM)
    cut = splits.stratified(source.columns["label"], {"val": 0.2}, 0)
    altered, rows = extras.extended(source, cut, [Extra.parse(words) for words in WORDS], seed=0)
    assert np.array_equal(rows["val"], cut["val"]) and len(rows["train"]) == 4 * len(cut["train"])
    url = str(tmp_path / "set")
    options = Options(tile=False)
    encoded.write(url, altered, rows, name="p", options=options, packed={}, seed=0)
    columns = shards.open_dataset(url).columns("train")
    assert columns["path"].tolist() == [f"{own // 10}.img" for own in columns["origin"].tolist()]
    assert source.pictures is not None and altered.pictures is not None
    num = len(cut["train"])
    for place in range(0, 3 * num, 7):
        kind, row = WORDS[place // num], int(cut["train"][place % num])
        data, original = altered.pictures.read(NUM + place), source.pictures.read(row)
        assert altered.pictures.name(NUM + place) == source.pictures.name(row)
        assert data[:4] == original[:4] if original[:4] == b"\x89PNG" else data[:2] == b"\xff\xd8"
        shape, whole = decode(data).shape[:2], decode(original)
        wanted = [round(0.667 * side) if kind == WORDS[2] else side for side in whole.shape[:2]]
        assert list(shape) == wanted
        if kind == "mirror":
            gray, expected = decode(data, 1), decode(original, 1)[:, ::-1]
            assert np.abs(gray.astype(int) - expected).mean() < 3


def test_a_turned_picture_is_turned_counter_clockwise() -> None:
    pixels = np.zeros((9, 9, 1), np.uint8)
    pixels[0, 4] = 255
    assert Extra.parse("rotate:90")(pixels, (0, 0))[4, 0, 0] == 255


def test_in_folds_copies_go_with_their_original(tmp_path: Path) -> None:
    packed(tmp_path / "set", splits={"test": 0.1}, folds=3, extras=("mirror",))
    for fold in range(3):
        dataset = shards.open_fold(str(tmp_path / "set"), fold)
        train, val = dataset.columns("train"), dataset.columns("val")
        assert np.array_equal(val["id"], val["origin"])
        assert not np.isin(train["origin"], val["id"]).any()
        assert len(train["id"]) == 2 * len(np.unique(train["origin"]))


def test_what_does_not_decode_is_named_as_ever(tmp_path: Path) -> None:
    source = photographs(tmp_path / "photographs", 20)
    (tmp_path / "photographs" / "7.img").write_bytes(b"\xff\xd8 no picture")
    altered, rows = extras.extended(source, {"train": np.arange(20)}, [Extra("mirror")], seed=0)
    url, options = str(tmp_path / "set"), Options(tile=False)
    with pytest.raises(Refusal, match="7.img"):
        encoded.write(url, altered, rows, name="p", options=options, packed={}, seed=0)
    manifest = encoded.write(
        url, altered, rows, name="p", options=options, packed={}, seed=0, leave_out=True
    )
    assert manifest.splits["train"].rows == 38


@pytest.mark.parametrize(
    "words",
    ["rotate", "rotate:0", "rotate:200", "mirror:1", "crop:1", "crop:x", "crop:nan", "blur:2"],
)
def test_unknown_alterations_are_refused(words: str) -> None:
    with pytest.raises(Refusal, match="no alteration") as caught:
        Extra.parse(words)
    assert caught.value.path == "--extra"


def test_a_table_has_none(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="is a table"):
        pack.pack("curve", {}, str(tmp_path / "x"), splits={}, seed=0, extras=["mirror"])


def test_the_same_copy_twice_is_refused_but_for_crops() -> None:
    with pytest.raises(Refusal, match="asked for twice"):
        Extra.all_of(["mirror", "crop:0.5", "mirror"])
    assert len(Extra.all_of(["crop:0.5", "crop:0.5", "rotate:30", "rotate:-30"])) == 4
