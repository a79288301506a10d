"""WebDataset shards, made with tarfile as the format says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets import store
from datasets.refusal import Refusal
from datasets.source import Source
from datasets.sources import webdataset

Archive, Picture, Holds = Callable[..., Path], Callable[..., bytes], Callable[[Source], list[bytes]]


@pytest.fixture
def shards(archive: Archive, picture: Picture, tmp_path: Path) -> Path:
    """Two shards of two samples with .cls, .json and .txt; keys start anew in each."""
    (tmp_path / "shards").mkdir()
    for shard in range(2):
        files: dict[str, bytes | str] = {}
        for key in range(2):
            files[f"{key:04}.jpg"] = picture(10 * shard + key)
            files[f"{key:04}.cls"] = str(2 * shard + key)
            files[f"{key:04}.json"] = json.dumps({"kind": f"kind {shard}"})
            files[f"{key:04}.txt"] = f"picture {key}\nof {shard}"
        archive(files, f"shards/set-{shard:03}.tar")
    return tmp_path / "shards"


def test_samples_of_all_shards(shards: Path, picture: Picture, holds: Holds) -> None:
    source = webdataset.build(path=str(shards))
    assert source.columns["path"].tolist() == [
        "set-000.tar/0000.jpg",
        "set-000.tar/0001.jpg",
        "set-001.tar/0000.jpg",
        "set-001.tar/0001.jpg",
    ]
    assert source.classes == ("0", "1", "2", "3") and source.columns["label"].tolist() == [
        0,
        1,
        2,
        3,
    ]
    assert source.columns["caption"][2] == "picture 0 of 1" and source.splits is None
    assert holds(source) == [picture(number) for number in (0, 1, 10, 11)]


def test_patterns_single_shards_and_names_of_classes(shards: Path) -> None:
    (shards / "classnames.txt").write_text("ant\nbee\ncat\ndog\n")
    assert webdataset.build(path=str(shards / "set-*1.tar")).columns["label"].tolist() == [2, 3]
    single = webdataset.build(path=str(shards / "set-000.tar"))
    assert single.num_rows == 2 and single.classes == ("ant", "bee", "cat", "dog")
    (shards / "classnames.txt").write_text("ant\nbee\n")
    with pytest.raises(Refusal, match=r"labels 0 .. 3 for 2 classes"):
        webdataset.build(path=str(shards))


def test_braces_name_shards_as_a_shell_does(shards: Path) -> None:
    both = webdataset.build(path=str(shards / "set-{000..001}.tar"))
    assert both.columns["label"].tolist() == [0, 1, 2, 3]
    assert both.columns["path"][0] == "set-000.tar/0000.jpg"
    turned = webdataset.build(path=str(shards / "set-{001,000}.tar"))
    assert turned.columns["label"].tolist() == [2, 3, 0, 1]
    with pytest.raises(Refusal, match=r"2 of the 4 files are missing, 'set-002.tar'"):
        webdataset.build(path=str(shards / "set-{000..003}.tar"))
    for pattern, words in (("set-{5..1}.tar", "range from 5 to 1"), ("set-{x}.tar", "around 'x'")):
        with pytest.raises(Refusal, match=words):
            webdataset.build(path=str(shards / pattern))


def test_labels_in_json_words_and_compressed_shards(
    archive: Archive, picture: Picture, holds: Holds
) -> None:
    files: dict[str, bytes | str] = {}
    for number, kind in enumerate(["dog", "cat"]):
        files |= {
            f"./x/{number}.PNG": picture(number, kind="PNG"),
            f"./x/{number}.json": json.dumps({"kind": kind}),
        }
        files |= {f"./x/{number}.seg.png": b"a mask"}
    source = webdataset.build(path=str(archive(files, "a.tar.gz")), label="kind")
    assert source.classes == ("cat", "dog") and source.columns["label"].tolist() == [1, 0]
    assert source.columns["path"].tolist() == ["a.tar.gz/x/0.PNG", "a.tar.gz/x/1.PNG"]
    assert holds(source) == [picture(number, kind="PNG") for number in range(2)]


def test_shards_named_after_splits(archive: Archive, picture: Picture, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("imagenet-train-000000", "imagenet-train-000001", "imagenet-validation-000000"):
        archive({"a.jpg": picture(1), "a.cls": "0"}, f"set/{name}.tar")
    source = webdataset.build(path=str(tmp_path / "set"))
    assert source.splits is not None
    assert {name: rows.tolist() for name, rows in source.splits.items()} == {
        "train": [0, 1],
        "val": [2],
    }
    archive({"a.jpg": picture(1), "a.cls": "0"}, "set/more.tar")
    with pytest.raises(Refusal, match="says no split") as caught:
        webdataset.build(path=str(tmp_path / "set"))
    assert caught.value.path == "more.tar"


def test_shards_in_a_bucket(shards: Path, bucket: str, picture: Picture, holds: Holds) -> None:
    store.upload(shards, f"{bucket}/set")
    assert holds(webdataset.build(path=f"{bucket}/set/set-*.tar")) == [
        picture(number) for number in (0, 1, 10, 11)
    ]


def test_pictures_alone(archive: Archive, picture: Picture) -> None:
    source = webdataset.build(
        path=str(archive({"a.jpg": picture(1), "b.jpg": picture(2)}, "x.tar"))
    )
    assert set(source.columns) == {"id", "path"} and source.classes == ()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.jpg": b"1", "a.cls": "0", "b.jpg": b"2"}, "1 of 2 samples have no label"),
        ({"a.jpg": b"1", "a.txt": "words", "b.jpg": b"2"}, "1 of 2 samples have no caption"),
        ({"a.jpg": b"1", "a.cls": "", "b.jpg": b"2", "b.cls": "0"}, "1 of 2 samples have no label"),
        ({"a.cls": "0"}, "the sample has no pictures among cls"),
        ({"a.jpg": b"1", "a.png": b"1"}, "the sample has 2 pictures among jpg, png"),
        ({"a.jpg": b"1", "a.cls": "-1"}, "labels -1 .. -1"),
        ({"a.jpg": b"1", "a.cls": "999999999"}, "at most 1,000,000 classes"),
        ({"a.jpg": b"1", "a.json": "{"}, "is no JSON"),
        ({"a.jpg": b"1", "a.json": '{"label": [1]}'}, "neither a number nor a word"),
        ({"a.jpg": b"1", "a.txt": b"\xff"}, "not UTF-8"),
        ({"../a.jpg": b"1"}, "leaves the archive"),
        ({"a.jpg": b"1", "a.JPG": b"1"}, "two members of one sample"),
    ],
)
def test_bad_samples_are_refused(
    files: dict[str, bytes | str], words: str, archive: Archive
) -> None:
    packed = archive(files, "x.tar")
    with pytest.raises(Refusal, match=words) as caught:
        webdataset.build(path=str(packed))
    assert str(packed.parent) in caught.value.path


def test_cut_and_absent_shards_are_refused(shards: Path) -> None:
    shard = shards / "set-001.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(Refusal, match="cut short") as caught:
        webdataset.build(path=str(shards))
    assert caught.value.path == str(shard)
    with pytest.raises(Refusal, match="no file that ends in .tar"):
        webdataset.build(path=str(shards / "other-*.tar"))
