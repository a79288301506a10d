"""Pictures in files are packed whole, restartably, in any number of processes; what is read back is what was given."""

from __future__ import annotations

import json
import os
import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest

from datasets import shards, store
from datasets.packed.manifest import Manifest
from datasets.packed.records import Ragged
from datasets.packing import encoded, splits
from datasets.pictures import prepare
from datasets.pictures.decode import decode
from datasets.pictures.prepare import Options
from datasets.refusal import Refusal
from datasets.source import Source
from tests.datasets.photographs import source as photographs

NUM = 150


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return photographs(tmp_path_factory.mktemp("photographs"), NUM)


def pack(source: Source, url: Path | str, **changes: object) -> Manifest:
    cut = splits.stratified(source.columns["label"], {"val": 0.2}, 0)
    given: dict[str, object] = {"options": Options(tile=False), "seed": 0, "packed": {}, **changes}
    return encoded.write(str(url), source, cut, name="photographs", **given)  # type: ignore[arg-type]


def rows(url: Path, split: str) -> dict[int, tuple[bytes, dict[str, np.ndarray]]]:
    """id -> (the picture's bytes, its other columns)."""
    shelf, found = shards.open_dataset(str(url)).shelf(split), {}
    for number in range(len(shelf)):
        columns = shelf.open(number)
        pictures = columns["image"]
        assert isinstance(pictures, Ragged)
        for row, own in enumerate(columns["id"].tolist()):
            small = {n: columns[n][row] for n in columns if n != "image"}
            found[own] = (pictures[row].tobytes(), small)
    return found


def test_files_are_kept_as_they_are(source: Source, tmp_path: Path) -> None:
    manifest = pack(source, tmp_path / "set")
    assert manifest.codec == "encoded" and manifest.shape == (0, 0, 3)
    assert {n: s.rows for n, s in manifest.splits.items()} == {"train": 120, "val": 30}
    found = rows(tmp_path / "set", "train") | rows(tmp_path / "set", "val")
    assert sorted(found) == [row * 10 for row in range(NUM)]
    assert source.pictures is not None
    for own, (data, columns) in found.items():
        row = own // 10
        assert data == source.pictures.read(row)
        assert columns["label"] == row % 2 and columns["path"] == f"{row}.img"
        assert columns["box"].tolist() == [row, row + 1, row + 2, row + 3]
        assert decode(data).shape[:2] == (columns["height"], columns["width"])


