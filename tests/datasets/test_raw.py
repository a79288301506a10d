"""Pictures in files stored as pixels: asked for, or because all have one small size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import pack, shards
from datasets.packed.manifest import Manifest
from datasets.packing import raw
from datasets.pictures.decode import decode
from datasets.pictures.prepare import Options
from datasets.refusal import Refusal
from tests.datasets.photographs import encoded

FRACTIONS = {"val": 0.2}


def folder(root: Path, pictures: list[bytes]) -> Path:
    for number, data in enumerate(pictures):
        place = root / f"class {number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.{'png' if data[:4] == bytes([137]) + b'PNG' else 'jpg'}").write_bytes(
            data
        )
    return root


def small(number: int, size: tuple[int, int] = (48, 40), kind: str = "JPEG") -> bytes:
    """A picture `size` pixels wide and high."""
    rng, file = np.random.default_rng(number), io.BytesIO()
    pixels = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    Image.fromarray(pixels).resize(size).save(file, kind)
    return file.getvalue()


def packed(root: Path, url: Path, **options: object) -> Manifest:
    given: dict[str, object] = {"splits": FRACTIONS, "seed": 0, "workers": 2, **options}
    return pack.pack("imagefolder", {"path": str(root)}, str(url), **given)  # type: ignore[arg-type]


def pixels(url: Path) -> dict[str, np.ndarray]:
    """path -> its picture as it is stored."""
    dataset = shards.open_dataset(str(url))
    return {
        path: image
        for split in dataset.manifest.splits
        for path, image in zip(*(dataset.columns(split)[n] for n in ("path", "image")), strict=True)
    }


def test_small_pictures_of_one_size_are_taken_as_they_are(tmp_path: Path) -> None:
    root = folder(tmp_path / "p", [small(n, kind=("JPEG", "PNG")[n % 3 == 0]) for n in range(30)])
    manifest = packed(root, tmp_path / "set")
    assert manifest.codec == "raw" and manifest.shape == (40, 48, 3)
    assert manifest.packed["pictures"] == {
        "raw": [40, 48],
        "made": "as they are: all have this size",
    }
    for path, image in pixels(tmp_path / "set").items():
        assert np.array_equal(image, decode((root / path).read_bytes()))
    every = np.stack([*pixels(tmp_path / "set").values()])
    assert every.shape == (30, 40, 48, 3)
    files = packed(root, tmp_path / "files", raw=0)
    assert files.codec == "encoded"


@pytest.mark.parametrize("odd", [0, 29])
def test_one_picture_of_another_size_keeps_all_in_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: int
) -> None:
    monkeypatch.setattr(raw, "SAMPLE", 3)  # the odd one is met only when it is decoded
    root = folder(tmp_path / "p", [small(n, (40 + 8 * (n == odd), 40)) for n in range(30)])
    assert packed(root, tmp_path / "set").codec == "encoded"
    large = folder(tmp_path / "q", [small(n, (72, 72)) for n in range(30)])
    assert packed(large, tmp_path / "large").codec == "encoded"


def test_pictures_of_many_sizes_are_cut_and_resized(tmp_path: Path) -> None:
    root = folder(tmp_path / "p", [encoded(row) for row in range(40)])
    manifest = packed(root, tmp_path / "set", raw=24)
    assert manifest.codec == "raw" and manifest.shape == (24, 24, 3)
    for path, image in pixels(tmp_path / "set").items():
        whole = decode((root / path).read_bytes())
        height, width = whole.shape[:2]
        side = min(height, width)
        top, left = (height - side) / 2, (width - side) / 2
        expected = Image.fromarray(whole).resize(
            (24, 24), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
        )
        assert np.array_equal(image, np.asarray(expected))


def test_threads_do_not_change_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "p", [encoded(row) for row in range(40)])
    one = packed(root, tmp_path / "one", raw=16, workers=1)
    monkeypatch.setattr(raw, "CHUNK", 7)
    monkeypatch.setattr("datasets.packing.writing.BATCH_BYTES", 3000)
    many = packed(root, tmp_path / "many", raw=16, workers=3)
    assert many.digest == one.digest
    assert len(many.splits["train"].shards[0].batches) > len(one.splits["train"].shards[0].batches)


def test_what_does_not_decode_is_named_or_left_out(tmp_path: Path) -> None:
    broken = b"\xff\xd8 no picture"
    root = folder(tmp_path / "p", [broken if n in (7, 9) else small(n) for n in range(30)])
    for options in ({"raw": 16}, {}):
        with pytest.raises(Refusal, match=r"7.jpg|9.jpg") as caught:
            packed(root, tmp_path / "set", **options)
        assert "--leave-out" in caught.value.remedy
    manifest = packed(root, tmp_path / "set", leave_out=True)
    assert manifest.codec == "raw" and sum(s.rows for s in manifest.splits.values()) == 28
    assert len(manifest.packed["left_out"]) == 2  # type: ignore[arg-type]
    assert not {"class 1/7.jpg", "class 1/9.jpg"} & set(pixels(tmp_path / "set"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"raw": 2}, "4 .. 1024"),
        ({"raw": 16, "options": Options(longest=32)}, "neither tiled nor reduced"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, options: dict[str, object], words: str
) -> None:
    root = folder(tmp_path / "p", [small(n) for n in range(10)])
    with pytest.raises(Refusal, match=words):
        packed(root, tmp_path / "set", **options)
    with pytest.raises(Refusal, match="no pictures in files"):
        pack.pack("digits", {}, str(tmp_path / "d"), splits={}, seed=0, raw=16)


def test_a_set_too_large_to_be_held_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.order.WHOLE_BYTES", 10_000)
    root = folder(tmp_path / "p", [small(n) for n in range(30)])
    with pytest.raises(Refusal, match="GiB that raw sets are held in"):
        packed(root, tmp_path / "set", raw=32)
