"""The raw limit: every picture decoded whole by simplejpeg into a reused buffer, by as many threads, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import local

import numpy as np
import simplejpeg

from benchmarks.stream.measure import Given, main

_thread = local()


def batches(given: Given) -> Iterator[int]:
    files = [
        path.read_bytes() for path in given.photographs
    ]  # before anything is timed but `first`
    largest = 640 * 640 * 3

    def decode(start: int) -> int:
        if not hasattr(_thread, "buffer"):
            _thread.buffer = np.empty(largest, np.uint8)
        part = files[start : start + given.batch]
        for data in part:
            simplejpeg.decode_jpeg(data, buffer=_thread.buffer)
        return len(part)

    whole = len(files) // given.batch * given.batch
    with ThreadPoolExecutor(given.workers) as pool:
        yield from pool.map(decode, range(0, whole, given.batch))


if __name__ == "__main__":
    main(batches, packages=("simplejpeg",))
