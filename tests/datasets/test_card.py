"""The data card: its counts are true, its warnings come when they should, its page needs nothing else."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets import figures, pack, shards, store
from datasets.card import card, examples, findings, fingerprints, page
from datasets.card.write import write
from datasets.packed import folds
from datasets.packing import encoded, splits
from datasets.pictures.decode import Undecodable
from datasets.pictures.prepare import Options
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.source import Source
from tests.datasets.photographs import source as photographs
from tests.datasets.test_raw import folder, small

NUM = 60


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return photographs(tmp_path_factory.mktemp("photographs"), NUM)


@pytest.fixture
def photos(files: Source, tmp_path: Path) -> Dataset:
    """Photographs, one of train's also in val under another name, one left out."""
    assert files.pictures is not None
    root = Path(files.pictures.name(0)).parent
    (root / "59.img").write_bytes((root / "0.img").read_bytes())
    (root / "58.img").write_bytes(b"no picture")
    cut = {"train": np.r_[0:40, 58], "val": np.r_[40:58, 59]}
    url = str(tmp_path / "photos")
    encoded.write(
        url,
        files,
        cut,
        name="photos",
        options=Options(tile=False),
        packed={"source": "folder"},
        seed=0,
        leave_out=True,
    )
    return shards.open_dataset(url)


def raw(folder: Path | str, labels: dict[str, list[int]], classes: int = 3) -> Dataset:
    """Small pictures of noise with these labels, their rows in the order that packing gives them."""
    url = str(folder)
    rng, columns, start = np.random.default_rng(0), {}, 0
    for split, of_split in labels.items():
        num = len(of_split)
        columns[split] = {
            "id": np.arange(start, start + num, dtype=np.int64),
            "label": np.array(of_split, np.int64),
            "image": rng.integers(0, 255, (num, 8, 8, 1)).astype(np.uint8),
        }
        start += num
    names = tuple(f"class {n}" for n in range(classes))
    shape = (8, 8, 1)
    shards.write(url, columns, name="noise", kind="image", shape=shape, classes=names, packed={})
    return shards.open_dataset(url)


def test_the_short_card_is_within_the_whole_one(packed: Dataset) -> None:
    short, found = card(packed), findings.whole(packed)
    assert {key: found[key] for key in short} == short
    assert sum(short["counts"]["train"].values()) == short["rows"]["train"] == 1797
    json.dumps(found)


def test_photographs(photos: Dataset) -> None:
    told: list[tuple[int, int]] = []
    found = findings.whole(photos, progress=lambda *done: told.append(done))
    assert found["rows"] == {"train": 40, "val": 19} and told[-1] == (59, 59)
    columns = photos.columns("train")
    heights = np.concatenate([photos.columns(split)["height"] for split in found["rows"]])
    assert found["sizes"]["height"]["min"] == heights.min()
    assert found["sizes"]["height"]["median"] == np.median(heights)
    for of_side in found["sizes"].values():
        assert sum(num for *_, num in of_side["histogram"]) == 59
    (lost,) = found["undecodable"]["left_out"]
    assert "58.img" in lost and found["undecodable"]["met"] == []
    assert found["counts"]["train"] == {
        "down": int((columns["label"] == 0).sum()),
        "right": int((columns["label"] == 1).sum()),
    }
    (leak,) = found["duplicates"]["leaks"]
    assert leak == {"split": "val", "in": "train", "exact": 1, "near": 0, "rows": 19}
    (group,) = found["duplicates"]["exact"]["listed"]
    assert group["splits"] == ["train", "val"] and not group["one_class"]
    assert [member["path"] for member in group["members"]] == ["0.img", "59.img"]
    assert [member["id"] for member in group["members"]] == [0, 590]
    assert found["bytes"]["train"] == sum(
        path.stat().st_size for path in Path(photos.url).glob("train-*.arrow")
    )


