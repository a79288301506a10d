"""Picture files below a folder, local or at any URL, or in an archive: `open_tree()`."""

from __future__ import annotations

import fnmatch
import logging
import os
import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets import store
from datasets.formats import tars, zips
from datasets.formats.braces import expanded, has_braces
from datasets.formats.trees import PICTURES, Tree, checked_names, is_hidden, is_picture
from datasets.refusal import Refusal
from datasets.remote import Remote, explained, redact
from datasets.source import Pictures

logger = logging.getLogger(__name__)

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


class FilePictures:
    """Files below a folder, local or remote; nothing is kept open."""

    def __init__(self, folder: str, names: Sequence[str]) -> None:
        self.folder, self.names = folder, np.array(names, dtype=object)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, row: int) -> bytes:
        return store.read_bytes(store.join(self.folder, self.names[row]))

    def name(self, row: int) -> str:
        return f"{redact(self.folder).rstrip('/')}/{self.names[row]}"


def open_tree(path: str, source: str) -> Tree:
    """The files of a folder or of a .zip or .tar archive, compressed or not, local or at a URL.

    Raises Refusal where `path` is empty (`source` is named), absent, neither of them, or holds unsafe names.
    """
    url = place(path, source)
    if not store.is_remote(url):
        local = store.path_of(url)
        if local.is_dir():
            return _local_folder(url)
        if not local.exists():
            raise Refusal(
                "there is nothing here",
                path=url,
                value=path,
                remedy="check the spelling of the path",
            )
    if url.lower().endswith(ARCHIVES):
        return zips.open_zip(url) if url.lower().endswith(".zip") else tars.open_tar(url)
    if store.is_remote(url):
        return _remote_folder(url)
    raise Refusal(
        "is neither a folder nor an archive",
        path=url,
        value=path,
        remedy=f"name a folder, or one of {' '.join(ARCHIVES)}",
    )


def place(path: str, source: str) -> str:
    """The path with ~ spelled out. Raises Refusal where it is empty."""
    if not path:
        raise Refusal(
            f"source '{source}' needs a path",
            path="data.source.path",
            value=path,
            remedy=f"say data.source={source}:/where/it/is",
        )
    return path if "://" in path else os.path.expanduser(path)


def pictures_of(tree: Tree) -> list[str]:
    """The names that have a picture's suffix; what is left out is counted and logged."""
    found = [name for name in tree.names if is_picture(name)]
    others = Counter(
        posixpath.splitext(name)[1] or "no suffix" for name in tree.names if not is_picture(name)
    )
    if others or tree.hidden:
        words = [f"{count} {suffix}" for suffix, count in sorted(others.items())]
        words += [f"{tree.hidden} hidden"] if tree.hidden else []
        logger.info("%s: %s files are no pictures and left out", tree.path(), ", ".join(words))
    if not found:
        raise Refusal(
            "there are no pictures",
            path=tree.path(),
            value=len(tree.names),
            remedy=f"pictures end in {' '.join(sorted(PICTURES))}",
        )
    return found


def parts_of(path: str, source: str, suffixes: tuple[str, ...]) -> tuple[str, list[str]]:
    """A folder and the names below it that end in a suffix: of one file, of a folder, of `folder/*.tar` or `folder/{0..9}.tar`.

    Raises Refusal where there are none, or where one of those that braces name is missing.
    """
    url = place(path, source)
    folder, _, last = url.rstrip("/").rpartition("/")
    if has_braces(url) and not store.exists(url):
        folder = url[: url.index("{")].rpartition("/")[0]
        names = _braced(folder, url)
    elif any(sign in last for sign in "*?[") and not store.exists(url):
        names = [name for name in store.names(folder or ".") if fnmatch.fnmatchcase(name, last)]
    elif url.lower().endswith(suffixes) and store.exists(url) and not store.path_of(url).is_dir():
        names = [last]
    else:
        tree = open_tree(url, source)
        folder, names = url, [name for name in tree.names if name.lower().endswith(suffixes)]
    if not names:
        raise Refusal(
            f"there is no file that ends in {' or '.join(suffixes)}",
            path=redact(url),
            value=path,
            remedy="name a file, a folder or a pattern such as folder/train-*",
        )
    return folder or ".", names


def _braced(folder: str, url: str) -> list[str]:
    """The names below a folder that a pattern with braces means; each must be there."""
    inside = url[len(folder) :].lstrip("/") if folder else url
    names = expanded(inside)
    there = {
        f"{below}/{name}".lstrip("/")
        for below in dict.fromkeys(name.rpartition("/")[0] for name in names)
        for name in store.names(store.join(folder or ".", below) if below else folder or ".")
    }
    missing = [name for name in names if name not in there]
    if missing:
        raise Refusal(
            f"{len(missing)} of the {len(names)} files are missing, '{missing[0]}' among them",
            path=redact(url),
            value=missing[0],
            remedy="mend the pattern, or bring the files",
        )
    return names


def _local_folder(url: str) -> Tree:
    root, names, empty, hidden = str(store.path_of(url)), [], [], 0
    seen = {os.path.realpath(root)}
    with explained("listed", url):
        # A folder that may not be read is an error, not an absence.
        for folder, below, files in os.walk(root, followlinks=True, onerror=_raise):
            inside = os.path.relpath(folder, root).replace(os.sep, "/")
            prefix = "" if inside == "." else f"{inside}/"
            below[:] = [
                name for name in sorted(below) if _new(os.path.join(folder, name), name, seen)
            ]
            shown = [name for name in files if not is_hidden(name)]
            hidden += len(files) - len(shown)
            names += [prefix + name for name in shown]
            if prefix and not below and not shown:
                empty.append(prefix)
    return Tree(url.rstrip("/"), checked_names(names, url), tuple(empty), hidden, _Opener(url))


def _new(path: str, name: str, seen: set[str]) -> bool:
    """Whether a folder is to be walked: not hidden, and not one that a link leads back to."""
    real = os.path.realpath(path)
    if is_hidden(name) or (os.path.islink(path) and real in seen):
        return False
    seen.add(real)
    return True


def _raise(error: OSError) -> None:
    raise error


def _remote_folder(url: str) -> Tree:
    found = [name for name in Remote(url).files() if not name.endswith("/")]
    if found == [""]:
        raise Refusal(
            "is neither a folder nor an archive",
            path=redact(url),
            value=url,
            remedy=f"name a folder, or one of {' '.join(ARCHIVES)}",
        )
    shown = [name for name in found if name and not is_hidden(name)]
    where = redact(url).rstrip("/")
    return Tree(where, checked_names(shown, where), (), len(found) - len(shown), _Opener(url))


@dataclass(frozen=True, slots=True)
class _Opener:
    folder: str

    def __call__(self, names: Sequence[str]) -> Pictures:
        return FilePictures(self.folder, names)
