"""Byte ranges of a packed data set's remote files, with retries of our own.

obstore carries s3:// where it is installed; fsspec carries every other scheme, stands in where it
is not, and in a forked child of a process that used obstore, whose threads a fork leaves behind.
No client's message is ever shown: servers answer with the key they were asked with.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from typing import Any

from datasets import store
from datasets.fetching.clients import Client, Fsspec, Obstore, Problem, judged
from datasets.refusal import Refusal
from datasets.remote import redact

logger = logging.getLogger(__name__)

TOLD_SECONDS = 10.0  # of silence
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds; the pause before a retry is drawn below them
_REMEDIES = {
    "again": "check the network and AWS_ENDPOINT_URL",
    "denied": "check the credentials in the environment (AWS_PROFILE, AWS_ACCESS_KEY_ID, ...)",
    "absent": "copy or pack the data set again",
    "wrong": "check AWS_REGION and AWS_ENDPOINT_URL, or pack the data set again",
}


class Stats:
    """What was asked of the remote side, and what came: counts of one process, from all threads.

    `found` counts record batches that were in the host's cache already.
    """

    def __init__(self) -> None:
        self.requests = self.retries = self.bytes = self.found = 0
        self._lock = threading.Lock()

    def count(
        self, *, requests: int = 0, retries: int = 0, num_bytes: int = 0, found: int = 0
    ) -> None:
        with self._lock:
            self.requests += requests
            self.retries += retries
            self.bytes += num_bytes
            self.found += found

    def told(self) -> dict[str, int]:
        """The counts under the names that they have in a run's folder."""
        with self._lock:
            return {
                "fetched_bytes": self.bytes,
                "fetch_requests": self.requests,
                "fetch_retries": self.retries,
                "cache_hits": self.found,
            }


class _Here:
    """What belongs to one process: after a fork, clients and locks of the parent are of no use."""

    def __init__(self, stats: Stats) -> None:
        self.lock, self.stats = threading.Lock(), stats
        self.client: Client | None = None


class Ranges:
    """Reads byte ranges of files below a remote URL, from any thread and any process.

    A read is tried again, from the bytes it already has, until `deadline` seconds have passed
    without a byte; `stall` is how many seconds one request may be silent. `client` is "obstore" or
    "fsspec" ("": the better one that is there). `wait` takes seconds and tells whether to give up.
    `stats` counts for several of them together; a forked or unpickled one counts anew.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline: float = 60.0,
        stall: float = 10.0,
        client: str = "",
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
        stats: Stats | None = None,
    ) -> None:
        scheme, _, place = url.partition("://")
        if not store.is_remote(url):
            raise ValueError(f"'{url}' is a local path: open the file")
        if redact(url) != url or (scheme in ("s3", "s3a") and ":" in place.partition("/")[0]):
            raise Refusal(
                "a URL must not carry credentials",
                path=f"{scheme}://***",
                remedy="put them in the environment (AWS_PROFILE, AWS_ACCESS_KEY_ID, ...)",
            )
        if client not in ("", "obstore", "fsspec"):
            raise ValueError(f"client='{client}' is neither 'obstore' nor 'fsspec'")
        self.url, self.deadline, self.stall, self.client = url, deadline, stall, client
        self._closed = threading.Event()
        self._clock, self._wait = clock, wait or self._closed.wait
        self._told = clock()  # when a person last heard of silence
        self._processes = {os.getpid(): _Here(stats or Stats())}

    def __repr__(self) -> str:
        return f"Ranges({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.url, self.deadline, self.stall, self.client)

    @property
    def stats(self) -> Stats:
        return self._here().stats

    def read(self, path: str, offset: int, length: int) -> bytes:
        """The same as `pieces`, in one."""
        return b"".join(self.pieces(path, offset, length))

    def pieces(self, path: str, offset: int, length: int) -> Iterator[bytes]:
        """Bytes offset .. offset+length-1 of the file `path`, relative to the URL, as they come.

        Raises Refusal for a path that leaves the URL, a file that is absent or too short, for
        credentials that are refused twice, and when the deadline has passed.
        """
        reading = _Reading(store.join(self.url, path), offset, length, self._clock)
        here, client = self._here(), self._client()
        while reading.missing:
            problem = yield from reading.once(client, here.stats)
            if problem is None:
                continue
            pause = reading.pause(problem, self.deadline)
            here.stats.count(retries=1)
            self._tell(reading, problem)
            if self._wait(pause) or self._closed.is_set():
                raise RuntimeError(f"{self!r} was closed while it was read")
            if problem.kind == "denied":
                client = self._client(instead_of=client)

    def _tell(self, reading: _Reading, problem: Problem) -> None:
        """A hiccup is nobody's business; of silence a person hears, every ten seconds from any of its readings."""
        logger.info("%s: %s, trying again", reading.url, problem.words)
        now = self._clock()
        silent = now - reading.since
        if min(silent, now - self._told) >= TOLD_SECONDS:
            self._told = now
            logger.warning(
                "%s: nothing has come for %.0f s (%s), giving up at %.0f",
                *(reading.url, silent, problem.words, self.deadline),
            )

    def close(self) -> None:
        """Ends the pauses of reads that are being tried again; these raise RuntimeError."""
        self._closed.set()

    def _here(self) -> _Here:
        return self._processes.setdefault(os.getpid(), _Here(Stats()))

    def _client(self, *, instead_of: Client | None = None) -> Client:
        """This process's client; a new one, with the credentials of now, in place of a bad one."""
        here = self._here()
        with here.lock:
            if here.client is None or here.client is instead_of:
                if instead_of is not None:
                    logger.warning("%s: credentials were refused, reading them again", self.url)
                here.client = self._made(afresh=instead_of is not None)
            return here.client

    def _made(self, *, afresh: bool) -> Client:
        s3 = self.url.startswith(("s3://", "s3a://"))
        able = s3 and find_spec("obstore") is not None and not Obstore.is_of_a_parent()
        if self.client == "obstore" or (able and not self.client):
            return Obstore(self.url, self.stall)
        return Fsspec(self.url, afresh=afresh)


