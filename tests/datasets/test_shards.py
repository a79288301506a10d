"""What is packed is read back; whatever lies, is cut, missing or altered is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from datasets import shards, store
from datasets.packed import manifest as manifests
from datasets.packing import writing
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.source import Source


def edit(dataset: Dataset, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes manifest.json and makes its digest agree, so that only its shards contradict it."""
    path = Path(dataset.url, manifests.NAME)
    found = json.loads(path.read_bytes())
    change(found)
    splits = {
        name: shards.Split(split["rows"], split["content"], ())
        for name, split in found["splits"].items()
    }
    fields = ("kind", "codec", "shape", "columns", "classes")
    found["digest"] = manifests.digest(
        *(found[name] for name in fields), splits, found["mean"], found["std"]
    )
    path.write_text(json.dumps(found))


def refusal(dataset: Dataset, split: str = "train") -> Refusal:
    with pytest.raises(Refusal) as caught:
        shards.open_dataset(dataset.url).columns(split)
    assert "\n" not in str(caught.value) and caught.value.remedy
    return caught.value


def test_rows_are_read_back_byte_for_byte(packed: Dataset, source: Source) -> None:
    columns = packed.columns("train")
    back = np.argsort(columns["id"])
    for name, values in source.columns.items():
        assert np.array_equal(columns[name][back], values)
        assert columns[name].dtype == values.dtype
    assert columns["image"].shape == (1797, 8, 8, 1)
    assert not columns["image"].flags.writeable
    assert np.any(columns["id"] != source.columns["id"])  # shuffled when packed


def test_a_single_record_batch_is_not_copied(packed: Dataset) -> None:
    image = packed.columns("test")["image"]
    assert image.base is not None and not image.flags.owndata
    assert packed.columns("test")["image"] is image


def test_mean_and_deviation_are_those_of_the_train_split(packed: Dataset, source: Source) -> None:
    pixels = source.columns["image"] / 255
    assert packed.manifest.mean == pytest.approx([pixels.mean()])
    assert packed.manifest.std == pytest.approx([pixels.std()])


def test_shards_are_ordinary_arrow_files(packed: Dataset) -> None:
    path = Path(packed.url, packed.manifest.splits["train"].shards[0].path)
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    assert table.num_rows == 1797
    assert table.schema.field("image").type == pa.binary(64)
    assert np.array_equal(table["id"].to_numpy(), packed.columns("train")["id"])


def test_shards_and_record_batches_keep_their_sizes(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "SMALL_SHARD_BYTES", 40_000)
    monkeypatch.setattr(writing, "BATCH_ROWS", 100)
    manifest = write(tmp_path, source)
    found = manifest.splits["train"].shards
    assert len(found) > 3 and max(shard.bytes for shard in found) < 42_000
    assert max(batch.rows for shard in found for batch in shard.batches) == 100
    columns = shards.open_dataset(str(tmp_path / "x")).columns("train")
    assert sorted(columns["id"]) == list(range(1797))


def write(folder: Path, source: Source, seed: int = 0, **changes: Any) -> shards.Manifest:
    arguments: dict[str, Any] = {
        "name": "digits",
        "kind": "image",
        "shape": source.shape,
        "classes": source.classes,
        "packed": {},
        "seed": seed,
        **changes,
    }
    return shards.write(str(folder / "x"), {"train": source.columns}, **arguments)


