"""A bounded folder of fetched record batches, shared by all processes of a host.

An entry appears whole, by a rename, or not at all. Locks are flock's, which the kernel drops with
the process that held them, so a killed rank leaves at most a temporary file to be swept.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import xxhash

from datasets.refusal import Refusal
from datasets.remote import explained
from datasets.store import TEMPORARY

logger = logging.getLogger(__name__)

ENTRY = ".batch"
FETCHES = 3  # of bytes that arrive with a wrong checksum
TOUCH_SECONDS = 1.0  # how exact "least recently used" is
SWEEP_SECONDS = 60.0  # a younger temporary file may not have its lock yet
LOCKS = 1024  # two entries that share one only wait for each other
FLOOR = 0.9  # of the budget: what eviction leaves, so that not every write lists the folder
_FULL = (errno.ENOSPC, errno.EDQUOT)
Fetch: TypeAlias = Callable[[], Iterable[bytes]]  # an entry's bytes, in pieces of any length


class Cache:
    """Keeps at most `budget` bytes of entries in `folder`, the least recently used leave first.

    Room is made before an entry is written. It has no lock of its own in memory, so threads, forks
    and pickles may share it. An evicted file that is mapped stays readable, and keeps its disk
    space, until it is unmapped: `holds` tells who has it mapped when to let go.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder, self.budget = Path(folder), budget
        self._seen: dict[str, int] = {}  # inode of each entry that this process has checked
        with explained("read", str(self.folder)):
            self._sweep()

    def __reduce__(self) -> tuple[Any, ...]:
        return Cache, (self.folder, self.budget)

    def path(self, key: str, length: int, checksum: str, fetch: Fetch) -> Path:
        """A file that holds the `length` bytes of xxh3_64 `checksum`; absent, they are fetched.

        Processes that ask for one entry at a time fetch it once. Open the file at once, or use
        `mapped`: others may evict it. Raises Refusal when the fetched bytes stay wrong and when
        the disk is full, and whatever `fetch` raises.
        """
        file = self._file(key, length, checksum)
        if self._damage(file, length, checksum) is None:
            return file
        with self._locked(f"locks/{int(file.name[:8], 16) % LOCKS:04}"):
            damage = self._damage(file, length, checksum)  # others may have been faster
            if damage is None:
                return file
            if damage:
                logger.warning("%s (%s) %s, fetching it again", file, key, damage)
            try:
                with explained("written", str(self.folder)):
                    self._keep(file, _Arriving(key, length, checksum, fetch))
            except _Unfetched as error:
                raise error.reason from None
        return file

    def mapped(self, key: str, length: int, checksum: str, fetch: Fetch) -> pa.Buffer:
        """The same bytes, mapped: nothing that others do to the folder can take them away."""
        while True:
            file = self.path(key, length, checksum, fetch)
            with suppress(FileNotFoundError):  # evicted since
                return pa.memory_map(str(file)).read_buffer()

    def holds(self, key: str, length: int, checksum: str) -> bool:
        """Whether the entry is in the folder, good or not."""
        return self._file(key, length, checksum).exists()

    def _file(self, key: str, length: int, checksum: str) -> Path:
        name = xxhash.xxh3_128_hexdigest(f"{key}\n{length}\n{checksum}".encode()) + ENTRY
        return self.folder / name

    def _damage(self, file: Path, length: int, checksum: str) -> str | None:
        """None for a good entry, which is then marked as used; "" where there is none; else why."""
        with explained("read", str(file)):
            try:
                state = file.stat()
                if state.st_size != length:
                    return f"has {state.st_size} bytes instead of {length}"
                if self._seen.get(file.name) != state.st_ino:
                    actual = xxhash.xxh3_64_hexdigest(file.read_bytes())
                    if actual != checksum:
                        return f"has checksum {actual} instead of {checksum}"
                    self._seen[file.name] = state.st_ino
                if time.time() - state.st_mtime > TOUCH_SECONDS:
                    os.utime(file)
            except FileNotFoundError:
                return ""
        return None

    def _keep(self, file: Path, data: _Arriving) -> None:
        """Writes an entry; on a full disk once more after half of the others went."""
        try:
            self._write(file, data)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            logger.warning("%s: the disk is full, evicting half of the cache", self.folder)
            try:
                with self._counting() as total:
                    total.set(self._evict(to_bytes=total.known() // 2))
                self._write(file, data)
            except OSError as again:
                if again.errno not in _FULL:
                    raise
                raise Refusal(
                    f"the disk is full: {len(data)} bytes of data cannot be kept",
                    path=str(self.folder),
                    value=len(data),
                    remedy="free some space, or name a folder on another disk in MANTA_CACHE",
                ) from again

    def _write(self, file: Path, data: _Arriving) -> None:
        temporary = self.folder / f"{TEMPORARY}{uuid.uuid4().hex}"
        descriptor = self._begun(temporary, file, len(data))
        try:
            data.put(descriptor)
            with self._counting():  # who counts entries sees it once
                os.replace(temporary, file)
            self._seen[file.name] = os.fstat(descriptor).st_ino
        except BaseException:
            with self._counting() as total:
                temporary.unlink(missing_ok=True)
                total.set(total.known() - len(data))
            raise
        finally:
            _release(descriptor)

    def _begun(self, temporary: Path, file: Path, length: int) -> int:
        """Makes room for an entry and counts it; the descriptor of the temporary file that it will fill.

        A damaged entry goes first, which was counted when it was whole.
        """
        with self._counting() as total:
            known = total.known()
            with suppress(FileNotFoundError):
                file.unlink()
                known -= length
            if known + length > self.budget:
                known = self._evict(to_bytes=int(self.budget * FLOOR) - length)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # "its writer lives"
            os.ftruncate(descriptor, length)  # whoever counts anew counts it whole
            total.set(known + length)
        return descriptor

    def _evict(self, *, to_bytes: int) -> int:
        """Removes the least recently used entries; the bytes that are left, those being written included."""
        self._sweep()
        entries = [(file.stat(), file) for file in self._files(ENTRY)]
        left = sum(state.st_size for state, _ in entries)
        for file in self._files(TEMPORARY):
            with suppress(FileNotFoundError):  # others sweep too
                left += file.stat().st_size
        for state, file in sorted(entries, key=lambda entry: entry[0].st_mtime_ns):
            if left <= to_bytes:
                break
            file.unlink(missing_ok=True)
            self._seen.pop(file.name, None)
            left -= state.st_size
        return left

    def _sweep(self) -> None:
        """Removes temporary files whose writer was killed."""
        for file in self._files(TEMPORARY):
            with suppress(FileNotFoundError):
                descriptor = os.open(file, os.O_WRONLY)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if time.time() - os.fstat(descriptor).st_mtime > SWEEP_SECONDS:
                        file.unlink()
                except BlockingIOError:
                    pass
                finally:
                    _release(descriptor)

    def _files(self, sign: str) -> list[Path]:
        """The entries, or the temporary files. Nobody else removes entries while we count."""
        try:
            with os.scandir(self.folder) as found:
                return [Path(entry.path) for entry in found if sign in entry.name]
        except FileNotFoundError:
            return []

    @contextmanager
    def _counting(self) -> Iterator[_Total]:
        """The shared count of bytes, for one process at a time."""
        with self._locked("total") as descriptor:
            yield _Total(descriptor, lambda: self._evict(to_bytes=self.budget))

    @contextmanager
    def _locked(self, name: str) -> Iterator[int]:
        """Holds the lock file `name`, which is never removed, or two could hold it."""
        file = self.folder / name
        with explained("written", str(file)):
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield descriptor
        finally:
            _release(descriptor)


class _Total:
    """The count in its file: twenty digits. Anything else is counted anew.

    Where somebody removes entries by hand it is too high, until the eviction that comes the sooner.
    """

    def __init__(self, descriptor: int, count: Callable[[], int]) -> None:
        self._descriptor, self._count = descriptor, count

    def known(self) -> int:
        digits = os.pread(self._descriptor, 20, 0)
        return int(digits) if len(digits) == 20 and digits.isdigit() else self._count()

    def set(self, num_bytes: int) -> None:
        # In place, not over a truncated file: that could fail on a full disk.
        os.pwrite(self._descriptor, b"%020d" % max(num_bytes, 0), 0)


@dataclass(frozen=True, slots=True)
class _Arriving:
    """An entry's bytes, hashed and written piece by piece as they come: whole they are in no memory."""

    key: str
    length: int
    checksum: str
    fetch: Fetch

    def __len__(self) -> int:
        return self.length

    def put(self, descriptor: int) -> None:
        """Fills a file with the right bytes. Raises Refusal after a few wrong answers, _Unfetched where `fetch` fails."""
        for _ in range(FETCHES):
            os.lseek(descriptor, 0, os.SEEK_SET)
            length, sum_ = 0, xxhash.xxh3_64()
            for piece in self._pieces():
                length += len(piece)
                sum_.update(piece)
                if length <= self.length:
                    _put(descriptor, piece)
            actual = sum_.hexdigest()
            if length == self.length and actual == self.checksum:
                return
            logger.warning(
                "%s arrived as %d bytes of checksum %s, expected %d of %s",
                *(self.key, length, actual, self.length, self.checksum),
            )
        raise Refusal(
            f"arrived {FETCHES} times as {length} bytes with checksum {actual}, "
            f"expected {self.length} bytes with {self.checksum}",
            path=self.key,
            value=actual,
            remedy="the shard is damaged: copy or pack it again",
        )

    def _pieces(self) -> Iterator[bytes]:
        try:
            yield from self.fetch()
        except Exception as error:
            raise _Unfetched(error) from error


class _Unfetched(Exception):
    """What `fetch` raised, told from what the disk raises."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _put(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _release(descriptor: int) -> None:
    # Unlocked by name: a child forked meanwhile holds the descriptor too, and closing ours is not enough.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