def test_the_page_is_whole_and_bounded(photos: Dataset, tmp_path: Path) -> None:
    drawn = write(photos.url, str(tmp_path / "out"), near=6)
    html = Path(drawn.page).read_text()
    assert drawn.page == str(tmp_path / "out" / "card.html")
    sources = re.findall(r'(?:src|href)="([^"]{0,20})', html)
    assert sources and all(source.startswith("data:") for source in sources)
    assert not re.search(r"@import|url\(|<script|https?://", html)
    assert "0.img" in html and "59.img" in html and "58.img" in html
    assert "Leak: 1 of val&#39;s 19 rows (5.3%)" in html
    assert html.count("<img") < 120 and len(html) < 2_000_000
    told = json.loads((tmp_path / "out" / "card.json").read_text())
    assert told == drawn.found
    assert not (Path(photos.url) / "card.html").exists()


def test_an_exact_leak_is_refused_and_a_near_one_is_not(photos: Dataset, tmp_path: Path) -> None:
    drawn = write(photos.url, str(tmp_path), near=6)
    with pytest.raises(Refusal, match="pixel for pixel") as caught:
        drawn.refuse_leaks(photos.url)
    assert "--allow-leaks" in caught.value.remedy and drawn.page in caught.value.remedy
    drawn.found["duplicates"]["leaks"] = [
        {"split": "val", "in": "train", "exact": 0, "near": 3, "rows": 19}
    ]
    drawn.refuse_leaks(photos.url)
    assert page.verdict(drawn.found) == [
        "Perhaps a leak: 3 of val's 19 rows (15.8%) look like pictures of train."
    ]


def test_classes_with_no_or_few_examples_are_named(tmp_path: Path) -> None:
    labels = {"train": [0] * 50 + [1] * 3, "test": [0] * 5 + [2] * 4}
    found = findings.whole(raw(tmp_path / "set", labels, classes=4))
    assert found["balance"]["empty"] == ["class 3"]
    assert found["balance"]["few"] == {"class 1": 3, "class 2": 0}
    assert found["balance"]["absent"] == {"train": ["class 2"], "test": ["class 1"]}
    assert found["balance"]["largest_by_smallest"] == pytest.approx(50 / 3, abs=0.01)
    said = " ".join(page.warnings(found))
    assert "Without any example: class 3." in said
    assert "class 1 (3), class 2 (0)" in said
    assert "Absent from test: class 1." in said


def test_effective_classes_are_those_of_equal_ones() -> None:
    even = findings.balance({"train": {"a": 5, "b": 5, "c": 5}})
    alone = findings.balance({"train": {"a": 5, "b": 0, "c": 0}})
    assert even is not None and even["effective_classes"] == 3
    assert alone is not None and alone["effective_classes"] == 1
    assert findings.balance({}) is None


@pytest.mark.parametrize("seed", range(5))
def test_order_tells_sorted_from_shuffled(seed: int) -> None:
    labels = np.repeat(np.arange(10), 100)
    assert findings.order({"label": labels})["shuffled"] is False
    shuffled = np.random.default_rng(seed).permutation(labels)
    assert findings.order({"label": shuffled})["shuffled"] is True
    assert findings.order({"label": labels[:1]})["shuffled"] is None
    assert findings.order({"label": labels[:50]})["shuffled"] is None, "one class"


