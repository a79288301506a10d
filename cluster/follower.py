"""What the driver does while a group works: shows its progress, carries wishes into the run folder."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.session import STOP
from datasets import store

if TYPE_CHECKING:
    from trainers.progress import Bar

_POLL_SECONDS = 0.3
_ASK_SECONDS = 1.0


class Follower:
    """Shows what rank 0 writes into the run folder, and carries signals into it, while the group works."""

    def __init__(self, folder: str, bar: Bar, signals: list[int]) -> None:
        self.folder, self.bar, self.signals = folder, bar, signals
        self._seen = self._size()
        self.why = ""  # the group was asked to end, and is to start again

    def during(self, work: Callable[[], None], ask: Callable[[], str]) -> None:
        """Run `work` in a thread of its own: Ray would put its own SIGINT handler into the main one.

        Once a second `ask` is asked for a reason to end the group in order, kept as `why`; a person's signal goes before it.
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
        while thread.is_alive():
            thread.join(timeout=_POLL_SECONDS)
            if not stopping and time.monotonic() - asked > _ASK_SECONDS:
                self.why, asked = ask(), time.monotonic()
            if self.signals:
                self.why = ""
            if not stopping and (self.signals or self.why):
                store.write_bytes(store.join(self.folder, STOP), self.why.encode())
                stopping = True
            self._show()
        self._show()
        if failure:
            raise failure[0]

    def _size(self) -> int:
        if store.is_remote(self.folder):
            return 0  # mirrored every half minute: too late for a bar
        path = Path(self.folder, "metrics.jsonl")
        return path.stat().st_size if path.exists() else 0

    def _show(self) -> None:
        size = self._size()
        if size < self._seen:
            self._seen = 0  # rewritten by a restart
        if size == self._seen:
            return
        with Path(self.folder, "metrics.jsonl").open("rb") as file:
            file.seek(self._seen)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._seen += len(whole)
        self.bar.show([json.loads(line) for line in whole.splitlines()])
