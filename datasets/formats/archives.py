"""Members of .zip and .tar archives, read where they lie: nothing is unpacked, so no name of a member becomes a path.

A compressed tar has no places to jump to: it is decompressed once, to a plain tar in the cache folder.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import posixpath
import shutil
import stat
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np

from datasets import store
from datasets.formats.trees import Tree, checked_names, is_hidden
from datasets.refusal import Refusal
from datasets.remote import Remote, explained, redact
from datasets.source import Pictures

T = TypeVar("T")

MOST_BYTES = 2**30  # of one member: a picture or a small text, never a bomb
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
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


class ZipPictures:
    """Members of a zip by name; each process opens it for itself, when it first reads."""

    def __init__(self, url: str, names: Sequence[str]) -> None:
        self.url, self.names = url, np.array(names, dtype=object)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, row: int) -> bytes:
        with _intact(self.url):
            return _zip(self.url, os.getpid()).read(self.names[row])

    def name(self, row: int) -> str:
        return f"{redact(self.url)}/{self.names[row]}"


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


def open_zip(url: str) -> Tree:
    """The members of a zip. Raises Refusal for a damaged or encrypted one, and for names or links that leave it."""
    names, links, empty, hidden = {}, {}, [], 0
    with _intact(url):
        archive = _zip(url, os.getpid())
        for info in archive.infolist():
            name = _inside(url, info.filename)
            if info.is_dir():
                empty.append(f"{name}/")
                continue
            _check(url, name, name not in names, "two members have this name")
            _check(url, name, not info.flag_bits & 1, "is encrypted")
            _check(url, name, info.file_size <= MOST_BYTES, f"has {info.file_size} bytes")
            names[name] = info.filename
            if stat.S_ISLNK(info.external_attr >> 16):
                links[name] = _target(url, name, archive.read(info).decode("utf-8", "replace"))
    _resolve(url, names, links)
    hidden = sum(map(is_hidden, names))
    return _tree(url, names, empty, hidden, _ZipOpener(url, names))


def open_tar(url: str) -> Tree:
    """The members of a tar, compressed or not. Raises Refusal as `open_zip` does, and for devices and cut ends."""
    plain = plain_tar(url)
    members, empty = {}, []
    for member, _ in tar_members(plain, where=url):
        if member.name.endswith("/"):
            empty.append(member.name)
        else:
            members[member.name] = member
    hidden = sum(map(is_hidden, members))
    return _tree(url, members, empty, hidden, _TarOpener(plain, url, members))


def tar_members(
    url: str, *, where: str = "", small: Callable[[str], bool] = lambda name: False
) -> Iterator[tuple[Member, bytes]]:
    """The regular files of a plain tar, and folders as names with '/'; with the bytes of those that are `small`.

    Links to members become members. Raises Refusal, that names `where`, for damage and for what leaves the archive.
    """
    where = where or url
    members: dict[str, Member] = {}
    links: dict[str, str] = {}
    with _intact(where), _opened(url) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            name = _inside(where, info.name)
            if info.isdir():
                yield Member(f"{name}/", 0, 0), b""
                continue
            _check(
                where, name, name not in members and name not in links, "two members have this name"
            )
            if info.issym() or info.islnk():
                links[name] = _target(where, name if info.issym() else "", info.linkname)
                continue
            _check(
                where, name, info.isreg() and not info.issparse(), "is neither a file nor a folder"
            )
            _check(where, name, info.size <= MOST_BYTES, f"has {info.size} bytes")
            members[name] = Member(name, info.offset_data, info.size)
            taken = archive.extractfile(info) if small(name) else None
            yield members[name], taken.read() if taken else b""
        # tarfile takes a header that is cut or overwritten for the end; the real end is a block of zeros.
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise EOFError("it does not end as a tar does")
    _resolve(where, members, links)
    for name in links:
        member = members[name]._replace(name=name)
        yield member, read_range(url, member.offset, member.size) if small(name) else b""


def plain_tar(url: str) -> str:
    """The tar itself, or its decompressed copy in the cache folder."""
    with _intact(url), _opened(url) as file:
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
        raise _damaged(url, f"it ends {size - len(data)} bytes too soon")
    return data


def _tree(
    url: str,
    names: Mapping[str, object],
    empty: list[str],
    hidden: int,
    opener: Callable[[Sequence[str]], Pictures],
) -> Tree:
    where = redact(url)
    shown = checked_names([name for name in names if not is_hidden(name)], where)
    used = {folder for name in names for folder in _folders(name)}
    bare = sorted({name for name in empty if name not in used and not is_hidden(name)})
    return Tree(where, shown, tuple(bare), hidden, opener)


def _folders(name: str) -> Iterator[str]:
    parts = name.split("/")[:-1]
    return ("/".join(parts[: end + 1]) + "/" for end in range(len(parts)))


@dataclass(frozen=True, slots=True)
class _ZipOpener:
    url: str
    names: Mapping[str, str]

    def __call__(self, names: Sequence[str]) -> Pictures:
        return ZipPictures(self.url, [self.names[name] for name in names])


@dataclass(frozen=True, slots=True)
class _TarOpener:
    plain: str
    url: str
    members: Mapping[str, Member]

    def __call__(self, names: Sequence[str]) -> Pictures:
        members = [self.members[name] for name in names]
        return TarPictures([self.plain], [self.url], [0] * len(names), members)


# One handle a process, since a forked child would share its parent's place in the file.
@lru_cache(maxsize=16)
def _zip(url: str, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(_opened(url))


@lru_cache(maxsize=256)
def _local(url: str, process: int) -> IO[bytes]:
    return store.path_of(url).open("rb", buffering=0)


def _opened(url: str) -> IO[bytes]:
    if store.is_remote(url):
        remote = Remote(url)
        file: IO[bytes] = remote.system.open(remote.path, "rb")
        return file
    return store.path_of(url).open("rb")


def _inside(url: str, name: str) -> str:
    """The member's path without '.' and doubled '/'. Raises Refusal where it leaves the archive."""
    parts = name.split("/")
    leaves = name.startswith("/") or ".." in parts or "\\" in name or "\0" in name
    _check(url, name, not leaves, "has a path that leaves the archive")
    return "/".join(part for part in parts if part not in ("", "."))


