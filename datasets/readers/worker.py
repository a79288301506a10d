"""`python -m datasets.readers.worker CONNECTION MEMORY`: decodes for whoever holds the other end, then ends.

It ends with the one that it serves, and when nobody has asked for a while.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import sys
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from torch import Tensor

from datasets.pictures.decode import one_thread
from datasets.readers.process import REMEMBERED, Part, Pickled, laid
from datasets.showing import Showing

IDLE_SECONDS = 600.0


def main() -> None:
    # Ctrl-C reaches the whole group; the one that is served decides when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    one_thread()
    with suppress(EOFError, OSError):  # whoever was served is gone
        _serve(Connection(int(sys.argv[1])), _Memory(int(sys.argv[2])))
    os._exit(0)  # threads that fetch have nobody to fetch for


def _serve(connection: Connection[Any, Any], memory: _Memory) -> None:
    connection.send("ready")
    known = deque[tuple[str, Showing]](maxlen=REMEMBERED)
    while connection.poll(IDLE_SECONDS):
        asked = connection.recv()
        if isinstance(asked, Pickled):
            known.append((asked.name, pickle.loads(asked.data)))
        else:
            name, part, shapes = asked
            connection.send(_made(dict(known)[name], part, shapes, memory))


def _made(
    showing: Showing, part: Part, shapes: list[tuple[int, ...]], memory: _Memory
) -> dict[str, object] | str:
    try:
        return {**showing.make(*part, memory.laid(shapes))}
    except Exception as error:  # noqa: BLE001  whoever asked does it again, and meets the error itself
        return repr(error)


class _Memory:
    """What is shared, mapped anew where it has grown."""

    def __init__(self, descriptor: int) -> None:
        self._file = descriptor
        self._map: mmap.mmap | None = None

    def laid(self, shapes: list[tuple[int, ...]]) -> list[Tensor]:
        size = os.fstat(self._file).st_size
        if self._map is None or len(self._map) != size:
            self._map = mmap.mmap(self._file, size)
        return laid(self._map, shapes)


if __name__ == "__main__":
    main()
