"""Captions beside pictures, and in lists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from datasets.refusal import Refusal
from datasets.source import Source
from datasets.sources import captions

Fill, Picture = Callable[..., Path], Callable[..., bytes]


def test_text_beside_pictures(
    fill: Fill, picture: Picture, holds: Callable[[Source], list[bytes]]
) -> None:
    files = {
        "a.jpg": picture(1),
        "a.txt": "a small\n bird, größer\n",
        "x/b.c.png": picture(2, kind="PNG"),
    }
    source = captions.build(path=str(fill({**files, "x/b.c.txt": "another"})))
    assert source.columns["caption"].tolist() == ["a small bird, größer", "another"]
    assert "label" not in source.columns and source.classes == () and source.splits is None
    assert holds(source) == [files["a.jpg"], files["x/b.c.png"]]


def test_split_folders_are_official(archive: Callable[..., Path], picture: Picture) -> None:
    files: dict[str, bytes | str] = {}
    for path in ("train/1", "train/2", "validation/3"):
        files |= {f"{path}.jpg": picture(0), f"{path}.txt": path}
    source = captions.build(path=str(archive(files, "set.tar")))
    assert source.splits is not None
    assert {name: rows.tolist() for name, rows in source.splits.items()} == {
        "train": [0, 1],
        "val": [2],
    }


def test_a_list_of_captions(fill: Fill, picture: Picture) -> None:
    text = 'file_name,text\n1.jpg,"a bird, small"\nx/2.jpg,another\n'
    folder = fill({"1.jpg": picture(1), "x/2.jpg": picture(2), "metadata.csv": text})
    source = captions.build(path=str(folder / "metadata.csv"), image="file_name", caption="text")
    assert source.columns["caption"].tolist() == ["a bird, small", "another"]
    with pytest.raises(Refusal, match="has no column 'image'"):
        captions.build(path=str(folder / "metadata.csv"))


@pytest.mark.parametrize("text", [{}, {"b.txt": " \n"}])
def test_a_picture_without_a_caption_is_refused(
    text: dict[str, str], fill: Fill, picture: Picture
) -> None:
    folder = fill({"a.jpg": picture(1), "a.txt": "words", "b.jpg": picture(2), **text})
    with pytest.raises(Refusal, match="has no caption") as caught:
        captions.build(path=str(folder))
    assert caught.value.path == str(folder / "b.jpg") and "b.txt" in caught.value.remedy
