"""Members of .tar archives by their places, read where they lie.

A compressed tar has no places to jump to: it is decompressed once, to a plain tar in the cache folder.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import tarfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any, NamedTuple

import numpy as np

from datasets import store
from datasets.formats import archives
from datasets.formats.trees import Tree, is_hidden
from datasets.remote import Remote, explained, redact
from datasets.source import Pictures

# How compressed files start; all three openers take a file that is open.
_MAGIC: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


class Member(NamedTuple):
    """A regular file in a plain tar: where its bytes are."""

    name: str
    offset: int
    size: int


class TarPictures:
    """Members of plain tars by archive, offset and size; `shown` are the archives that a person knows."""

    def __init__(
        self,
        urls: Sequence[str],
        shown: Sequence[str],
        which: Sequence[int],
        members: Sequence[Member],
    ) -> None:
        self.urls, self.shown = tuple(urls), tuple(redact(url) for url in shown)
        self.which = np.array(which, dtype=np.int32)
        self.names = np.array([member.name for member in members], dtype=object)
        self.offsets = np.array([member.offset for member in members], dtype=np.int64)
        self.sizes = np.array([member.size for member in members], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, row: int) -> bytes:
        return read_range(self.urls[self.which[row]], int(self.offsets[row]), int(self.sizes[row]))

    def name(self, row: int) -> str:
        return f"{self.shown[self.which[row]]}/{self.names[row]}"


def open_tar(url: str) -> Tree:
    """The members of a tar, compressed or not. Raises Refusal as `open_zip` does, and for devices and cut ends."""
    plain = decompressed(url)
    members, empty = {}, []
    for member, _ in members_of(plain, where=url):
        if member.name.endswith("/"):
            empty.append(member.name)
        else:
            members[member.name] = member
    hidden = sum(map(is_hidden, members))
    return archives.tree(url, members, empty, hidden, _TarOpener(plain, url, members))


def members_of(
    url: str, *, where: str = "", small: Callable[[str], bool] = lambda name: False
) -> Iterator[tuple[Member, bytes]]:
    """The regular files of a plain tar, and folders as names with '/'; with the bytes of those that are `small`.

    Links to members become members. Raises Refusal, that names `where`, for damage and for what leaves the archive.
    """
    where = where or url
    members: dict[str, Member] = {}
    links: dict[str, str] = {}
    with (
        archives.intact(where),
        archives.opened(url) as file,
        tarfile.open(fileobj=file, mode="r:") as archive,
    ):
        for info in archive:
            name = archives.inside(where, info.name)
            if not name:
                continue  # the root itself, as `tar -C folder .` has it
            if info.isdir():
                yield Member(f"{name}/", 0, 0), b""
                continue
            archives.check(
                where, name, name not in members and name not in links, "two members have this name"
            )
            if info.issym() or info.islnk():
                links[name] = archives.target(where, name if info.issym() else "", info.linkname)
                continue
            archives.check(
                where, name, info.isreg() and not info.issparse(), "is neither a file nor a folder"
            )
            archives.check(where, name, info.size <= archives.MOST_BYTES, f"has {info.size} bytes")
            members[name] = Member(name, info.offset_data, info.size)
            taken = archive.extractfile(info) if small(name) else None
            yield members[name], taken.read() if taken else b""
        # tarfile takes a header that is cut or overwritten for the end; the real end is a block of zeros.
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise EOFError("it does not end as a tar does")
    archives.resolve(where, members, links)
    for name in links:
        member = members[name]._replace(name=name)
        yield member, read_range(url, member.offset, member.size) if small(name) else b""


def decompressed(url: str) -> str:
    """The tar itself, or its decompressed copy in the cache folder."""
    with archives.intact(url), archives.opened(url) as file:
        start = file.read(6)
        unpackers = [unpack for magic, unpack in _MAGIC.items() if start.startswith(magic)]
        if not unpackers:
            return url
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        version = f"{url}\n{size}\n{store.modified_seconds(url)}"
        key = hashlib.sha256(version.encode()).hexdigest()[:16]
        target = store.cache_folder() / "unpacked" / f"{key}.tar"
        if not target.exists():
            temporary = target.parent / f"{store.TEMPORARY}{uuid.uuid4().hex}"
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as unpacked, unpackers[0](file) as packed:
                    shutil.copyfileobj(packed, unpacked, 2**20)
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
    return str(target)


def read_range(url: str, offset: int, size: int) -> bytes:
    """`size` bytes of a local or remote file. Raises Refusal where it ends before."""
    with explained("read", url):
        if store.is_remote(url):
            remote = Remote(url)
            data = bytes(remote.system.cat_file(remote.path, start=offset, end=offset + size))
        else:
            # Held by name: another thread may push it out of the cache, which closes it.
            file = _local(url, os.getpid())
            data = os.pread(file.fileno(), size, offset)
    if len(data) != size:
        raise archives.damaged(url, f"it ends {size - len(data)} bytes too soon")
    return data


@dataclass(frozen=True, slots=True)
class _TarOpener:
    plain: str
    url: str
    members: Mapping[str, Member]

    def __call__(self, names: Sequence[str]) -> Pictures:
        members = [self.members[name] for name in names]
        return TarPictures([self.plain], [self.url], [0] * len(names), members)


@lru_cache(maxsize=256)
def _local(url: str, process: int) -> IO[bytes]:
    return store.path_of(url).open("rb", buffering=0)
