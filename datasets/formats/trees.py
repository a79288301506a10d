"""Files by their paths, wherever they are: what `files.open_tree` gives for a folder and for an archive alike."""

from __future__ import annotations

import posixpath
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from datasets.refusal import Refusal, nearest
from datasets.source import Pictures

PICTURES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg"}
    | {".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)


@dataclass(frozen=True, slots=True)
class Tree:
    """Files by their path relative to a folder or an archive's root, sorted; hidden ones are left out and counted.

    `empty` are folders without files, as far as the place knows of them. `opener` makes pictures of paths.
    """

    where: str
    names: tuple[str, ...]
    empty: tuple[str, ...]
    hidden: int
    opener: Callable[[Sequence[str]], Pictures]
    inside: str = ""  # what `below` took off the front of the paths

    def __contains__(self, name: str) -> bool:
        place = bisect_left(self.names, name)
        return place < len(self.names) and self.names[place] == name

    def pictures(self, names: Sequence[str]) -> Pictures:
        return self.opener([self.inside + name for name in names])

    def read(self, name: str) -> bytes:
        """A whole file. Raises Refusal where there is none of this name."""
        if name not in self:
            others = [other for other in self.names if not is_picture(other)][:1000]
            raise Refusal(
                f"has no file '{name}'",
                path=self.path(),
                value=name,
                remedy=nearest(name, others, "name the folder or archive that holds it"),
            )
        return self.pictures([name]).read(0)

    def lines(self, name: str) -> list[str]:
        """The lines of a text file, without empty ones. Raises Refusal where it is absent or not UTF-8."""
        return [
            line for line in text(self.read(name), self.path(name)).splitlines() if line.strip()
        ]

    def path(self, name: str = "") -> str:
        """What a person looks for: where the tree is, and the file in it."""
        return f"{self.where}/{self.inside}{name}".rstrip("/")

    def below(self, folder: str) -> Tree:
        """The tree of a folder in it; `folder` ends with '/' or is ''."""
        names = tuple(n.removeprefix(folder) for n in self.names if n.startswith(folder))
        empty = tuple(n.removeprefix(folder) for n in self.empty if n.startswith(folder))
        return replace(self, names=names, empty=empty, inside=self.inside + folder)

    def rooted(self, marker: str) -> Tree:
        """The tree below the topmost folder that holds `marker`: a file, or a folder with its '/'.

        Raises Refusal where none does.
        """
        found = []
        for name in self.names:
            start = f"/{name}".find(f"/{marker}")
            if start >= 0 and (marker.endswith("/") or start + len(marker) == len(name)):
                found.append(name[:start])
        if not found:
            raise Refusal(
                f"has no '{marker}'",
                path=self.path(),
                value=marker,
                remedy="name the folder or archive that holds it, as it was published",
            )
        return self.below(min(found, key=lambda folder: (folder.count("/"), folder)))


def is_picture(name: str) -> bool:
    return posixpath.splitext(name)[1].lower() in PICTURES


def text(data: bytes, path: str) -> str:
    """UTF-8, with or without a byte-order mark. Raises Refusal where it is not."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(
            f"is not UTF-8 text: {error.reason}", path=path, remedy="save it as UTF-8"
        ) from error


def is_hidden(name: str) -> bool:
    """Whether a part of the path starts with a dot, or is what macOS adds to archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def checked_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Sorted. Raises Refusal for a name that a text column cannot hold."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise Refusal(
                "a file's name is not UTF-8",
                path=where,
                value=repr(name),
                remedy=f"rename {name!r}",
            ) from error
    return tuple(sorted(names))
