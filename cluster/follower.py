"""What the driver does while a group works: shows its progress, carries wishes into the run folder."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.session import REGROUP, STOP
from datasets import store

if TYPE_CHECKING:
    from trainers.progress import Bar

_POLL_SECONDS = 0.3
_ASK_SECONDS = 1.0


class Follower:
    """Shows what rank 0 writes into the run folder, and carries signals into it, while the group works."""

    def __init__(self, folder: str, bar: Bar, signals: list[int]) -> None:
        self.folder, self.bar, self.signals = folder, bar, signals
        self._seen, self._last = 0, b""  # bytes read, and the last line of them
        self._read()  # rows of an earlier start: not news
        self.moved = math.inf  # when the group did its first step, as far as can be seen
        self.why = ""  # the group was asked to end, and is to start again

    def during(self, work: Callable[[], None], ask: Callable[[], str]) -> None:
        """Run `work` in a thread of its own: Ray would put its own SIGINT handler into the main one.

        Once a second `ask` is asked for a reason to end the group in order, kept as `why`.
        """
        failure: list[BaseException] = []

        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001  raised again by the main thread
                failure.append(error)

        thread = threading.Thread(target=guarded, name="ray train", daemon=True)
        thread.start()
        self.why, stopping, asked = "", False, time.monotonic()
        self.moved = math.inf
        while thread.is_alive():
            thread.join(timeout=_POLL_SECONDS)
            if self.signals and not stopping:
                store.write_bytes(store.join(self.folder, STOP), b"")
                stopping = True
            if not (self.why or stopping) and time.monotonic() - asked > _ASK_SECONDS:
                self.why, asked = ask(), time.monotonic()
                if self.why:
                    store.write_bytes(store.join(self.folder, REGROUP), self.why.encode())
            self._show()
        self._show()
        if failure:
            raise failure[0]

    def _read(self) -> list[bytes]:
        """Whole lines of metrics.jsonl that were not read before.

        A restart drops rows and writes on, perhaps past where we were: then all of its lines are new ones.
        """
        path = Path(self.folder, "metrics.jsonl")
        if store.is_remote(self.folder) or not path.exists():
            return []  # a remote one is mirrored every half minute: too late for a bar
        with path.open("rb") as file:
            file.seek(self._seen - len(self._last))
            if file.read(len(self._last)) != self._last:
                self._seen = 0
            file.seek(self._seen)
            data = file.read()
        lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
        if lines:
            self._seen, self._last = self._seen + sum(map(len, lines)), lines[-1]
        return lines

    def _show(self) -> None:
        if lines := self._read():
            self.moved = min(self.moved, time.monotonic())
            self.bar.show([json.loads(line) for line in lines])
