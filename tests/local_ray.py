"""A Ray of this machine for the tests of a module: started as Manta starts it, and no process of it stays behind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.connection import connected

SHUTDOWN_SECONDS = 30
# Ray sets it for a session of this machine, and its library keeps to what it once read: a later session of this
# process, with servers that know of no token, would be left without a word.
KEPT = ("RAY_AUTH_MODE",)


@contextmanager
def local_ray(num_workers: int) -> Iterator[None]:
    """Within it Ray runs; afterwards the environment is what it was."""
    import ray

    environment, before = dict(os.environ), descendants()
    connected(num_workers)
    try:
        yield
    finally:
        ray.shutdown()
        environment |= {key: os.environ[key] for key in KEPT if key in os.environ}
        os.environ.clear()
        os.environ.update(environment)
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while left := descendants() - before:
        assert time.monotonic() < deadline, f"Ray left processes {left}"
        time.sleep(0.1)


def descendants() -> set[int]:
    """Processes begun by this one, their children included; the dead that nobody has asked about left out."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text(errors="replace").rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue  # ended meanwhile
        if state != "Z":
            parents[int(status.parent.name)] = int(parent)
    found: set[int] = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}
