"""CUB-200-2011, made small in its own form: seven text files beside a folder of pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datasets.formats import downloads
from datasets.refusal import Refusal
from datasets.source import Source
from datasets.sources import cub200

Files = dict[str, bytes | str]
PICTURES = {
    1: "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg",
    2: "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg",
    7: "002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg",
}


@pytest.fixture
def birds(picture: Callable[..., bytes]) -> Files:
    """Three pictures of two classes, as the archive holds them."""
    parts = [
        f"{image} {part} {image + part}.5 {part * 2}.0 {int(part != 3)}"
        for image in PICTURES
        for part in range(1, 16)
    ]
    root = "CUB_200_2011"
    files: Files = {
        "attributes.txt": "1 has_bill_shape::curved\n",  # lies beside the folder
        f"{root}/README": "words\n",
        f"{root}/images.txt": "".join(f"{image} {name}\n" for image, name in PICTURES.items()),
        f"{root}/classes.txt": "1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n",
        f"{root}/image_class_labels.txt": "1 1\n2 1\n7 2\n",
        f"{root}/train_test_split.txt": "1 0\n2 1\n7 1\n",
        f"{root}/bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n2 139.0 30.0 153.0 264.0\n7 14.0 112.0 388.0 186.0\n",
        f"{root}/parts/part_locs.txt": "\n".join(parts) + "\n",
        f"{root}/parts/parts.txt": "1 back\n",
    }
    files |= {f"{root}/images/{name}": picture(image) for image, name in PICTURES.items()}
    return files


def test_reads_what_the_text_files_say(
    birds: Files,
    fill: Callable[..., Path],
    holds: Callable[[Source], list[bytes]],
    picture: Callable[..., bytes],
) -> None:
    source = cub200.build(path=str(fill(birds)))
    assert source.classes == ("Black footed Albatross", "Laysan Albatross")
    assert source.columns["id"].tolist() == [1, 2, 7]
    assert source.columns["label"].tolist() == [0, 0, 1]
    assert source.columns["path"].tolist() == [f"images/{name}" for name in PICTURES.values()]
    assert source.splits is not None
    assert {name: rows.tolist() for name, rows in source.splits.items()} == {
        "train": [1, 2],
        "test": [0],
    }
    box, parts = source.columns["box"], source.columns["parts"]
    assert box.dtype == parts.dtype == np.float32
    assert box[2].tolist() == [14.0, 112.0, 388.0, 186.0]
    assert parts.shape == (3, 15, 3) and parts[2, 2].tolist() == [10.5, 6.0, 0.0]
    assert holds(source) == [picture(image) for image in PICTURES]


@pytest.mark.parametrize("inside", ["", "CUB_200_2011"])
def test_the_folder_itself_or_the_one_above_may_be_named(
    inside: str, birds: Files, fill: Callable[..., Path]
) -> None:
    assert cub200.build(path=str(fill(birds) / inside)).num_rows == 3


def test_the_archive_gives_what_the_folder_gives(
    birds: Files,
    fill: Callable[..., Path],
    archive: Callable[..., Path],
    holds: Callable[[Source], list[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = cub200.build(path=str(fill(birds)))
    packed = archive(birds, "CUB_200_2011.tgz")
    monkeypatch.setattr(downloads, "fetch", lambda file: {cub200.ARCHIVE: str(packed)}[file])
    source = cub200.build()
    assert holds(source) == holds(folder)
    assert all(
        np.array_equal(source.columns[name], folder.columns[name]) for name in folder.columns
    )


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("images.txt", "1 001.A/../../x.jpg\n", "which is not there"),
        ("images.txt", "1 002.Laysan_Albatross/absent.jpg\n", "which is not there"),
        ("images.txt", "one\n", "line 1 is not a number and 1 more fields"),
        ("images.txt", f"1 {PICTURES[1]}\n1 {PICTURES[2]}\n", "two lines for 1"),
        ("images.txt", f"1 {PICTURES[1]}\n2 {PICTURES[1]}\n", "comes 2 times"),
        ("images.txt", f"{'9' * 30} {PICTURES[1]}\n", "has no line for picture 999"),
        ("image_class_labels.txt", "1 1\n2 1\n", "has no line for picture 7"),
        ("image_class_labels.txt", "1 1\n2 1\n7 3\n", "has class 3, which classes.txt has not"),
        ("train_test_split.txt", "1 0\n2 0\n7 0\n", "no split 'train'"),
        ("train_test_split.txt", "1 0\n2 x\n7 1\n", "has 'x' for picture 2"),
        ("bounding_boxes.txt", "1 1.0 2.0 3.0\n", "line 1 is not a number and 4 more"),
        ("bounding_boxes.txt", "1 1.0 2.0 3.0 wide\n", "a field that is no number"),
        ("bounding_boxes.txt", "1 1.0 2.0 3.0 nan\n", "not finite"),
        ("bounding_boxes.txt", "1 1.0 2.0 3.0 4.0\n", "has no line for picture 2"),
        ("parts/part_locs.txt", "1 1 2.0 3.0 1\n", "has not all 15 parts of 3 pictures"),
        ("parts/part_locs.txt", "1 16 2.0 3.0 1\n", "has part 16 of picture 1"),
        ("classes.txt", b"1 \xff\n", "not UTF-8"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    file: str, content: bytes | str, words: str, birds: Files, fill: Callable[..., Path]
) -> None:
    with pytest.raises(Refusal, match=words) as caught:
        cub200.build(path=str(fill({**birds, f"CUB_200_2011/{file}": content})))
    assert "CUB_200_2011" in caught.value.path and caught.value.remedy


@pytest.mark.parametrize(
    "file", ["images.txt", "classes.txt", "bounding_boxes.txt", "parts/part_locs.txt"]
)
def test_a_text_file_that_is_absent_is_named(
    file: str, birds: Files, fill: Callable[..., Path]
) -> None:
    folder = fill(birds)
    (folder / "CUB_200_2011" / file).unlink()
    with pytest.raises(Refusal, match=f"has no (file )?'{file}'"):
        cub200.build(path=str(folder))


def test_absent_and_offline_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(Refusal) as caught:
        cub200.build()
    assert cub200.ARCHIVE.url in str(caught.value)
    assert str(cache / "downloads" / "CUB_200_2011.tgz") in str(caught.value)
