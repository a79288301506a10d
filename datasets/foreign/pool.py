"""Worker processes, one for each thread that asks: started when first needed, kept, replaced once when they die."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets import processes
from datasets.foreign import wire
from datasets.foreign.spec import Spec
from datasets.refusal import Refusal
from datasets.transforms import Images, Transform

SECONDS = 120.0  # that a transform may take for the pictures that it is given at once


class Left(Exception):
    """The batches that this was asked for are wanted no more."""


class Process:
    """A running worker and the pipes to it."""

    def __init__(self) -> None:
        self._process = processes.started(
            "datasets.foreign.worker", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.pid = self._process.pid

    def ask(self, head: dict[str, Any], images: Images) -> tuple[dict[str, Any], Images | None]:
        """Send a message, wait for the answer. Raises OSError or EOFError where the process is dead."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests and answers
        wire.send(requests, head, images)
        return wire.receive(answers)

    def kill(self) -> None:
        """End it. Whoever waits for its answer gets an EOFError."""
        self._process.kill()

    def reap(self) -> str:
        """Kill and close; how it had ended."""
        self._process.kill()
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            with contextlib.suppress(OSError):  # what was buffered for the dead
                pipe.close()
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


class _Deadline(threading.Timer):
    """Kills a process that does not answer in time."""

    def __init__(self, process: Process) -> None:
        super().__init__(SECONDS, self._end)
        self.daemon, self.passed, self._asked = True, False, process
        self.start()

    def _end(self) -> None:
        self.passed = True
        self._asked.kill()


class Workers:
    """The processes of one pipeline; they end when it is let go of, and when this process ends, however it does."""

    def __init__(self) -> None:
        self._all: set[Process] = set()
        self._idle: list[Process] = []
        self._lock = threading.Lock()
        self._users, self._left = 0, False
        weakref.finalize(self, _end, self._all)

    def apply(self, spec: Spec, images: Images, ids: NDArray[np.int64], key: int) -> Images:
        """The images, transformed. Raises Refusal where the transform does, or where two processes die of it."""
        head = {"spec": asdict(spec), "key": key, "ids": ids.tolist()}
        how = ""
        for _ in range(2):
            process = self._taken()
            deadline = _Deadline(process)
            try:
                answer, done = process.ask(head, images)
            except (EOFError, OSError):
                how = self._buried(process)
                if deadline.passed:
                    raise _too_slow(spec, ids) from None
                continue
            finally:
                deadline.cancel()
            with self._lock:
                self._idle.append(process)
            if done is None:
                refused = answer["refusal"]
                raise Refusal(refused.pop("error"), **refused)
            return done
        raise Refusal(
            f"the process that applies {spec.name} {how}, twice, on samples with ids {_short(ids)}",
            path=spec.path,
            value=spec.name,
            remedy="look for a crash, or for memory that ran out",
        )

    def enter(self) -> None:
        """Somebody begins to make batches."""
        with self._lock:
            self._users, self._left = self._users + 1, False

    def leave(self, *, early: bool) -> None:
        """And ends. Left early by the last one, all processes end, also those that are waited for: whoever asks gets `Left`."""
        with self._lock:
            self._users -= 1
            if not early or self._users:
                return
            self._left = True
            for process in self._all:
                process.kill()
            idle, self._idle = self._idle, []
        for process in idle:
            self._buried(process)

    def _taken(self) -> Process:
        """An idle process, or a new one."""
        with self._lock:
            if self._left:
                raise Left
            if self._idle:
                return self._idle.pop()
            process = Process()
            self._all.add(process)
            return process

    def _buried(self, process: Process) -> str:
        how = process.reap()
        with self._lock:
            self._all.discard(process)
        return how


@dataclass(frozen=True)
class Foreign:
    """A transform that is not ours, applied by workers."""

    spec: Spec
    workers: Workers

    def __call__(self, images: Images, ids: NDArray[np.int64], key: int) -> Images:
        return self.workers.apply(self.spec, images, ids, key)


def pools(transforms: Sequence[Transform]) -> list[Workers]:
    """The workers that the transforms of a pipeline share; none where all transforms are ours."""
    found = (t.workers for t in transforms if isinstance(t, Foreign))
    return list(dict.fromkeys(found))


def _end(processes: set[Process]) -> None:
    for process in processes:
        process.reap()


def _too_slow(spec: Spec, ids: NDArray[np.int64]) -> Refusal:
    return Refusal(
        f"{spec.name} has not come back after {SECONDS:g} s, on samples with ids {_short(ids)}",
        path=spec.path,
        value=spec.name,
        remedy="look for an endless loop in it",
    )


def _short(ids: NDArray[np.int64]) -> str:
    return f"{ids[0]} .. {ids[-1]}" if len(ids) > 1 else f"{ids[0]}"