def _rebuild(url: str, deadline: float, stall: float, client: str) -> Ranges:
    return Ranges(url, deadline=deadline, stall=stall, client=client)


class _Reading:
    """One range on its way: what is missing, and how long nothing has come."""

    def __init__(self, url: str, offset: int, length: int, clock: Callable[[], float]) -> None:
        self.url, self.offset, self.missing, self.clock = url, offset, length, clock
        self.since, self.tries = clock(), 0  # of the last progress
        self.retried = self.denied = False

    def once(self, client: Client, stats: Stats) -> Generator[bytes, None, Problem | None]:
        """One request for what is missing: its pieces, and what went wrong with it, if anything."""
        end, before = self.offset + self.missing, self.missing
        stats.count(requests=1)
        self.tries += 1
        try:
            for part in client.pieces(self.url, self.offset, end, careful=self.retried):
                self._take(part, stats)
                if self.missing < 0:
                    return Problem("wrong", "the server sends more than the range it was asked for")
                yield part
        except Exception as error:
            problem = judged(error)
            if problem is None:
                raise
            if problem.kind == "roleless":  # once it gave some, it will again
                return Problem("again" if stats.bytes else "denied", problem.words)
            return problem
        if self.missing == before:
            return Problem("wrong", f"the file ends before byte {end}")
        return Problem("again", "the answer was cut") if self.missing else None

    def _take(self, part: bytes, stats: Stats) -> None:
        if part:
            self.offset += len(part)
            self.missing -= len(part)
            self.since, self.tries = self.clock(), 0
            stats.count(num_bytes=len(part))

    def pause(self, problem: Problem, deadline: float) -> float:
        """Seconds until the next try; raises the Refusal when there is to be none."""
        silent, self.retried = self.clock() - self.since, True
        if problem.kind == "again" and silent < deadline:
            ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.tries, 16))
            return min(random.uniform(0.0, ceiling), deadline - silent)
        if problem.kind == "denied" and not self.denied:
            self.denied = True
            return 0.0
        if problem.kind == "absent":
            raise Refusal("shard is missing", path=self.url, remedy=_REMEDIES["absent"])
        words = problem.words
        if problem.kind == "again":
            words = f"{words}, {self.tries} times in {silent:.0f} s"
        done = "may not" if problem.kind == "denied" else "cannot"
        raise Refusal(f"{done} be read: {words}", path=self.url, remedy=_REMEDIES[problem.kind])
