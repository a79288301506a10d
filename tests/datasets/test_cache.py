"""The cache of record batches: right bytes, fetched once, within the budget, whatever happens."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import xxhash

from datasets.fetching import cache as caches
from datasets.fetching.cache import ENTRY, Cache
from datasets.refusal import Refusal
from datasets.store import TEMPORARY

SIZE = 1000
OLD = 1e9  # a time long ago, in seconds since 1970


class Origin:
    """What is fetched: an entry's bytes follow from its number; counts how often."""

    def __init__(self) -> None:
        self.fetched: list[int] = []

    def bytes(self, number: int) -> bytes:
        return bytes((number + i) % 256 for i in range(SIZE))

    def ask(self, cache: Cache, number: int) -> Path:
        data = self.bytes(number)

        def fetch() -> list[bytes]:
            self.fetched.append(number)
            return [data[:200], data[200:]]

        return cache.path(f"shard.{number}", SIZE, xxhash.xxh3_64_hexdigest(data), fetch)


@pytest.fixture
def origin() -> Origin:
    return Origin()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "batches"


def held(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.suffix == ENTRY)


def temporaries(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.name.startswith(TEMPORARY)]


def test_fetched_once_and_found_again(folder: Path, origin: Origin) -> None:
    cache = Cache(folder, 1 << 20)
    first = origin.ask(cache, 1)
    assert first.read_bytes() == origin.bytes(1)
    assert origin.ask(cache, 1) == origin.ask(Cache(folder, 1 << 20), 1) == first
    assert origin.ask(pickle.loads(pickle.dumps(cache)), 1) == first
    assert origin.fetched == [1] and not temporaries(folder)


def test_one_key_may_change_its_content(folder: Path, origin: Origin) -> None:
    cache = Cache(folder, 1 << 20)
    for data in (b"old", b"new"):
        file = cache.path("a/b/../c", 3, xxhash.xxh3_64_hexdigest(data), lambda data=data: [data])  # type: ignore[misc]
        assert file.read_bytes() == data and file.parent == folder


def test_threads_that_race_fetch_once(folder: Path, origin: Origin) -> None:
    cache = Cache(folder, 1 << 20)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: origin.ask(cache, number % 8), range(64)))
    assert sorted(origin.fetched) == list(range(8)) and held(folder) == 8 * SIZE


