"""A worker that hangs leaves the stacks of its threads and ends; one that gets on is left alone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cluster import watchdog
from cluster.watchdog import EXIT_CODE, Watchdog


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "GRACE_SECONDS", 0.0)


def waiting_for_nothing(ended: threading.Event) -> bool:
    return ended.wait(30)


def test_who_hangs_leaves_its_stacks_and_ends(tmp_path: Path) -> None:
    ended, codes = threading.Event(), []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    dog = Watchdog(str(tmp_path), 3, 0.2, end=end)
    dog.alive()
    assert waiting_for_nothing(ended)
    dog.close()
    assert codes == [EXIT_CODE]
    (name,) = watchdog.found(str(tmp_path))
    assert name.endswith("-rank-3.txt")
    text = (tmp_path / "stacks" / name).read_text()
    assert text.startswith("rank 3 (pid ") and "in waiting_for_nothing" in text


def test_who_cannot_write_ends_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "stacks").write_text("a file where a folder should be")
    ended = threading.Event()
    dog = Watchdog(str(tmp_path), 0, 0.1, end=lambda code: ended.set())
    dog.alive()
    assert ended.wait(30)
    dog.close()


class Clock:
    """Time that passes when it is told to; it knows how often it was looked at."""

    def __init__(self) -> None:
        self.now, self.looks = 0.0, threading.Semaphore(0)

    def __call__(self) -> float:
        self.looks.release()
        return self.now


def test_who_gets_on_is_left_alone_until_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, ended = Clock(), threading.Event()
    monkeypatch.setattr(watchdog.time, "monotonic", clock)
    dog = Watchdog(str(tmp_path), 0, 0.2, end=lambda code: ended.set())
    clock.now += watchdog.START_SECONDS - 1  # before its first step it may take its time
    for _ in range(5):
        clock.now += 0.15  # together far more than it may be silent
        dog.alive()
        for _ in range(4):
            assert clock.looks.acquire(timeout=30), "nobody watches"
        assert not ended.is_set()
    clock.now += 0.3
    assert ended.wait(30)
    dog.close()
    assert not dog._thread.is_alive()