def test_a_picture_that_does_not_decode_now_is_named(
    photos: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gray = photos.picture("val", 3)
    real = fingerprints.decode

    def failing(data: Any, channels: Any) -> Any:
        pixels = real(data, channels)
        if np.array_equal(pixels, gray):
            raise Undecodable("cannot be decoded: cut")
        return pixels

    monkeypatch.setattr(fingerprints, "decode", failing)
    drawn = write(photos.url, str(tmp_path), near=6)
    (one,) = drawn.found["undecodable"]["met"]
    assert one["split"] == "val" and one["row"] == 3
    assert one["path"] == photos.columns("val")["path"][3]
    assert one["reason"] == "cannot be decoded: cut"
    assert "cannot be decoded: cut" in Path(drawn.page).read_text()
    assert any("stop a run: 1" in line for line in page.warnings(drawn.found))


def test_a_table_and_one_split_have_cards_too(
    table: Dataset, files: Source, tmp_path: Path
) -> None:
    drawn = write(table.url, near=6)
    assert drawn.found["duplicates"] is None and "A table" in drawn.verdict
    assert "squares" in (Path(table.url) / "card.html").read_text()
    assert shards.open_dataset(table.url).columns("train")["x"].shape == (10,)
    alone = raw(tmp_path / "alone", {"train": [0, 1, 2]})
    assert "one split" in write(alone.url, near=6).verdict


def test_names_from_the_data_are_escaped(tmp_path: Path) -> None:
    columns = {
        "id": np.arange(2, dtype=np.int64),
        "label": np.array([0, 1], np.int64),
        "image": np.zeros((2, 8, 8, 1), np.uint8),
    }
    url = str(tmp_path / "set")
    names = ("<script>alert(1)</script>", "b")
    shards.write(
        url,
        {"train": columns},
        name="<b>x",
        kind="image",
        shape=(8, 8, 1),
        classes=names,
        packed={},
    )
    html = Path(write(url, near=6).page).read_text()
    assert "<script" not in html and "<b>x" not in html and "&lt;script&gt;" in html


def test_stratified_digits_have_no_warnings(source: Source, tmp_path: Path) -> None:
    cut = splits.stratified(source.columns["label"], {"val": 0.2}, 0)
    columns = {
        split: {name: values[rows] for name, values in source.columns.items()}
        for split, rows in cut.items()
    }
    shards.write(
        str(tmp_path / "set"),
        columns,
        name="digits",
        kind="image",
        shape=source.shape,
        classes=source.classes,
        packed={},
    )
    found = findings.whole(shards.open_dataset(str(tmp_path / "set")))
    assert page.warnings(found) == []
    assert page.verdict(found)[0].startswith("No picture is in two splits.")


def test_a_remote_set_has_its_card_beside_it(bucket: str) -> None:
    dataset = raw(f"{bucket}/set", {"train": [0, 1], "test": [2]})
    drawn = write(dataset.url, near=6)
    assert drawn.page == f"{bucket}/set/card.html"
    assert b"No picture is in two splits" in store.read_bytes(drawn.page)


def test_a_card_of_folds_counts_what_is_left_to_learn_from(tmp_path: Path) -> None:
    root = folder(tmp_path / "photos", [small(n, (96, 80)) for n in range(40)])
    options: dict[str, Any] = {"folds": 4, "extras": ("mirror", "rotate:30"), "seed": 0}
    pack.pack("imagefolder", {"path": str(root)}, str(tmp_path / "set"), splits={}, **options)
    found = findings.whole(shards.open_dataset(str(tmp_path / "set")))
    assert found["balance"]["few"] == {}, "15 of each class remain, and not the 5 of a fold"
    assert found["balance"]["largest_by_smallest"] == 1
    told = {tile.label: tile.more for tile in page.tiles(found)}
    assert told["Rows"] == "4 folds 40, their altered copies 80"
    assert not any(
        leak["split"].endswith("extra") and leak["in"].endswith("extra")
        for leak in found["duplicates"]["leaks"]
    )


@pytest.mark.parametrize(
    ("one", "two", "meets"),
    [
        ("train", "val", True),
        ("fold-0", "fold-1", True),
        ("fold-0", "fold-1-extra", True),
        ("test", "fold-1-extra", True),
        ("fold-1", "fold-1-extra", False),
        ("fold-0-extra", "fold-1-extra", False),
    ],
)
def test_which_splits_judge_each_other(one: str, two: str, meets: bool) -> None:
    assert folds.meet(one, two) == folds.meet(two, one) == meets


@pytest.mark.parametrize("size", [(1, 1), (9, 1), (1, 9)])
def test_a_line_of_pixels_is_a_picture(size: tuple[int, int], tmp_path: Path) -> None:
    pictures = []
    for number in range(4):
        file = io.BytesIO()
        Image.new("RGB", size, (60 * number, 9, 99)).save(file, "PNG")
        pictures.append(file.getvalue())
    root = folder(tmp_path / "photos", pictures)
    pack.pack("imagefolder", {"path": str(root)}, str(tmp_path / "set"), splits={}, seed=0)
    drawing = examples(shards.open_dataset(str(tmp_path / "set")))
    assert drawing is not None
    shown = drawing.axes[0].get_images()[0].get_array()
    assert shown is not None and shown.shape == (size[1], size[0], 3)
    assert len(figures.png(drawing)) > 100