@pytest.mark.skipif(prepare.jpegtran() is None, reason="jpegtran (libjpeg-turbo-progs) is missing")
def test_tiling_is_lossless(source: Source, tmp_path: Path) -> None:
    pack(source, tmp_path / "set", options=Options(tile=True))
    assert source.pictures is not None
    tiled = 0
    for own, (data, columns) in rows(tmp_path / "set", "train").items():
        plain = source.pictures.read(own // 10)
        assert np.array_equal(decode(data), decode(plain))
        tiled += len(columns["tiles"]) > 0
    assert tiled > 60, "all but PNGs"


def test_reduced_pictures_are_tiled_jpegs(source: Source, tmp_path: Path) -> None:
    manifest = pack(source, tmp_path / "set", options=Options(longest=32))
    assert manifest.packed["pictures"]["longest"] == 32  # type: ignore[index,call-overload]
    for data, columns in rows(tmp_path / "set", "train").values():
        assert max(columns["height"], columns["width"]) == 32
        assert data[:2] == b"\xff\xd8" and len(columns["tiles"]) > 4


def test_threads_and_shards_do_not_change_the_digest(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = pack(source, tmp_path / "one")
    monkeypatch.setattr("datasets.packing.writing.SMALL_SHARD_BYTES", 100_000)
    told: list[tuple[int, int]] = []
    many = pack(source, tmp_path / "many", workers=3, progress=lambda *done: told.append(done))
    assert len(many.splits["train"].shards) > 1 == len(one.splits["train"].shards)
    assert many.digest == one.digest
    assert told[-1] == (NUM, NUM)
    assert pack(source, tmp_path / "other", seed=1).digest != one.digest, "another order of rows"


def test_an_interrupted_pack_goes_on(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.packing.writing.SMALL_SHARD_BYTES", 100_000)
    whole = pack(source, tmp_path / "whole")
    url, ran = tmp_path / "set", []
    run = encoded.Packing.run

    def failing(self: encoded.Packing, job: encoded.Job) -> dict[str, object]:
        ran.append(job.path)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return run(self, job)

    monkeypatch.setattr(encoded.Packing, "run", failing)
    with pytest.raises(KeyboardInterrupt):
        pack(source, url)
    assert not (url / "manifest.json").exists(), "no manifest, no data set"
    assert pack(source, url).digest == whole.digest
    assert ran.count(ran[0]) == 1, "the first shard was not packed again"
    assert not [p for p in url.iterdir() if p.name.startswith(".tmp")], "notes are removed"


def test_a_picture_that_does_not_decode_is_named(tmp_path: Path) -> None:
    broken = photographs(tmp_path / "photographs", 40)
    (tmp_path / "photographs" / "7.img").write_bytes(b"\xff\xd8 no picture")
    (tmp_path / "photographs" / "9.img").write_bytes(b"")
    with pytest.raises(Refusal, match="7.img|9.img") as caught:
        pack(broken, tmp_path / "set")
    assert "--leave-out" in caught.value.remedy
    manifest = pack(broken, tmp_path / "set", leave_out=True)
    left_out = manifest.packed["left_out"]
    assert isinstance(left_out, list)
    assert sorted(str(line).split(": ")[0][-5:] for line in left_out) == ["7.img", "9.img"]
    assert sum(split.rows for split in manifest.splits.values()) == 38
    json.dumps(manifest.packed)


def test_moments_are_those_of_the_train_split(source: Source, tmp_path: Path) -> None:
    manifest = pack(source, tmp_path / "set")
    pixels = [
        decode(data)[::4, ::4].reshape(-1, 3)
        for data, _ in rows(tmp_path / "set", "train").values()
    ]
    every = np.concatenate(pixels) / 255
    assert manifest.mean == pytest.approx(every.mean(0)) and manifest.std == pytest.approx(
        every.std(0)
    )


@pytest.mark.parametrize(
    "options", [{"longest": 4}, {"shorter": 10**6}, {"quality": 0}, {"longest": 99, "shorter": 99}]
)
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(Refusal):
        Options(**options)  # type: ignore[arg-type]


def test_labels_are_read_without_a_picture(source: Source, tmp_path: Path) -> None:
    manifest = pack(source, tmp_path / "set")
    for shard in manifest.splits["train"].shards:
        (tmp_path / "set" / shard.path).unlink()
    columns = shards.open_dataset(str(tmp_path / "set")).columns("train")
    assert sorted(columns) == ["box", "height", "id", "label", "path", "width"]
    assert np.array_equal(columns["label"], columns["id"] // 10 % 2)
    assert columns["path"].tolist() == [f"{own // 10}.img" for own in columns["id"].tolist()]


def test_an_index_that_lies_is_refused(source: Source, tmp_path: Path) -> None:
    pack(source, tmp_path / "set")
    path = tmp_path / "set" / "manifest.json"
    tree = json.loads(path.read_bytes())
    index = tree["splits"]["train"]["index"]
    index["rows"] -= 1
    index["batches"][0]["rows"] -= 1
    path.write_text(json.dumps(tree))
    with pytest.raises(Refusal, match="says 120 rows, its index 119"):
        shards.open_dataset(str(tmp_path / "set"))


def test_unchecked_pictures_are_stored_as_they_are(tmp_path: Path) -> None:
    source = photographs(tmp_path / "files", 40)
    splits = {"train": np.arange(40)}
    options = Options(checked=False)
    found = encoded.write(
        str(tmp_path / "set"), source, splits, name="p", options=options, packed={}, seed=0
    )
    checked = encoded.write(
        str(tmp_path / "checked"),
        source,
        splits,
        name="p",
        options=Options(tile=False),
        packed={},
        seed=0,
    )
    one, two = (shards.open_dataset(str(tmp_path / name)) for name in ("set", "checked"))
    for name, values in one.columns("train").items():
        assert np.array_equal(values, two.columns("train")[name]), name
    assert found.splits["train"].content == checked.splits["train"].content
    assert np.abs(np.subtract(found.mean, checked.mean)).max() < 0.1 and found.mean != checked.mean
    with pytest.raises(Refusal, match="unchecked"):
        Options(tile=True, checked=False)
    Path(tmp_path, "files", "7.img").write_bytes(b"no picture")
    with pytest.raises(Refusal, match="7.img"):  # what has not even a header is found all the same
        encoded.write(
            str(tmp_path / "none"), source, splits, name="p", options=options, packed={}, seed=0
        )


@pytest.mark.parametrize("remote", [False, True])
def test_a_full_disk_is_one_refusal_and_leaves_no_set(
    remote: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A limit on the size of files stands for the full disk: the same call fails, with another number."""
    source = photographs(tmp_path / "photographs", 40)
    target = f"{request.getfixturevalue('bucket')}/set" if remote else str(tmp_path / "set")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with pytest.raises(Refusal, match="cannot be written: File too large") as caught:
            pack(source, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.path in (f"{target}/train-00000.arrow", tempfile.gettempdir())
    assert not store.exists(f"{target}/manifest.json")
    pack(source, target)
    if not remote:
        assert not [name for name in os.listdir(target) if name.startswith(store.TEMPORARY)]


@pytest.mark.parametrize("url", ["", " ", "https://host/set"])
def test_no_place_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="place"):
        pack(photographs(tmp_path / "photographs", 4), url)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    source = photographs(tmp_path / "photographs", 4)
    with pytest.raises(Refusal, match="holds other things"):
        pack(source, tmp_path)
    assert os.listdir(tmp_path) == ["photographs"]
