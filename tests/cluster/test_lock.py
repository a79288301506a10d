"""One process holds a run folder; holders that died are replaced."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster import lock
from cluster.lock import Lock
from datasets.refusal import Refusal

DEADLINE_SECONDS = 20


def written(folder: Path, **changes: object) -> None:
    """A lock.json as another holder would have left it."""
    held = {"host": "elsewhere", "pid": 4321, "started": "77", "beat": time.time(), **changes}
    (folder / "lock.json").write_text(json.dumps(held), encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((folder / "lock.json").read_text(encoding="utf-8"))
    return held


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_it_is_there_while_held_and_gone_after(tmp_path: Path) -> None:
    with Lock(str(tmp_path)):
        assert read(tmp_path)["pid"] == os.getpid()
        assert read(tmp_path)["host"] == socket.gethostname()
    assert list(tmp_path.iterdir()) == []


def test_it_is_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Lock(str(tmp_path)):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_second_one_is_refused_and_says_by_whom(tmp_path: Path) -> None:
    with Lock(str(tmp_path)):
        before = (tmp_path / "lock.json").read_bytes()
        with pytest.raises(
            Refusal, match=f"process {os.getpid()} on {socket.gethostname()}"
        ) as caught:
            Lock(str(tmp_path)).__enter__()
        assert caught.value.path == str(tmp_path)
        assert (tmp_path / "lock.json").read_bytes() == before
    with Lock(str(tmp_path)):
        pass


def test_a_dead_holder_of_this_host_is_replaced_at_once(tmp_path: Path) -> None:
    written(tmp_path, host=socket.gethostname(), pid=dead_pid(), beat=time.time())
    with Lock(str(tmp_path)):
        assert read(tmp_path)["pid"] == os.getpid()


def test_a_number_that_went_to_another_process_holds_nothing(tmp_path: Path) -> None:
    # This process lives, but did not begin when the holder did.
    written(tmp_path, host=socket.gethostname(), pid=os.getpid(), started="1")
    with Lock(str(tmp_path)):
        assert read(tmp_path)["started"] != "1"


def test_a_holder_elsewhere_that_beats_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    def beating(seconds: float) -> None:
        looked.append(seconds)
        written(tmp_path, beat=time.time())

    written(tmp_path, beat=time.time() - lock.STALE_SECONDS + 20)
    monkeypatch.setattr(lock.time, "sleep", beating)
    with pytest.raises(Refusal, match="process 4321 on elsewhere"):
        Lock(str(tmp_path)).__enter__()
    assert looked == [lock.LOOK_SECONDS], "it was seen to live at the second look"
    assert read(tmp_path)["pid"] == 4321


def test_a_silent_holder_elsewhere_is_replaced_when_its_minute_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(lock, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.5)
    written(tmp_path, beat=now)
    with Lock(str(tmp_path)):
        assert read(tmp_path)["pid"] == os.getpid()
        assert time.time() - now >= lock.STALE_SECONDS
    written(tmp_path, beat=time.time() - 1)
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: pytest.fail("its minute was over"))
    with Lock(str(tmp_path)):
        assert read(tmp_path)["pid"] == os.getpid()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"host": "elsewhere"',
        "[]",
        "null",
        '"x"',
        "{}",
        '{"host": "a", "beat": "b"}',
        "\x00\xff",
    ],
)
def test_a_torn_file_is_nobodys(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock.json").write_text(text, encoding="latin-1")
    with Lock(str(tmp_path)):
        assert read(tmp_path)["pid"] == os.getpid()


def test_a_lock_of_here_without_a_number_is_nobodys(tmp_path: Path) -> None:
    for pid in ("none", None, "", -5, 0):
        written(tmp_path, host=socket.gethostname(), pid=pid)
        with Lock(str(tmp_path)):
            assert read(tmp_path)["pid"] == os.getpid()


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with Lock(str(tmp_path)):
        first = read(tmp_path)["beat"]
        waited_for(lambda: read(tmp_path)["beat"] > first)


def test_a_heart_that_cannot_be_written_does_not_stop_beating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    written_by, failures = lock.store.write_bytes, []

    def away(url: str, data: bytes) -> None:
        if len(failures) < 3:
            failures.append(url)
            raise Refusal("the storage is away")
        written_by(url, data)

    with Lock(str(tmp_path)):
        first = read(tmp_path)["beat"]
        monkeypatch.setattr(lock.store, "write_bytes", away)
        waited_for(lambda: read(tmp_path)["beat"] > first)
    assert len(failures) == 3


def waited_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_of_many_that_come_at_once_one_gets_in(tmp_path: Path) -> None:
    folder, got, refused = str(tmp_path / "run"), [], []
    together, over = threading.Barrier(8), threading.Barrier(8)

    def come(number: int) -> None:
        together.wait(timeout=30)
        try:
            with Lock(folder):
                got.append(number)
                over.wait(timeout=30)
        except Refusal:
            refused.append(number)
            over.wait(timeout=30)

    threads = [threading.Thread(target=come, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert (len(got), len(refused)) == (1, 7)


def test_a_launch_that_was_taken_over_leaves_the_lock_alone(tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    with Lock(folder) as first:
        assert lock.token(folder) == first.token
        other = json.dumps({"host": "elsewhere", "pid": 1, "beat": time.time(), "token": "theirs"})
        (tmp_path / "run" / "lock.json").write_text(other)
        assert lock.token(folder) == "theirs"
    assert lock.token(folder) == "theirs", "not ours to remove"


def test_nobody_holds_a_folder_without_a_lock(tmp_path: Path) -> None:
    assert lock.token(str(tmp_path)) is None


def test_a_new_token_shuts_out_who_has_the_former(tmp_path: Path) -> None:
    with Lock(str(tmp_path)) as held:
        former = held.token
        assert held.renew() == held.token == lock.token(str(tmp_path)) != former
        (tmp_path / "lock.json").write_text('{"token": "another"}', encoding="utf-8")
        with pytest.raises(Refusal, match="another launch has taken this run over"):
            held.renew()
