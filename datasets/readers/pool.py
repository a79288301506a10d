"""The reader processes of this process: started when first wanted, shared by all its streams, used once they are up."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Sequence
from functools import cache

import cloudpickle
from torch import Tensor

from datasets.packed.columns import Array
from datasets.readers.process import Gone, Part, Pickled, Reader
from datasets.showing import Showing

logger = logging.getLogger(__name__)

DEATHS = 8  # after so many no further process is started: threads do it all


class Readers:
    """At most as many processes as any stream has threads. Safe to use from many threads."""

    def __init__(self) -> None:
        self._all: list[Reader] = []
        self._idle: list[Reader] = []
        self._lock = threading.Lock()
        self._number = self._deaths = 0
        self.made = 0  # parts, so far

    def want(self, number: int) -> None:
        """Start as many as there are not yet, and wait for none."""
        with self._lock:
            for reader in [reader for reader in self._idle if reader.ended is not None]:
                self._bury(reader)
            self._number = max(self._number, number)
            self._start()

    def settle(self) -> None:
        """Wait until those that were started are up; a stream need not."""
        with self._lock:
            for reader in self._idle:
                reader.settle()

    def make(self, showing: Pickled, part: Part, out: Sequence[Tensor]) -> dict[str, Array] | None:
        """A part of a batch made by a process; None where none is up, or it came to nothing: then a thread does it."""
        reader = self._taken()
        if reader is None:
            return None
        try:
            found = reader.make(showing, part, out)
        except Gone as error:
            logger.debug("%s", error)
            found = None
        with self._lock:
            self.made += found is not None
            if reader.ended is None:
                self._idle.append(reader)
            else:
                self._deaths += reader.ended != 0
                if self._deaths == DEATHS:
                    logger.warning(
                        "%d processes that decode pictures have died: threads decode from here on",
                        DEATHS,
                    )
                self._bury(reader)
                self._start()
        return found

    def pids(self) -> list[int]:
        """Of those that are up."""
        with self._lock:
            return [reader.pid for reader in self._all if reader.ready]

    def end(self) -> None:
        """End all that nobody is asking, until they are wanted again."""
        with self._lock:
            self._number = 0
            for reader in [*self._idle]:
                self._bury(reader)

    def _taken(self) -> Reader | None:
        with self._lock:
            for place in range(len(self._idle) - 1, -1, -1):
                if self._idle[place].ready:
                    return self._idle.pop(place)
        return None

    def _start(self) -> None:
        while len(self._all) < self._number and self._deaths < DEATHS:
            reader = Reader()
            self._all.append(reader)
            self._idle.append(reader)

    def _bury(self, reader: Reader) -> None:
        self._all.remove(reader)
        if reader in self._idle:
            self._idle.remove(reader)
        reader.end()


@cache
def readers() -> Readers:
    """Those of this process."""
    return Readers()


# A fork must not write into the pipes of its parent.
os.register_at_fork(after_in_child=readers.cache_clear)


def pickled(showing: Showing) -> Pickled:
    """By value: frames and transforms are functions within functions."""
    return Pickled(uuid.uuid4().hex, cloudpickle.dumps(showing))