@pytest.mark.parametrize("damage", ["altered", "cut", "emptied"])
def test_what_the_disk_damaged_is_fetched_again(
    folder: Path, origin: Origin, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = origin.ask(Cache(folder, 1 << 20), 1)
    data = bytearray(file.read_bytes())
    data[500] ^= 1
    file.write_bytes({"altered": bytes(data), "cut": bytes(data[:400]), "emptied": b""}[damage])
    assert origin.ask(Cache(folder, 1 << 20), 1).read_bytes() == origin.bytes(1)
    assert origin.fetched == [1, 1] and "fetching it again" in caplog.text
    assert int((folder / "total").read_bytes()) == SIZE


def test_wrong_bytes_are_fetched_thrice_and_then_refused(folder: Path) -> None:
    cache, right = Cache(folder, 1 << 20), xxhash.xxh3_64_hexdigest(b"right")
    answers = iter([b"wrong", b"short", b"right"])
    assert cache.path("shard.0", 5, right, lambda: [next(answers)]).read_bytes() == b"right"
    answers = iter([b"wrong"] * 3)
    with pytest.raises(Refusal) as refused:
        cache.path("shard.1", 5, right, lambda: [next(answers)])
    wrong = xxhash.xxh3_64_hexdigest(b"wrong")
    said = str(refused.value)
    assert said.startswith("shard.1: ") and wrong in said and right in said
    assert held(folder) == 5 and not temporaries(folder)


def test_what_fetch_raises_is_raised_and_the_lock_is_free(folder: Path, origin: Origin) -> None:
    cache = Cache(folder, 1 << 20)

    def fetch() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError("far away")

    with pytest.raises(ConnectionError, match="far away"):
        cache.path("shard.1", SIZE, xxhash.xxh3_64_hexdigest(origin.bytes(1)), fetch)
    assert origin.ask(cache, 1).exists()


def test_the_budget_is_kept_and_the_least_used_leave(folder: Path, origin: Origin) -> None:
    cache = Cache(folder, 10 * SIZE)
    for number in range(10):
        os.utime(origin.ask(cache, number), (OLD, OLD + number))
    origin.ask(cache, 0)  # used now, so it is the youngest
    assert origin.fetched == list(range(10))
    origin.ask(cache, 10)
    assert held(folder) <= 10 * SIZE and int((folder / "total").read_bytes()) == held(folder)
    for number in (0, 10, 9, 8):
        origin.ask(cache, number)
    assert origin.fetched == list(range(11))
    origin.ask(cache, 1)
    assert origin.fetched[-1] == 1
    for number in range(11, 40):
        origin.ask(cache, number)
        assert held(folder) <= 10 * SIZE


def test_two_processes_share_one_budget(folder: Path, origin: Origin) -> None:
    one, two = Cache(folder, 10 * SIZE), Cache(folder, 10 * SIZE)
    for number in range(30):
        origin.ask(one if number % 2 else two, number)
        assert held(folder) <= 10 * SIZE


def test_what_is_being_written_is_counted_and_has_room(
    folder: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a process that must count anew in the middle of it."""
    cache, put, seen = Cache(folder, 3 * SIZE), caches._put, []
    for number in range(3):
        origin.ask(cache, number)

    def between(descriptor: int, data: bytes) -> None:
        seen.append(held(folder) + sum(file.stat().st_size for file in temporaries(folder)))
        monkeypatch.setattr(caches, "_put", put)
        (folder / "total").unlink()
        origin.ask(Cache(folder, 3 * SIZE), 4)
        put(descriptor, data)

    monkeypatch.setattr(caches, "_put", between)
    origin.ask(cache, 3)
    assert seen[0] <= 3 * SIZE, "it was written before there was room"
    assert int((folder / "total").read_bytes()) == held(folder) <= 3 * SIZE


def test_an_entry_above_the_budget_is_kept_alone(folder: Path, origin: Origin) -> None:
    cache = Cache(folder, SIZE // 2)
    for number in range(3):
        assert origin.ask(cache, number).exists() and held(folder) == SIZE


@pytest.mark.parametrize("content", [None, b"", b"123", b"x" * 20])
def test_a_lost_count_is_made_anew(folder: Path, origin: Origin, content: bytes | None) -> None:
    cache = Cache(folder, 10 * SIZE)
    for number in range(9):
        origin.ask(cache, number)
    (folder / "total").unlink()
    if content is not None:
        (folder / "total").write_bytes(content)
    for number in range(9, 14):
        origin.ask(cache, number)
        assert held(folder) <= 10 * SIZE


def test_the_folder_may_be_removed_at_any_time(folder: Path, origin: Origin) -> None:
    cache = Cache(folder, 1 << 20)
    origin.ask(cache, 1)
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()
    assert origin.ask(cache, 1).read_bytes() == origin.bytes(1)


def test_mapped_bytes_outlive_their_eviction(folder: Path, origin: Origin) -> None:
    cache, data = Cache(folder, 2 * SIZE), origin.bytes(0)
    checksum = xxhash.xxh3_64_hexdigest(data)
    mapped = cache.mapped("shard.0", SIZE, checksum, lambda: [data])
    (file,) = [file for file in folder.iterdir() if file.suffix == ENTRY]
    os.utime(file, (OLD, OLD))
    for number in range(1, 5):
        origin.ask(cache, number)
    assert not file.exists() and mapped.to_pybytes() == data


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_costs_half_of_the_cache_first(
    folder: Path, origin: Origin, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(folder, 1 << 20)
    for entry in range(10):
        os.utime(origin.ask(cache, entry), (OLD, OLD + entry))
    put = caches._put

    def full(descriptor: int, data: bytes) -> None:
        put(descriptor, data[:100])
        if held(folder) > 5 * SIZE:
            raise OSError(number, os.strerror(number))
        put(descriptor, data[100:])

    monkeypatch.setattr(caches, "_put", full)
    assert origin.ask(cache, 10).read_bytes() == origin.bytes(10)
    assert held(folder) == 6 * SIZE and not temporaries(folder)


def test_a_disk_that_stays_full_is_refused(
    folder: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, put = Cache(folder, 1 << 20), caches._put

    def full(descriptor: int, data: bytes) -> None:
        put(descriptor, data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caches, "_put", full)
    with pytest.raises(Refusal, match="the disk is full.*MANTA_CACHE") as refused:
        origin.ask(cache, 1)
    assert refused.value.path == str(folder) and not temporaries(folder)
    monkeypatch.setattr(caches, "_put", put)
    assert origin.ask(cache, 1).exists()


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, origin: Origin) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Refusal, match="a part of this path is a file"):
        origin.ask(Cache(tmp_path / "file" / "batches", 1 << 20), 1)


def test_a_young_temporary_file_is_left_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    young = folder / f"{TEMPORARY}young"
    young.write_bytes(b"half")
    Cache(folder, 1 << 20)
    assert young.exists()
