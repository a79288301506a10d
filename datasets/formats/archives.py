"""What zips.py and tars.py keep to: members are read where they lie, and no name of one becomes a path outside.

Nothing is unpacked. Damage and whatever leaves the archive is a Refusal.
"""

from __future__ import annotations

import lzma
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TypeVar

from datasets import store
from datasets.formats.trees import Tree, checked_names, is_hidden
from datasets.refusal import Refusal
from datasets.remote import Remote, explained, redact
from datasets.source import Pictures

T = TypeVar("T")

MOST_BYTES = 2**30  # of one member: a picture or a small text, never a bomb
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


def tree(
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


def opened(url: str) -> IO[bytes]:
    if store.is_remote(url):
        remote = Remote(url)
        file: IO[bytes] = remote.system.open(remote.path, "rb")
        return file
    return store.path_of(url).open("rb")


def inside(url: str, name: str) -> str:
    """The member's path without '.' and doubled '/'. Raises Refusal where it leaves the archive."""
    parts = name.split("/")
    leaves = name.startswith("/") or ".." in parts or "\\" in name or "\0" in name
    check(url, name, not leaves, "has a path that leaves the archive")
    return "/".join(part for part in parts if part not in ("", "."))


def target(url: str, name: str, link: str) -> str:
    """Where a symbolic link of this name leads (a hard link: name ''). Raises Refusal where that is outside."""
    end = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
    leaves = end.startswith(("/", "../")) or end == ".." or "\\" in end
    check(url, name or link, not leaves, f"is a link that leaves the archive, to '{link}'")
    return end


def resolve(url: str, members: dict[str, T], links: Mapping[str, str]) -> None:
    """Lets each link be what it leads to. Raises Refusal for one that leads nowhere."""
    for name in links:
        end, steps = links[name], 0
        while end in links and steps <= len(links):
            end, steps = links[end], steps + 1
        found = end in members and end not in links
        check(url, name, found, f"is a link to '{links[name]}', which is no file of the archive")
        members[name] = members[end]


def check(url: str, name: str, holds: bool, error: str) -> None:
    if not holds:
        raise Refusal(
            f"member '{name}' {error}",
            path=redact(url),
            value=name,
            remedy="get the archive from where it was published, or make it again",
        )


@contextmanager
def intact(url: str) -> Iterator[None]:
    """Turns damage into a Refusal, as `explained` does with what the world refuses."""
    try:
        with explained("read", url):
            yield
    except (*_DAMAGE, NotImplementedError) as error:
        raise damaged(url, str(error)) from error


def damaged(url: str, reason: str) -> Refusal:
    return Refusal(
        f"the archive is cut short or damaged: {' '.join(reason.split())}",
        path=redact(url),
        remedy="get it again from where it was published",
    )
