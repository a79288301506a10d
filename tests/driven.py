"""`launch.py` in a process of its own: waited for, killed, and asked what it has said."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120.0
LAUNCH = "import launch; launch.app()"
# Asked so, it writes where its threads stand.
TELLS = "import faulthandler, signal; faulthandler.register(signal.SIGUSR1)\n"


class Driven:
    """A command of `launch.py`, whose words go to the file `log`; `program` is run in its place.

    It leads a group of processes of its own. Where it takes longer than PATIENCE, the test fails with what it
    said and where its threads stood, and the group is gone.
    """

    def __init__(
        self, *words: object, log: Path, program: str = LAUNCH, **environment: str
    ) -> None:
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", TELLS + program, *map(str, words)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def until(self, what: str, true: Callable[[], object]) -> None:
        """Until `true()` is; what it looks at may not be there yet, or be half written."""
        deadline = time.monotonic() + PATIENCE
        while not _now(true):
            assert self.process.poll() is None, f"{what}: it ended\n{self.said}"
            if time.monotonic() > deadline:
                self._give_up(f"{what}: it never came")
            time.sleep(0.05)

    def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._give_up("it did not end")

    def kill(self) -> None:
        """It and all that it began at once, as a machine dies."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _give_up(self, why: str) -> NoReturn:
        before = len(self.said)
        self.process.send_signal(signal.SIGUSR1)
        for _ in range(10):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
            if len(self.said) > before:
                break
        self.kill()
        raise AssertionError(f"{why}\n{self.said}")


def _now(true: Callable[[], object]) -> bool:
    try:
        return bool(true())
    except (OSError, ValueError, LookupError):
        return False
