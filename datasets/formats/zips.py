"""Members of .zip archives, read where they lie."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from datasets.formats import archives
from datasets.formats.trees import Tree, is_hidden
from datasets.remote import redact
from datasets.source import Pictures


class ZipPictures:
    """Members of a zip by name; each process opens it for itself, when it first reads."""

    def __init__(self, url: str, names: Sequence[str]) -> None:
        self.url, self.names = url, np.array(names, dtype=object)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, row: int) -> bytes:
        with archives.intact(self.url):
            return _zip(self.url, os.getpid()).read(self.names[row])

    def name(self, row: int) -> str:
        return f"{redact(self.url)}/{self.names[row]}"


def open_zip(url: str) -> Tree:
    """The members of a zip. Raises Refusal for a damaged or encrypted one, and for names or links that leave it."""
    names, links, empty, hidden = {}, {}, [], 0
    with archives.intact(url):
        archive = _zip(url, os.getpid())
        for info in archive.infolist():
            name = archives.inside(url, info.filename)
            if not name:
                continue  # the root itself
            if info.is_dir():
                empty.append(f"{name}/")
                continue
            archives.check(url, name, name not in names, "two members have this name")
            archives.check(url, name, not info.flag_bits & 1, "is encrypted")
            archives.check(
                url, name, info.file_size <= archives.MOST_BYTES, f"has {info.file_size} bytes"
            )
            names[name] = info.filename
            if stat.S_ISLNK(info.external_attr >> 16):
                links[name] = archives.target(
                    url, name, archive.read(info).decode("utf-8", "replace")
                )
    archives.resolve(url, names, links)
    hidden = sum(map(is_hidden, names))
    return archives.tree(url, names, empty, hidden, _ZipOpener(url, names))


@dataclass(frozen=True, slots=True)
class _ZipOpener:
    url: str
    names: Mapping[str, str]

    def __call__(self, names: Sequence[str]) -> Pictures:
        return ZipPictures(self.url, [self.names[name] for name in names])


# One handle a process, since a forked child would share its parent's place in the file.
@lru_cache(maxsize=16)
def _zip(url: str, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(archives.opened(url))
