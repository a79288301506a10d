"""One reader process, as the thread that asks it sees it."""

from __future__ import annotations

import mmap
import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets import processes
from datasets.packed.columns import Array

REMEMBERED = 4  # showings that a process keeps open: training and judging, of two phases


class Gone(Exception):
    """The process is dead, or could not do what it was asked."""


class Pickled(NamedTuple):
    """A showing, and what it is known by."""

    name: str
    data: bytes


class Part(NamedTuple):
    """A stretch of a batch: rows of the split, the keys of its transforms and its frame."""

    rows: NDArray[np.int64]
    keys: Sequence[int]
    frame: int


class Reader:
    """A process that decodes into memory which it shares with this one; one thread asks it at a time."""

    def __init__(self) -> None:
        self._file = _memory()
        self._map: mmap.mmap | None = None
        ours, theirs = Pipe()
        self._connection: Connection[Any, Any] = ours
        descriptors = (theirs.fileno(), self._file)
        self._process = processes.started(
            "datasets.readers.worker",
            *map(str, descriptors),
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            env={"CUDA_VISIBLE_DEVICES": ""},  # it has no business there
        )
        theirs.close()
        self.pid = self._process.pid
        self._ready = False
        self._known: deque[str] = deque(maxlen=REMEMBERED)

    @property
    def ready(self) -> bool:
        """Whether it has come up; until then nobody need wait for it."""
        if not self._ready and self._process.poll() is None:
            try:
                self._ready = self._connection.poll() and self._connection.recv() == "ready"
            except (EOFError, OSError):
                return False
        return self._ready

    def settle(self) -> None:
        """Wait until it is up, or has ended."""
        while not self.ready and self.ended is None:
            self._connection.poll(1.0)

    @property
    def ended(self) -> int | None:
        """Its exit code: 0 where it had nothing to do for long."""
        return self._process.poll()

    def make(self, showing: Pickled, part: Part, out: Sequence[Tensor]) -> dict[str, Array]:
        """What `Showing.make` does, over there. Raises Gone where it comes to nothing."""
        size = sum(image.nbytes for image in out)
        try:
            self._grow(size)
            if showing.name not in self._known:
                self._connection.send(showing)
                self._known.append(showing.name)
            shapes = [tuple(image.shape) for image in out]
            self._connection.send((showing.name, part, shapes))
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise Gone(f"reader process {self.pid} is dead") from error
        if not isinstance(answer, dict):
            raise Gone(str(answer))
        assert self._map
        for image, pixels in zip(out, laid(self._map, shapes), strict=True):
            image.copy_(
                pixels
            )  # lets go of Python's lock, and is from this core's cache or the next one's
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._connection.close()
        os.close(self._file)

    def _grow(self, size: int) -> None:
        if self._map is None or len(self._map) < size:
            os.ftruncate(self._file, size)
            self._map = mmap.mmap(self._file, size)


def laid(memory: mmap.mmap, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Tensors of these shapes, uint8, one after the other in memory."""
    found, start = [], 0
    for shape in shapes:
        length = int(np.prod(shape))
        pixels = np.frombuffer(memory, np.uint8, length, start).reshape(shape)
        found.append(torch.from_numpy(pixels))
        start += length
    return found


def _memory() -> int:
    """A file that is nowhere but in memory, where the system has such."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("manta-reader")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
