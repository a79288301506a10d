"""Class folders, with and without splits, in folders, in archives and on S3."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datasets import store
from datasets.refusal import Refusal
from datasets.source import Source
from datasets.sources import imagefolder

Fill, Picture, Holds = Callable[..., Path], Callable[..., bytes], Callable[[Source], list[bytes]]


def test_classes_are_sorted_folders(fill: Fill, picture: Picture, holds: Holds) -> None:
    files = {
        "b/2.jpg": picture(2),
        "a/1.JPG": picture(1),
        "a/deep/er/3.png": picture(3, kind="PNG"),
    }
    source = imagefolder.build(path=str(fill(files)))
    assert source.classes == ("a", "b") and source.splits is None
    assert source.columns["path"].tolist() == ["a/1.JPG", "a/deep/er/3.png", "b/2.jpg"]
    assert source.columns["label"].tolist() == [0, 0, 1]
    assert holds(source) == [files[path] for path in source.columns["path"]]


def test_ids_are_of_paths_and_survive_new_pictures(fill: Fill, picture: Picture) -> None:
    one = imagefolder.build(path=str(fill({"a/1.jpg": picture(1), "b/2.jpg": picture(2)})))
    two = imagefolder.build(path=str(fill({"a/0.jpg": picture(0)})))
    assert (one.columns["id"] >= 0).all()
    assert two.columns["id"][1:].tolist() == one.columns["id"].tolist()


def test_split_folders_are_official(fill: Fill, picture: Picture, holds: Holds) -> None:
    paths = [
        "train/a/1.jpg",
        "train/b/2.jpg",
        "Validation/a/3.jpg",
        "test/b/x/4.jpg",
        "extra/a/5.jpg",
    ]
    source = imagefolder.build(path=str(fill({path: picture(n) for n, path in enumerate(paths)})))
    assert source.classes == ("a", "b") and source.splits is not None
    found = {name: source.columns["path"][rows].tolist() for name, rows in source.splits.items()}
    assert found == {
        "train": ["train/a/1.jpg", "train/b/2.jpg"],
        "val": ["Validation/a/3.jpg"],
        "test": ["test/b/x/4.jpg"],
        "extra": ["extra/a/5.jpg"],
    }
    holds(source)


def test_training_and_testing_are_splits_too(fill: Fill, picture: Picture) -> None:
    paths = ["Training/a/1.jpg", "Training/b/2.jpg", "Testing/a/3.jpg"]
    source = imagefolder.build(path=str(fill({path: picture(0) for path in paths})))
    assert source.classes == ("a", "b") and source.splits is not None
    assert {name: len(rows) for name, rows in source.splits.items()} == {"train": 2, "test": 1}


def test_a_class_may_be_called_train(fill: Fill, picture: Picture) -> None:
    paths = ["train/1.jpg", "bus/2.jpg", "bus/deep/3.jpg"]
    source = imagefolder.build(path=str(fill({path: picture(0) for path in paths})))
    assert source.classes == ("bus", "train") and source.splits is None


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.tar.bz2", "x.tar.xz"])
def test_archives_give_what_folders_give(
    name: str, fill: Fill, archive: Callable[..., Path], picture: Picture, holds: Holds
) -> None:
    files = {"train/a/1.jpg": picture(1), "train/b/2.jpg": picture(2), "val/a/1.jpg": picture(3)}
    folder = imagefolder.build(path=str(fill(files)))
    wrapped = {f"./pets/{path}": content for path, content in files.items()} | {
        "__MACOSX/a/._1.jpg": b"no"
    }
    packed = imagefolder.build(path=str(archive(wrapped, name)))
    assert holds(packed) == holds(folder)
    for column in ("id", "label", "path"):
        assert packed.columns[column].tolist() == folder.columns[column].tolist()


def test_what_is_no_picture_is_counted(
    fill: Fill, picture: Picture, caplog: pytest.LogCaptureFixture
) -> None:
    files = {
        "a/1.jpg": picture(1),
        "a/Thumbs.db": b"",
        "a/._1.jpg": b"",
        ".git/x.jpg": b"",
        "notes": b"",
    }
    with caplog.at_level(logging.INFO):
        assert imagefolder.build(path=str(fill(files))).num_rows == 1
    assert "1 .db, 1 no suffix, 1 hidden" in caplog.text


def test_links_are_followed_but_not_in_circles(
    fill: Fill, picture: Picture, tmp_path: Path
) -> None:
    folder = fill({"a/1.jpg": picture(1)})
    fill({"2.jpg": picture(2)}, "elsewhere")
    os.symlink(tmp_path / "elsewhere", folder / "b")
    os.symlink(folder, folder / "a" / "again")
    source = imagefolder.build(path=str(folder))
    assert source.columns["path"].tolist() == ["a/1.jpg", "b/2.jpg"]


def test_a_bucket_is_a_folder(bucket: str, picture: Picture, holds: Holds) -> None:
    for number, path in enumerate(["a/1.jpg", "b/2.jpg", "b/notes.txt"]):
        store.write_bytes(f"{bucket}/pets/{path}", picture(number))
    source = imagefolder.build(path=f"{bucket}/pets")
    assert source.columns["path"].tolist() == ["a/1.jpg", "b/2.jpg"]
    assert holds(source) == [picture(0), picture(1)]


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_archives_in_a_bucket_are_read_there(
    name: str, bucket: str, archive: Callable[..., Path], picture: Picture, holds: Holds
) -> None:
    packed = archive({"a/1.jpg": picture(1), "b/2.jpg": picture(2)}, name)
    store.upload(packed, f"{bucket}/{name}")
    packed.unlink()
    assert holds(imagefolder.build(path=f"{bucket}/{name}")) == [picture(1), picture(2)]


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["1.jpg", "a/2.jpg"], "1 pictures are in no class folder, '1.jpg'"),
        (["a/notes.txt"], "there are no pictures"),
        (["a/1.jpg", "b/notes.txt"], "class folder 'b' holds no picture"),
        (["a/1.jpg", "b/"], "class folder 'b' holds no picture"),
        (["train/1.jpg", "test/2.jpg"], "2 pictures are in no class folder"),
        (["train/a/1.jpg", "test/2.jpg"], "1 pictures are in no class folder, 'test/2.jpg'"),
        (["train/a/1.jpg", "train/b/", "test/a/2.jpg"], "class folder 'b' holds no picture"),
        (["train/a/1.jpg", "test/b/2.jpg"], "class 'b' of split 'test' is not in 'train'"),
        (["val/a/1.jpg", "test/a/2.jpg"], "but no 'train'"),
        (["train/a/1.jpg", "val/a/1.jpg", "valid/a/2.jpg"], "are the same split"),
        (["train/a/1.jpg", "extra/a/2.jpg", "b/3.jpg"], "'train' is called like a split"),
        (["Test/a/1.jpg", "bus/2.jpg"], "'Test' is called like a split"),
        ([""], "there are no pictures"),
    ],
)
def test_what_cannot_be_labelled_is_refused(
    paths: list[str], words: str, picture: Picture, tmp_path: Path
) -> None:
    for path in paths:
        target = tmp_path / "data" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir(exist_ok=True) if path.endswith("/") or not path else target.write_bytes(
            picture(0)
        )
    with pytest.raises(Refusal, match=words) as caught:
        imagefolder.build(path=str(tmp_path / "data"))
    assert str(tmp_path / "data") in caught.value.path and caught.value.remedy


def test_a_place_that_is_none_is_refused(fill: Fill, bucket: str) -> None:
    for path, words in [
        ("", "needs a path"),
        ("/nowhere/at/all", "nothing here"),
        ("/nowhere/x.zip", "nothing here"),
        (str(fill({"x.txt": "a"}) / "x.txt"), "neither a folder nor an archive"),
        (f"{bucket}/nothing", "nothing here"),
    ]:
        with pytest.raises(Refusal, match=words):
            imagefolder.build(path=path)


def test_names_that_are_no_text_are_refused(fill: Fill, picture: Picture) -> None:
    folder = fill({"a/1.jpg": picture(1)})
    (Path(os.fsdecode(os.fsencode(folder) + b"/a/\xff.jpg"))).write_bytes(picture(2))
    with pytest.raises(Refusal, match="not UTF-8"):
        imagefolder.build(path=str(folder))


def test_a_picture_that_goes_away_is_named(fill: Fill, picture: Picture) -> None:
    folder = fill({"a/1.jpg": picture(1)})
    source = imagefolder.build(path=str(folder))
    (folder / "a" / "1.jpg").unlink()
    assert source.pictures is not None
    with pytest.raises(Refusal) as caught:
        source.pictures.read(0)
    assert caught.value.path == str(folder / "a" / "1.jpg")


def test_rows_are_int64(fill: Fill, picture: Picture) -> None:
    source = imagefolder.build(path=str(fill({"a/1.jpg": picture(1)})))
    assert source.columns["id"].dtype == source.columns["label"].dtype == np.int64


@pytest.mark.parametrize("name", ["", "x.zip", "x.tar.gz"])
@pytest.mark.parametrize("split", ["", "train/"])
def test_one_folder_around_all_is_looked_into_whatever_lies_beside(
    name: str, split: str, fill: Fill, archive: Fill, picture: Picture
) -> None:
    own = {f"{split}{label}/{n}.jpg": picture(n) for n, label in enumerate("abab")}
    own |= (
        {f"test/{label}/{n}.jpg": picture(n) for n, label in enumerate("ab", 10)} if split else {}
    )
    wrapped = {f"photos/{path}": data for path, data in own.items()}
    wrapped |= {"photos/README.txt": b"hello", "LICENSE": b"free"}
    plain = imagefolder.build(path=str(fill(own, "plain")))
    found = imagefolder.build(path=str(archive(wrapped, name) if name else fill(wrapped, "around")))
    assert found.classes == plain.classes == ("a", "b")
    assert found.columns["id"].tolist() == plain.columns["id"].tolist()
    assert (found.splits is None) == (plain.splits is None) == (not split)