def test_the_digest_is_that_of_the_content(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c", "d", "e"):
        (tmp_path / name).mkdir()
    first = write(tmp_path / "a", source).digest
    assert write(tmp_path / "b", source, name="other", packed={"host": "elsewhere"}).digest == first
    assert write(tmp_path / "c", source, seed=1).digest != first
    assert write(tmp_path / "d", source, classes=tuple("abcdefghij")).digest != first
    monkeypatch.setattr(writing, "BATCH_ROWS", 10)
    assert write(tmp_path / "e", source).digest == first


def test_nothing_is_packed_over_a_packed_set(tmp_path: Path, source: Source) -> None:
    write(tmp_path, source)
    with pytest.raises(Refusal, match="a packed data set here already"):
        write(tmp_path, source)


def test_an_interrupted_pack_is_not_a_data_set(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "write_bytes", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, source)
    with pytest.raises(Refusal, match="no manifest.json.*run launch.py pack"):
        shards.open_dataset(str(tmp_path / "x"))


def test_an_unknown_split_names_the_nearest(packed: Dataset) -> None:
    with pytest.raises(Refusal, match="no split 'trian'.*'train'"):
        packed.columns("trian")


def shard_path(dataset: Dataset) -> Path:
    return Path(dataset.url, dataset.manifest.splits["train"].shards[0].path)


def test_a_missing_shard_is_named(packed: Dataset) -> None:
    path = shard_path(packed)
    path.unlink()
    found = str(refusal(packed))
    assert str(path) in found and "missing" in found
    assert str(packed.manifest.splits["train"].shards[0].bytes) in found


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_cut_shard_is_named_with_both_sizes(packed: Dataset, keep: int) -> None:
    path = shard_path(packed)
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    found = str(refusal(packed))
    assert str(path) in found and str(len(whole)) in found and str(len(whole[:keep])) in found


def test_a_flipped_byte_is_named_with_both_checksums(packed: Dataset) -> None:
    path = shard_path(packed)
    batch = packed.manifest.splits["train"].shards[0].batches[1]
    data = bytearray(path.read_bytes())
    data[batch.offset + batch.length // 2] ^= 1
    path.write_bytes(bytes(data))
    found = str(refusal(packed))
    assert str(path) in found and "record batch 1" in found
    assert f"expected {batch.checksum}" in found
    shards.open_dataset(packed.url).columns("test")  # the other split is sound


def test_a_flipped_byte_anywhere_is_refused_or_harmless(packed: Dataset) -> None:
    """Of the header, the padding and the footer too: never another error, never other data."""
    path = shard_path(packed)
    whole, expected = path.read_bytes(), packed.columns("train")["image"].copy()
    batches = packed.manifest.splits["train"].shards[0].batches
    outside = [
        *range(batches[0].offset),
        *range(batches[-1].offset + batches[-1].length, len(whole)),
    ]
    for place in outside[::7]:
        data = bytearray(whole)
        data[place] ^= 0x41
        path.write_bytes(bytes(data))
        try:
            found = shards.open_dataset(packed.url).columns("train")["image"]
        except Refusal as caught:
            assert str(path) in str(caught)
        else:
            assert np.array_equal(found, expected)


def first_shard(found: dict[str, Any]) -> dict[str, Any]:
    shard: dict[str, Any] = found["splits"]["train"]["shards"][0]
    return shard


def fewer_rows(found: dict[str, Any]) -> None:
    """A lie that adds up: one row less in batch, shard and split."""
    shard = first_shard(found)
    for record in (shard["batches"][0], shard, found["splits"]["train"]):
        record["rows"] -= 1


def fewer_batches(found: dict[str, Any]) -> None:
    shard = first_shard(found)
    rows = shard["batches"].pop()["rows"]
    shard["rows"] -= rows
    found["splits"]["train"]["rows"] -= rows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (fewer_rows, "holds 1024 rows in record batch 0, the manifest promises 1023"),
        (fewer_batches, "holds 2 record batches, the manifest promises 1"),
        (lambda found: found.update(classes=found["classes"][:9]), "labels 0 .. 9.*9 classes"),
        (lambda found: found["columns"].pop("label"), "columns .*label.* promises"),
        (lambda found: found.update(shape=[8, 7, 1]), "fixed_size_binary.64.*binary.56"),
        (lambda found: first_shard(found)["batches"][0].update(offset=232), "checksum"),
    ],
)
def test_a_manifest_that_lies_about_its_shards(
    packed: Dataset, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    edit(packed, change)
    found = refusal(packed)
    assert str(shard_path(packed)) == found.path
    assert re.search(words, str(found))


def test_a_remote_set_is_fetched_once(
    bucket: str, tmp_path: Path, source: Source, cache: Path, packed: Dataset
) -> None:
    url = f"{bucket}/digits"
    store.upload(packed.url, url)
    expected = packed.columns("train")["image"]
    assert np.array_equal(shards.open_dataset(url).columns("train")["image"], expected)
    cached = [*(cache / "batches").glob("*.batch")]
    assert len(cached) == len(packed.manifest.splits["train"].shards[0].batches)
    store.remove(f"{url}/train-00000.arrow")
    assert np.array_equal(shards.open_dataset(url).columns("train")["image"], expected)
    cached[0].unlink()
    with pytest.raises(Refusal, match="shard is missing") as caught:
        shards.open_dataset(url).columns("train")
    assert caught.value.path == f"{url}/train-00000.arrow"


def test_a_damaged_cached_batch_is_fetched_again(bucket: str, packed: Dataset, cache: Path) -> None:
    url = f"{bucket}/digits"
    store.upload(packed.url, url)
    expected = shards.open_dataset(url).columns("test")["image"].copy()
    (cached,) = (cache / "batches").glob("*.batch")
    for damage in (b"", cached.read_bytes()[:-1], bytes(len(cached.read_bytes()))):
        cached.write_bytes(damage)
        assert np.array_equal(shards.open_dataset(url).columns("test")["image"], expected)
    store.write_bytes(f"{url}/test-00000.arrow", b"short")
    cached.unlink()
    with pytest.raises(Refusal, match="the file ends before"):
        shards.open_dataset(url).columns("test")


def test_packing_to_s3_gives_the_same_digest(
    bucket: str, table: Dataset, source: Source, packed: Dataset
) -> None:
    first = {name: values[:100] for name, values in source.columns.items()}
    manifest = shards.write(
        f"{bucket}/direct",
        {"train": source.columns, "test": first},
        name="digits",
        kind="image",
        shape=source.shape,
        classes=source.classes,
        packed={},
    )
    assert manifest.digest == packed.manifest.digest
    assert store.names(f"{bucket}/direct") == [
        "manifest.json",
        "test-00000.arrow",
        "train-00000.arrow",
    ]


def test_a_table_keeps_its_columns(table: Dataset) -> None:
    columns = table.columns("train")
    assert np.array_equal(columns["y"], columns["x"] ** 2)
    assert columns["x"].dtype == np.float32
    assert (table.manifest.mean, table.manifest.std, table.manifest.shape) == ((), (), ())


def test_a_split_without_rows_is_read(tmp_path: Path, source: Source) -> None:
    none = {name: values[:0] for name, values in source.columns.items()}
    url = str(tmp_path / "x")
    shards.write(
        url,
        {"train": source.columns, "val": none},
        name="digits",
        kind="image",
        shape=source.shape,
        classes=source.classes,
        packed={},
    )
    assert shards.open_dataset(url).columns("val")["image"].shape == (0, 8, 8, 1)
