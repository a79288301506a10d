"""Rows by number: from a disk or from afar, in any order, within the budget."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from datasets import shards, store
from datasets.packed import shelf
from datasets.packing import encoded
from datasets.pictures.prepare import Options
from datasets.refusal import Refusal
from tests.datasets.photographs import source as photographs

NUM = 150


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    source = photographs(tmp_path_factory.mktemp("photographs"), NUM)
    packed = str(tmp_path_factory.mktemp("packed") / "set")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.packing.writing.PICTURE_ROWS", 8)
        splits = {"train": np.arange(NUM)}
        options = Options(tile=False)
        encoded.write(packed, source, splits, name="p", options=options, packed={}, seed=0)
    return packed


def ids(found: shelf.Shelf, rows: np.ndarray) -> list[int]:
    numbers, places = found.locate(rows)
    pairs = zip(numbers.tolist(), places.tolist(), strict=True)
    return [int(found.open(number)["id"][place]) for number, place in pairs]  # type: ignore[arg-type]


def test_rows_are_found_by_their_number(url: str) -> None:
    dataset = shards.open_dataset(url)
    rows = np.random.default_rng(0).permutation(NUM)
    assert ids(dataset.shelf("train"), rows) == dataset.columns("train")["id"][rows].tolist()
    assert len(dataset.shelf("train")) == -(-NUM // 8)


def test_a_remote_shelf_keeps_to_its_budget(
    url: str, bucket: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache too small for the set: rows still come, from many threads, and little stays open or on disk."""
    store.upload(url, f"{bucket}/set")
    dataset = shards.open_dataset(f"{bucket}/set")
    total = sum(shard.bytes for shard in dataset.manifest.splits["train"].shards)
    monkeypatch.setenv("MANTA_CACHE_BYTES", str(total // 2))
    monkeypatch.setattr("datasets.packed.shelf.FEWEST", 2)
    found = dataset.shelf("train")
    expected = shards.open_dataset(url).columns("train")["id"]
    rows = np.random.default_rng(0).permutation(np.tile(np.arange(NUM), 2))
    with ThreadPoolExecutor(4) as pool:
        parts = [*pool.map(lambda part: ids(found, part), np.array_split(rows, 8))]
    assert [own for part in parts for own in part] == expected[rows].tolist()
    kept = sum(path.stat().st_size for path in (cache / "batches").glob("*.batch"))
    assert kept <= total // 2
    assert found._open_bytes <= total // 4 + 2 * max(
        batch.length for shard, _ in found.places for batch in shard.batches
    )


@pytest.mark.parametrize("text", ["lots", "-1", "1e9"])
def test_a_budget_that_is_no_number_is_refused(
    text: str, url: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANTA_CACHE_BYTES", text)
    store.upload(url, f"{bucket}/set")
    with pytest.raises(Refusal, match="MANTA_CACHE_BYTES"):
        shards.open_dataset(f"{bucket}/set").shelf("train")
