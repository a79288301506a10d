"""Lists of paths and labels as .csv, .tsv and .jsonl."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets import store
from datasets.refusal import Refusal
from datasets.source import Source
from datasets.sources import listed

Fill, Picture, Holds = Callable[..., Path], Callable[..., bytes], Callable[[Source], list[bytes]]
ROWS = [("x/1.jpg", "dog, big", "train"), ("x/2.jpg", "cat", "train"), ("3.jpg", "cat", "valid")]


def written(suffix: str) -> str:
    if suffix == ".jsonl":
        keys = ("image", "label", "split")
        return "".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in ROWS) + "\n"
    delimiter = {".csv": ",", ".tsv": "\t"}[suffix]
    lines = [("image", "label", "split"), *ROWS]
    return "\ufeff" + "".join(
        delimiter.join(f'"{word}"' for word in line) + "\r\n" for line in lines
    )


@pytest.fixture
def pictures(picture: Picture) -> dict[str, bytes]:
    return {path: picture(number) for number, (path, _, _) in enumerate(ROWS)}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_reads_each_kind_of_list(
    suffix: str, pictures: dict[str, bytes], fill: Fill, holds: Holds
) -> None:
    folder = fill({**pictures, f"list{suffix}": written(suffix)})
    source = listed.build(path=str(folder / f"list{suffix}"), split="split")
    assert source.classes == ("cat", "dog, big")
    assert source.columns["label"].tolist() == [1, 0, 0]
    assert source.columns["path"].tolist() == [path for path, _, _ in ROWS]
    assert source.splits is not None
    assert {name: rows.tolist() for name, rows in source.splits.items()} == {
        "train": [0, 1],
        "val": [2],
    }
    assert holds(source) == list(pictures.values())


def test_other_names_of_columns_and_no_label(pictures: dict[str, bytes], fill: Fill) -> None:
    folder = fill({**pictures, "list.csv": "file,kind\n./x/1.jpg,10\n3.jpg,9\n\nx/2.jpg,9\n"})
    source = listed.build(path=str(folder / "list.csv"), image="file", label="kind")
    assert source.classes == ("9", "10") and source.columns["label"].tolist() == [1, 0, 0]
    assert (
        source.columns["path"].tolist() == ["x/1.jpg", "3.jpg", "x/2.jpg"] and source.splits is None
    )
    bare = listed.build(path=str(folder / "list.csv"), image="file", label="")
    assert "label" not in bare.columns and bare.classes == ()


def test_integers_of_json_are_labels(pictures: dict[str, bytes], fill: Fill) -> None:
    lines = [
        json.dumps({"image": path, "label": 11 - number}) for number, path in enumerate(pictures)
    ]
    folder = fill({**pictures, "list.jsonl": "\n".join(lines)})
    source = listed.build(path=str(folder / "list.jsonl"))
    assert source.classes == ("9", "10", "11") and source.columns["label"].tolist() == [2, 1, 0]


def test_pictures_may_be_elsewhere(
    pictures: dict[str, bytes], fill: Fill, archive: Callable[..., Path], bucket: str, holds: Holds
) -> None:
    path = str(fill({"list.csv": written(".csv")}) / "list.csv")
    packed = archive(pictures, "pictures.zip")
    assert holds(listed.build(path=path, root=str(packed))) == list(pictures.values())
    for name, data in {**pictures, "list.csv": written(".csv").encode()}.items():
        store.write_bytes(f"{bucket}/set/{name}", data)
    assert holds(listed.build(path=f"{bucket}/set/list.csv")) == list(pictures.values())
    assert listed.build(path=path, root=f"{bucket}/set").num_rows == 3


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("list.csv", "image,lable\n3.jpg,a\n", "has no column 'label' -- did you mean 'lable'"),
        ("list.csv", "", "has no column 'image'"),
        ("list.csv", "image,label\n", "lists no pictures"),
        ("list.csv", "image,label\n3.jpg,a,b\n", "line 2 has 3 fields, and the header 2"),
        ("list.csv", "image,label\n3.jpg,\n", "line 2 has no label"),
        ("list.csv", 'image,label\n"3.jpg,a\n', "cannot be read"),
        ("list.csv", "image,label\n../data/3.jpg,a\n", "line 2 has '../data/3.jpg', which leaves"),
        ("list.csv", "image,label\n/etc/passwd,a\n", "line 2 has '/etc/passwd', which leaves"),
        ("list.csv", "image,label\nx\\1.jpg,a\n", "which leaves"),
        ("list.csv", "image,label\n3.jpg,a\n4.jpg,a\n", "line 3 names '4.jpg', which is not in"),
        ("list.csv", "image,label\n3.jpg,a\n./3.jpg,b\n", "comes 2 times"),
        ("list.csv", b"image,label\n\xff,a\n", "not UTF-8"),
        ("list.txt", "image,label\n3.jpg,a\n", "is no list of pictures"),
        ("list.jsonl", '{"image": "3.jpg"}\n', "line 1: has no column 'label'"),
        ("list.jsonl", '{"image": "3.jpg", "label": null}\n', "neither words nor an integer"),
        ("list.jsonl", '{"image": ["3.jpg"], "label": 1}\n', "neither words nor an integer"),
        ("list.jsonl", '{"image": "3.jpg"\n', "line 1 is no JSON"),
        ("list.jsonl", "[" * 100_000, "line 1 is no JSON"),
        ("list.jsonl", "[1]\n", "line 1 is no JSON object"),
    ],
)
def test_bad_lists_are_refused(
    name: str, content: str | bytes, words: str, pictures: dict[str, bytes], fill: Fill
) -> None:
    folder = fill({**pictures, name: content})
    with pytest.raises(Refusal) as caught:
        listed.build(path=str(folder / name))
    assert words in str(caught.value) and str(folder) in caught.value.path


def test_splits_without_train_are_refused(pictures: dict[str, bytes], fill: Fill) -> None:
    folder = fill({**pictures, "list.csv": "image,label,split\n3.jpg,a,test\n"})
    with pytest.raises(Refusal, match="no split 'train' among test"):
        listed.build(path=str(folder / "list.csv"), split="split")
