"""One process at a time holds a run folder: a file with a heartbeat, readable by people."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from datasets import store
from datasets.refusal import Refusal

logger = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
LOOK_SECONDS = 1.0  # between looks at a holder elsewhere


class Lock:
    """Held from `with` to its end; a holder that died is replaced: at once on its host, elsewhere after a minute without a beat.

    That minute is waited for, since whoever starts a lost driver again, such as a job's retries, would do so only once.
    """

    def __init__(
        self,
        folder: str,
        doing: str = "this run is being trained",
        remedy: str = "wait for it, stop it, or change the recipe",
    ) -> None:
        self.doing, self.remedy = doing, remedy
        self.folder, self.url = folder, store.join(folder, "lock.json")
        self.token = uuid.uuid4().hex
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock heartbeat", daemon=True)

    def __enter__(self) -> Lock:
        silent: dict[str, object] | None = None
        while holder := self._taken():
            if holder["host"] == socket.gethostname() or (silent and silent != holder):
                raise Refusal(
                    f"{self.doing} by process {holder['pid']} on {holder['host']}",
                    path=self.folder,
                    value=holder["pid"],
                    remedy=self.remedy,
                )
            if silent is None:
                logger.warning(
                    "process %s on %s holds this run: waiting up to %.0f s for a sign of its life",
                    *(holder["pid"], holder["host"], STALE_SECONDS),
                )
            silent = holder
            time.sleep(LOOK_SECONDS)
        self._thread.start()
        return self

    def renew(self) -> str:
        """A new token: who works on under the former one, cut off from us, completes no checkpoint any more."""
        if token(self.folder) != self.token:
            raise Refusal(
                "another launch has taken this run over, so this one stops",
                path=self.folder,
                remedy="nothing is lost: the other goes on from the last checkpoint",
            )
        self.token = uuid.uuid4().hex
        self._write()
        return self.token

    def _taken(self) -> dict[str, object] | None:
        """Take the lock, or say who has it."""
        with _alone_in(self.folder):
            holder = self._holder()
            if holder is None:
                self._write()
            return holder

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        if token(self.folder) == self.token:  # else another host has taken over
            store.remove(self.url)

    def _holder(self) -> dict[str, object] | None:
        """Whoever holds the run and lives."""
        if not store.exists(self.url):
            return None
        try:
            held = json.loads(store.read_bytes(self.url))
            fresh = time.time() - float(held["beat"]) < STALE_SECONDS
            here = held["host"] == socket.gethostname()
        except (ValueError, KeyError, TypeError):
            return None  # torn by a crash: nobody's
        if here:
            return held if _alive(held) else None
        return held if fresh else None

    def _write(self) -> None:
        held = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "token": self.token,
            "beat": time.time(),
        }
        store.write_bytes(self.url, json.dumps(held).encode())

    def _beat(self) -> None:
        while not self._done.wait(BEAT_SECONDS):
            try:
                if token(self.folder) == self.token:  # else taken over, or the folder was removed
                    self._write()
            except Refusal:
                continue  # the storage is away for a moment; the run itself will say so when it matters


def held(folder: str) -> bool:
    """Whether somebody who lives holds a folder."""
    return Lock(folder)._holder() is not None


def token(folder: str) -> str | None:
    """Of the launch that holds a run folder; None where nobody does."""
    try:
        held = json.loads(store.read_bytes(store.join(folder, "lock.json")))
        return str(held["token"])
    except (Refusal, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Between looking and writing nobody else of this host looks; object storage has no such thing."""
    if store.is_remote(folder):
        yield
        return
    path = store.path_of(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise Refusal(
            f"cannot be made: {error.strerror or error}",
            path=folder,
            value=folder,
            remedy="choose a folder that can be written, with --out or MANTA_OUT",
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _alive(held: dict[str, object]) -> bool:
    """Whether the process still is the one that took the lock: its number may have gone to another."""
    try:
        pid = int(str(held["pid"]))
        os.kill(pid, 0)
    except (ProcessLookupError, ValueError, KeyError):
        return False
    except PermissionError:
        return True
    return held.get("started") in (None, _started(pid))


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None where /proc is not there."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None
