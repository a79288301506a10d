"""A worker that does not get on: the stacks of its threads go into the run folder, it ends, and its group starts again."""

from __future__ import annotations

import faulthandler
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable

from datasets import store
from datasets.refusal import Refusal

logger = logging.getLogger(__name__)

FOLDER = "stacks"
GRACE_SECONDS, START_SECONDS = 5.0, 600.0
EXIT_CODE = 75  # "try again", as sysexits.h has it


class Watchdog:
    """Counts the seconds since `alive` was last called, in a thread of its own; beyond `seconds` it ends the process.

    Before the first call it allows START_SECONDS at least: imports, the first fetches and compilers take their time.
    What hangs without letting go of Python's lock is out of its reach, and left to the collectives' own deadline.
    """

    def __init__(
        self,
        folder: str,
        rank: int,
        seconds: float,
        *,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self.folder, self.rank, self.seconds, self._end = folder, rank, seconds, end
        self._last, self._stopped = time.monotonic(), threading.Event()
        self._patience = max(seconds, START_SECONDS)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def alive(self) -> None:
        """A step was done, or a batch judged."""
        self._last, self._patience = time.monotonic(), self.seconds

    def close(self) -> None:
        """Nothing is watched any more."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(min(1.0, self.seconds / 4)):
            silent = time.monotonic() - self._last
            if silent > self._patience:
                try:
                    self._write(silent)
                except (Refusal, OSError) as error:
                    logger.error(
                        "rank %d hangs, and its stacks cannot be kept: %s", self.rank, error
                    )
                # The group ends with its first: the others hang as well, in a collective, and are to say where.
                self._stopped.wait(GRACE_SECONDS)
                self._end(EXIT_CODE)
                return

    def _write(self, silent: float) -> None:
        with tempfile.TemporaryFile("w+") as file:
            file.write(f"rank {self.rank} (pid {os.getpid()}) did nothing for {silent:.0f} s\n\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            text = file.read()
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-rank-{self.rank}.txt"
        store.write_bytes(store.join(self.folder, FOLDER, name), text.encode())


def found(folder: str) -> list[str]:
    """The files of stacks in a run folder, in the order of time; none where the folder cannot be read now."""
    try:
        return store.names(store.join(folder, FOLDER))
    except Refusal:
        return []
