"""Ranks of one host that share a cache: they fetch once, and one that is killed is in nobody's way."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import xxhash

from datasets.fetching import cache as caches
from datasets.fetching.cache import Cache
from tests.datasets.test_cache import OLD, SIZE, Origin, held, temporaries

PATIENCE = 60  # seconds that another process may take


def _race(folder: Path, talk: Connection) -> None:
    """Says when it asks, when it fetches (then it needs leave), and when it is done."""
    data = Origin().bytes(1)

    def fetch() -> list[bytes]:
        talk.send("fetches")
        talk.recv()
        return [data]

    talk.send("asks")
    Cache(folder, 1 << 20).path("shard.1", SIZE, xxhash.xxh3_64_hexdigest(data), fetch)
    talk.send("done")


def _half(folder: Path, talk: Connection) -> None:
    """Writes half of an entry, says so and waits to be killed."""
    put = caches._put

    def half(descriptor: int, data: bytes) -> None:
        put(descriptor, data)  # the first of two pieces
        talk.send("half")
        talk.recv()

    caches._put = half
    Origin().ask(Cache(folder, 1 << 20), 1)


@contextmanager
def process(target: object, folder: Path) -> Iterator[tuple[multiprocessing.Process, Connection]]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=target, args=(folder, there))  # type: ignore[arg-type]
    child.start()
    there.close()
    try:
        yield child, here  # type: ignore[misc]
    finally:
        child.kill()
        child.join()
        child.close()
        here.close()


def heard(talk: Connection) -> str:
    assert talk.poll(PATIENCE), "the other process is silent"
    return str(talk.recv())


def waits_for_a_lock(pid: int) -> bool:
    """Whether the kernel lists the process behind a lock's holder."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and str(pid) in line.split() for line in lines)


def test_two_processes_that_race_fetch_once(tmp_path: Path) -> None:
    folder = tmp_path / "batches"
    with process(_race, folder) as (_, one), process(_race, folder) as (_, two):
        assert heard(one) == "asks" and heard(two) == "asks"
        (ready,) = multiprocessing.connection.wait([one, two], PATIENCE)
        first, other = (one, two) if ready is one else (two, one)
        assert heard(first) == "fetches" and not other.poll()
        first.send("go")
        assert heard(first) == "done" and heard(other) == "done"
    assert held(folder) == SIZE


def test_a_killed_writer_leaves_no_entry_and_no_lock(tmp_path: Path) -> None:
    folder, origin = tmp_path / "batches", Origin()
    with process(_half, folder) as (child, talk):
        assert heard(talk) == "half"
        (left,) = temporaries(folder)
        os.utime(left, (OLD, OLD))
        Cache(folder, 1 << 20)
        assert left.exists(), "its writer lives, however old it is"
        with process(_race, folder) as (second, waiting):
            assert heard(waiting) == "asks"
            limit = time.monotonic() + PATIENCE
            while not waits_for_a_lock(second.pid or 0):
                assert time.monotonic() < limit and not waiting.poll(0.01)
            child.kill()
            assert heard(waiting) == "fetches"
            waiting.send("go")
            assert heard(waiting) == "done"
    assert held(folder) == SIZE and temporaries(folder) in ([], [left])
    Cache(folder, 1 << 20)
    assert not temporaries(folder)
    assert origin.ask(Cache(folder, 1 << 20), 1).read_bytes() == origin.bytes(1)
    assert not origin.fetched
