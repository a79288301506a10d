"""Duplicates: what is the same picture is found however it is stored; what only resembles it is not."""

from __future__ import annotations

import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from datasets import shards
from datasets.card import duplicates, fingerprints
from datasets.card.duplicates import Group, Leak
from datasets.packing import encoded
from datasets.pictures import likeness
from datasets.pictures.prepare import Options
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.source import Source
from tests.datasets.photographs import Folder


def scene(seed: int, height: int = 120, width: int = 160) -> Image.Image:
    """Blobs of colour on a slope: low frequencies, as photographs have them."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def stored(image: Image.Image, kind: str = "JPEG", quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, quality=quality)
    return file.getvalue()


def pack(root: Path, splits: dict[str, list[bytes]], labels: int = 2) -> Dataset:
    """Files as an encoded set; the id of a picture is its place among all."""
    files = [data for of_split in splits.values() for data in of_split]
    (root / "files").mkdir(parents=True)
    for row, data in enumerate(files):
        (root / "files" / f"{row}.img").write_bytes(data)
    ids = np.arange(len(files), dtype=np.int64)
    source = Source(
        name="scenes",
        kind="image",
        shape=(0, 0, 3),
        pictures=Folder(str(root / "files"), len(files)),
        classes=tuple("abcdefgh"[:labels]),
        columns={"id": ids, "label": ids % labels},
    )
    ends = np.cumsum([len(of_split) for of_split in splits.values()])
    cut = dict(zip(splits, np.split(ids, ends[:-1]), strict=True))
    url = str(root / "set")
    encoded.write(url, source, cut, name="scenes", options=Options(tile=False), packed={}, seed=0)
    return shards.open_dataset(url)


def ids(dataset: Dataset, group: Group) -> list[int]:
    return sorted(int(dataset.columns(split)["id"][row]) for split, row in group.members)


def found(dataset: Dataset, kind: str, near: int = duplicates.NEAR) -> list[list[int]]:
    groups = duplicates.find(fingerprints.take(dataset), near=near).groups
    return sorted(ids(dataset, group) for group in groups if group.kind == kind)


def test_exact_copies_are_found_however_they_are_stored(tmp_path: Path) -> None:
    first = stored(scene(0))
    decoded = Image.open(io.BytesIO(first)).convert("RGB")
    train = [first, stored(scene(1)), stored(scene(2), "PNG"), stored(scene(1))]
    dataset = pack(
        tmp_path,
        {"train": train, "test": [stored(scene(3)), stored(scene(2), "BMP")]},
    )
    assert found(dataset, "exact") == [[1, 3], [2, 5]]
    assert found(dataset, "near") == []
    prints = fingerprints.take(dataset)
    result = duplicates.find(prints)
    assert result.leaks == [Leak("test", "train", exact=1, near=0)]
    assert [group.leaks for group in result.groups] == [True, False], "leaks come first"
    assert result.compared == 4 and len(prints) == 6
    again = pack(tmp_path / "again", {"train": [first, stored(decoded, "PNG")]})
    assert len(found(again, "exact")) == (1 if _same_decoder(first, decoded) else 0)


def _same_decoder(data: bytes, pixels: Image.Image) -> bool:
    from datasets.pictures.decode import decode

    return np.array_equal(decode(data), np.asarray(pixels))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda image: stored(image, quality=40), True),
        (lambda image: stored(image.resize((90, 70))), True),
        (lambda image: stored(image.resize((400, 300)), "PNG"), True),
        (lambda image: stored(ImageEnhance.Brightness(image).enhance(0.7)), True),
        (lambda image: stored(ImageEnhance.Contrast(image).enhance(0.8)), True),
        (lambda image: stored(image.convert("L")), True),
        (lambda image: stored(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), False),
        (lambda image: stored(image.rotate(90, expand=True)), False),
        (lambda image: stored(image.crop((30, 20, 130, 100))), False),
        (lambda image: stored(image.resize((20, 15))), False),
    ],
    ids=[
        "quality",
        "smaller",
        "larger",
        "darker",
        "duller",
        "gray",
        "flip",
        "turn",
        "crop",
        "tiny",
    ],
)
def test_near_copies(change: object, same: bool, tmp_path: Path) -> None:
    assert callable(change)
    num = 12
    originals = [stored(scene(seed)) for seed in range(num)]
    changed = [change(scene(seed)) for seed in range(num)]
    dataset = pack(tmp_path, {"train": originals, "val": changed})
    assert found(dataset, "exact") == []
    wanted = [[seed, num + seed] for seed in range(num)] if same else []
    assert found(dataset, "near") == wanted
    leaks = duplicates.find(fingerprints.take(dataset)).leaks
    assert leaks == ([Leak("val", "train", exact=0, near=num)] if same else [])


def test_a_near_leak_beside_an_exact_one_is_counted_once(tmp_path: Path) -> None:
    one, worse = stored(scene(0)), stored(scene(0), quality=30)
    dataset = pack(tmp_path, {"train": [one, stored(scene(1)), worse], "test": [one]})
    assert duplicates.find(fingerprints.take(dataset)).leaks == [Leak("test", "train", 1, 0)]
    assert found(dataset, "exact") == [[0, 3]]
    assert found(dataset, "near") == [[0, 2, 3]], "a near group has all rows of its pictures"


def test_plain_pictures_are_not_alike(tmp_path: Path) -> None:
    plain = [
        stored(Image.new("RGB", (64 + seed, 64), (seed * 9, 0, 0)), "PNG") for seed in range(9)
    ]
    slope = np.tile(np.linspace(0, 200, 64).astype(np.uint8)[:, None, None], (1, 80, 3))
    slopes = [stored(Image.fromarray(slope + np.uint8(add)), "PNG") for add in range(3)]
    dataset = pack(tmp_path, {"train": plain, "val": slopes})
    assert found(dataset, "near") == []
    assert duplicates.find(fingerprints.take(dataset)).compared == 0


def test_small_raw_pictures_are_compared_exactly_alone(packed: Dataset) -> None:
    prints = fingerprints.take(packed, threads=3)
    result = duplicates.find(prints)
    assert result.compared == 0, "8 x 8"
    assert result.leaks == [Leak("test", "train", exact=100, near=0)]
    assert {group.kind for group in result.groups} == {"exact"}
    assert all(group.splits == ("train", "test") for group in result.groups)
    assert len(result.groups) == 100


def test_what_does_not_decode_is_named_and_left_aside(tmp_path: Path) -> None:
    dataset = pack(tmp_path, {"train": [stored(scene(seed)) for seed in range(4)]})
    # Packing lets nothing through that does not decode, so the decoder is made to fail.
    real = fingerprints.decode
    one = {"left": True}

    def failing(data: object, channels: object) -> object:
        if one.pop("left", False):
            raise fingerprints.Undecodable("cannot be decoded: cut")
        return real(data, channels)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprints, "decode", failing)
        prints = fingerprints.take(dataset, threads=1)
    assert prints.undecodable == [("train", 0, "cannot be decoded: cut")]
    assert prints.place.tolist() == [[0, 1], [0, 2], [0, 3]]


def test_threads_do_not_change_what_is_found_and_progress_is_told(packed: Dataset) -> None:
    told: list[tuple[int, int]] = []
    one = fingerprints.take(packed, threads=1, progress=lambda *done: told.append(done))
    many = fingerprints.take(packed, threads=4)
    assert np.array_equal(one.pixels, many.pixels) and np.array_equal(one.place, many.place)
    assert told[-1] == (1897, 1897)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    num=st.integers(0, 60),
    near=st.integers(0, duplicates.MOST_NEAR),
    flipped=st.lists(st.integers(0, 63), max_size=20),
)
def test_close_pairs_are_those_of_brute_force(
    seed: int, num: int, near: int, flipped: list[int]
) -> None:
    hashes = np.random.default_rng(seed).integers(0, 2**64, num, dtype=np.uint64)
    if num:
        # A chain of neighbours, so that there is something to find.
        chain = np.bitwise_xor.accumulate(
            np.array([hashes[0], *(np.uint64(1) << np.uint64(bit) for bit in flipped)], np.uint64)
        )
        hashes = np.concatenate([hashes, chain])
    slow = {
        (i, j)
        for i, j in combinations(range(len(hashes)), 2)
        if int(hashes[i] ^ hashes[j]).bit_count() <= near
    }
    pairs = duplicates.close_pairs(hashes, near)
    assert {(i, j) for i, j in pairs.tolist()} == slow and len(pairs) == len(slow)


def test_more_pairs_than_can_be_told_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 100)
    with pytest.raises(Refusal, match="smaller --near"):
        duplicates.close_pairs(np.zeros(50, np.uint64), 2)


@pytest.mark.parametrize("near", [-1, 17])
def test_a_measure_out_of_range_is_refused(near: int, packed: Dataset) -> None:
    with pytest.raises(Refusal, match="--near"):
        duplicates.find(fingerprints.take(packed), near=near)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.integers(-30, 30), scale=st.floats(0.6, 1.0))
def test_hashes_and_copies_forget_brightness_and_contrast(
    seed: int, shift: int, scale: float
) -> None:
    rough = np.random.default_rng(seed).integers(0, 255, (12, 12)).astype(np.uint8)
    large = Image.fromarray(rough).resize((32, 32), Image.Resampling.BICUBIC)
    gray: NDArray[np.float64] = np.asarray(large, np.float64)
    middle = 60 + gray * 0.5  # far from black and white, where nothing is cut off
    both = np.stack([middle, middle * scale + shift]).clip(0, 255).round().astype(np.uint8)
    looks, telling = likeness.hashes(both)
    small = likeness.copies(both)
    assert telling.all()
    assert int(looks[0] ^ looks[1]).bit_count() <= duplicates.NEAR
    assert likeness.alike(small[:1], small[1:]).all()