def _target(url: str, name: str, link: str) -> str:
    """Where a symbolic link of this name leads (a hard link: name ''). Raises Refusal where that is outside."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
    leaves = target.startswith(("/", "../")) or target == ".." or "\\" in target
    _check(url, name or link, not leaves, f"is a link that leaves the archive, to '{link}'")
    return target


def _resolve(url: str, members: dict[str, T], links: Mapping[str, str]) -> None:
    """Lets each link be what it leads to. Raises Refusal for one that leads nowhere."""
    for name in links:
        target, steps = links[name], 0
        while target in links and steps <= len(links):
            target, steps = links[target], steps + 1
        found = target in members and target not in links
        _check(url, name, found, f"is a link to '{links[name]}', which is no file of the archive")
        members[name] = members[target]


def _check(url: str, name: str, holds: bool, error: str) -> None:
    if not holds:
        raise Refusal(
            f"member '{name}' {error}",
            path=redact(url),
            value=name,
            remedy="get the archive from where it was published, or make it again",
        )


@contextmanager
def _intact(url: str) -> Iterator[None]:
    """Turns damage into a Refusal, as `explained` does with what the world refuses."""
    try:
        with explained("read", url):
            yield
    except (*_DAMAGE, NotImplementedError) as error:
        raise _damaged(url, str(error)) from error


def _damaged(url: str, reason: str) -> Refusal:
    return Refusal(
        f"the archive is cut short or damaged: {' '.join(reason.split())}",
        path=redact(url),
        remedy="get it again from where it was published",
    )
