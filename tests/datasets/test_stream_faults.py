"""Training batches from object storage over a bad network, a bad disk, and beside ranks that die: the right ones, or one refusal."""

from __future__ import annotations

import errno
import functools
import multiprocessing
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets import frames, gather, shards, store
from datasets.fetching import cache as caches
from datasets.fetching import ranges
from datasets.fetching.cache import Cache
from datasets.order import Plan
from datasets.packed import shelf
from datasets.packing import encoded
from datasets.pictures.prepare import Options
from datasets.refusal import Refusal
from datasets.stream import View
from tests.datasets import faults as fault_server
from tests.datasets.faults import Faults
from tests.datasets.photographs import source as photographs
from tests.datasets.streaming import same, shuffled
from tests.datasets.test_cache import temporaries

pytestmark = pytest.mark.timeout(120)  # a hang is a failure
NUM, SIZE, DEADLINE = 60, 16, 60
STALL_SECONDS, DEADLINE_SECONDS = 0.5, 10.0  # of a request, of a read
Batches = list[dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixty photographs in record batches of two, several shards."""
    url = str(tmp_path_factory.mktemp("packed") / "set")
    source = photographs(tmp_path_factory.mktemp("photographs"), NUM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.packing.writing.PICTURE_ROWS", 2)
        patch.setattr("datasets.packing.writing.SMALL_SHARD_BYTES", 100_000)
        splits, options = {"train": np.arange(NUM)}, Options(tile=False)
        encoded.write(url, source, splits, name="p", options=options, packed={}, seed=0)
    return url


@pytest.fixture(scope="module")
def right(local: str) -> Batches:
    return [*batches(local)]


@pytest.fixture
def url(local: str, bucket: str) -> str:
    store.upload(local, f"{bucket}/set")
    return f"{bucket}/set"


@pytest.fixture
def faults(url: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """Befall shards alone; the manifest is read by another client, before any batch."""
    impatient = functools.partial(ranges.Ranges, stall=STALL_SECONDS, deadline=DEADLINE_SECONDS)
    monkeypatch.setattr(shelf, "Ranges", impatient)
    monkeypatch.setattr(
        gather, "AHEAD_BYTES", 0
    )  # two batches at a time, so that faults come between
    found = Faults(chosen=lambda path: path.endswith(".arrow"))
    with fault_server.before(s3_server, found):
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
        yield found


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No thread, no shared memory, no temporary file but what a cache keeps."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    threads, shared = set(threading.enumerate()), shared_memory()
    yield
    left = set(threading.enumerate()) - threads
    assert not [thread for thread in left if thread.name.startswith(("decode", "fetch"))]
    assert shared_memory() <= shared, "what another test's Ray maps is none of ours"
    assert not [*folder.iterdir()]


def shared_memory() -> set[str]:
    """Names of the shared memory that this process maps."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.partition("/dev/shm/")[2] for line in lines if "/dev/shm/" in line}


def batches(
    url: str, *, rank: int = 0, world: int = 1, start: int = 0
) -> Iterator[dict[str, torch.Tensor]]:
    view = View(frames.random_resized_crop(mirror=0.5), SIZE, threads=2)
    plan, dataset = Plan(NUM, 8, 8), shards.open_dataset(url)
    stream = shuffled(dataset, plan, seed=5, rank=rank, world=world, view=view)
    for batch in stream.epoch(0, 0, start):
        yield dict(batch.columns)


@pytest.mark.parametrize("client", ["obstore", "fsspec"])
def test_both_clients_give_the_same_batches(
    url: str, right: Batches, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "Ranges", functools.partial(ranges.Ranges, client=client))
    assert same([*batches(url)], right)


@pytest.mark.parametrize(
    "plan",
    [
        ["503 SlowDown"] * 60,
        ["500 InternalError", "429", "400 RequestTimeout"] * 10,
        ["reset", "truncate", "truncate"] * 20,
        ["corrupt", ""] * 15,
        ["stall", "silence"] * 10,
        ["truncate", "reset", "503 SlowDown", "", "corrupt", "stall"] * 8,
    ],
    ids=["storm", "errors", "cuts", "wrong bytes", "stalls", "all"],
)
def test_batches_come_as_if_nothing_had_been(
    url: str, right: Batches, faults: Faults, plan: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "LONGEST_PAUSE", 0.1)
    faults.plan = [*plan]
    assert same([*batches(url)], right)
    assert not faults.plan, "not all faults were met"


@pytest.mark.slow
def test_a_storm_of_fifteen_seconds(url: str, right: Batches, faults: Faults) -> None:
    faults.always = "503 SlowDown"
    began = time.monotonic()
    shelf.Ranges.keywords["deadline"] = 60.0  # type: ignore[attr-defined]
    threading.Timer(15.0, lambda: setattr(faults, "always", "")).start()
    assert same([*batches(url)], right)
    assert time.monotonic() - began >= 15.0 and len(faults.gets) > 100


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_faults(
    url: str,
    right: Batches,
    faults: Faults,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At random, one request in three; each epoch begins with an empty cache."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    draws, ways = random.Random(seed), [*fault_server.WAYS, "503 SlowDown", "500", "429"]
    faults.plan = [""] * 2000 + draws.choices(ways, k=1000)
    draws.shuffle(faults.plan)
    shelf.Ranges.keywords["stall"] = 0.3  # type: ignore[attr-defined]
    monkeypatch.setattr(ranges, "LONGEST_PAUSE", 0.1)
    epochs = 0
    while faults.plan:
        monkeypatch.setenv("MANTA_CACHE", str(tmp_path / f"cache-{epochs}"))
        faults.corrupted.clear()
        assert same([*batches(url)], right), f"epoch {epochs} of seed {seed}"
        epochs += 1
    print(f"1000 faults in {len(faults.gets)} requests, {epochs} epochs of {len(right)} batches")


@pytest.mark.parametrize(
    ("always", "words"),
    [
        ("503 SlowDown", "cannot be read: status 503 SlowDown, "),
        ("reset", "cannot be read: "),
        ("stall", "cannot be read: the server was silent for too long"),
        ("corrupt", "arrived 3 times as"),
        ("404 NoSuchKey", "shard is missing"),
        ("400 ExpiredToken", "may not be read: status 400 ExpiredToken"),
        ("403 AccessDenied", "may not be read: status 403 AccessDenied"),
    ],
)
def test_what_does_not_pass_is_one_refusal(
    url: str,
    right: Batches,
    faults: Faults,
    always: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It comes in the middle of an epoch: the batches before it are right."""
    made = list[ranges.Ranges]()

    def kept(*arguments: Any, **keywords: Any) -> ranges.Ranges:
        made.append(impatient(*arguments, **keywords))
        return made[-1]

    impatient: Any = shelf.Ranges
    monkeypatch.setattr(shelf, "Ranges", kept)
    coming, seen = batches(url), []
    seen.append(next(coming))
    if (
        "cannot be read" in words
    ):  # the others are no matter of patience, which a busy machine tries
        for each in made:
            each.deadline = 0.5
    faults.always = always
    with pytest.raises(Refusal) as refused:
        seen.extend(coming)
    said = str(refused.value)
    assert words in said and "\n" not in said
    assert said.startswith(f"{url}/train-0000") and ".arrow: " in said
    assert same(seen, right[: len(seen)])


def test_credentials_that_expire_are_read_again(
    url: str, right: Batches, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    coming = batches(url)
    seen = [next(coming)]
    faults.expired = {"testing"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDRENEWED")
    seen.extend(coming)
    assert same(seen, right) and faults.keys[-1] == "AKIDRENEWED"


def test_a_shard_that_is_altered_at_its_source(url: str, local: str, right: Batches) -> None:
    """In the middle of a record batch, with the same length: named with both sums, never shown."""
    shard = shards.open_dataset(local).manifest.splits["train"].shards[1]
    data, batch = bytearray(Path(local, shard.path).read_bytes()), shard.batches[2]
    data[batch.offset + batch.length // 2] ^= 1
    store.write_bytes(f"{url}/{shard.path}", bytes(data))
    seen: Batches = []
    with pytest.raises(Refusal) as refused:
        seen.extend(batches(url))
    assert batch.checksum in str(refused.value) and refused.value.path == f"{url}/{shard.path}"
    assert same(seen, right[: len(seen)])


def full_beyond(num_bytes: int) -> Callable[[int, bytes], None]:
    """A disk with room for so many bytes of entries: what `_put` does on it."""
    put, lock = caches._put, threading.Lock()

    def size(file: Path) -> int:
        try:
            return file.stat().st_size
        except FileNotFoundError:  # another thread has just made room
            return 0

    def full(descriptor: int, data: bytes) -> None:
        folder = Path(os.readlink(f"/proc/self/fd/{descriptor}")).parent
        with lock:
            files = [*folder.glob(f"*{caches.ENTRY}")]
            if sum(map(size, files)) + len(data) > num_bytes:
                os.write(descriptor, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(descriptor, data)

    return full


def test_a_disk_that_is_nearly_full_is_made_do_with(
    url: str, right: Batches, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "FETCHERS", 2)
    monkeypatch.setattr(caches, "_put", full_beyond(200_000))
    assert same([*batches(url)], right)
    assert not temporaries(cache / "batches")


def test_a_full_disk_is_one_refusal(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "_put", full_beyond(0))
    with pytest.raises(Refusal, match="the disk is full.*MANTA_CACHE"):
        [*batches(url)]
    assert not temporaries(cache / "batches")


@pytest.mark.parametrize("damage", ["altered", "cut", "emptied", "removed"])
def test_what_the_disk_did_to_the_cache_is_never_shown(
    url: str, right: Batches, cache: Path, damage: str
) -> None:
    assert same([*batches(url)], right)
    for file in (cache / "batches").glob(f"*{caches.ENTRY}"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        cut = {"altered": data, "cut": data[: len(data) // 2], "emptied": b""}
        file.unlink() if damage == "removed" else file.write_bytes(bytes(cut[damage]))
    assert same([*batches(url)], right)


def _rank(url: str, rank: int, talk: Connection) -> None:
    talk.send("ready")
    talk.recv()  # all at once
    dataset = shards.open_dataset(url)
    view = View(frames.random_resized_crop(mirror=0.5), SIZE, threads=2)
    stream = shuffled(dataset, Plan(NUM, 8, 8), seed=5, rank=rank, world=2, view=view)
    found = [
        {name: column.numpy() for name, column in batch.columns.items()}
        for batch in stream.epoch(0, 0)
    ]
    assert dataset.stats is not None
    talk.send((found, dataset.stats.told()))


def _half(url: str, rank: int, talk: Connection) -> None:
    """Writes half of a record batch into the cache, says so, and waits to be killed."""
    put = caches._put

    def half(descriptor: int, data: bytes) -> None:
        put(descriptor, data[: len(data) // 2])
        talk.send("half")
        time.sleep(DEADLINE)

    talk.send("ready")
    talk.recv()
    caches._put = half
    [*batches(url)]


@contextmanager
def process(target: object, url: str, rank: int) -> Iterator[tuple[int, Connection]]:
    """A rank in a process of its own, ready to begin."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=target, args=(url, rank, there))  # type: ignore[arg-type]
    child.start()
    there.close()
    try:
        assert here.poll(DEADLINE) and here.recv() == "ready"
        yield child.pid or 0, here
    finally:
        child.kill()
        child.join()


def test_two_ranks_that_race_fetch_each_record_batch_once(url: str, right: Batches) -> None:
    with process(_rank, url, 0) as (_, one), process(_rank, url, 1) as (_, two):
        for talk in (one, two):
            talk.send("go")
        assert one.poll(DEADLINE) and two.poll(DEADLINE), "a rank is silent"
        (first, counted), (second, too) = one.recv(), two.recv()
    for whole, *parts in zip(right, first, second, strict=True):
        for name, column in whole.items():
            assert np.array_equal(np.concatenate([part[name] for part in parts]), column.numpy())
    num = sum(len(s.batches) for s in shards.open_dataset(url).manifest.splits["train"].shards)
    assert counted["fetch_requests"] + too["fetch_requests"] <= num
    assert counted["cache_hits"] + too["cache_hits"] > 0


def test_a_rank_that_is_killed_while_it_writes_is_in_nobodys_way(
    url: str, right: Batches, cache: Path
) -> None:
    with process(_half, url, 0) as (_, talk):
        talk.send("go")
        assert talk.poll(DEADLINE) and talk.recv() == "half"
    assert temporaries(cache / "batches"), "it was killed too late"
    assert same([*batches(url)], right)
    for left in temporaries(cache / "batches"):
        os.utime(left, (1e9, 1e9))
    Cache(cache / "batches", 2**30)
    assert not temporaries(cache / "batches")
