"""`shard-{000..009}.tar` and `{train,val}-0.tar`: the names that a shell, and WebDataset's own users, mean by them."""

from __future__ import annotations

import re

from datasets.refusal import Refusal

MOST = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def has_braces(pattern: str) -> bool:
    return _BRACES.search(pattern) is not None


def expanded(pattern: str) -> list[str]:
    """All names of a pattern, the last braces running fastest; itself where it has none.

    Raises Refusal for braces that are no list and no range, and for more than a million names.
    """
    found = [pattern]
    while braces := _BRACES.search(found[0]):
        choices = _choices(braces[1], pattern)
        if len(found) * len(choices) > MOST:
            raise _refusal(pattern, f"means more than {MOST:,} files")
        found = [name.replace(braces[0], choice, 1) for name in found for choice in choices]
    return found


def _choices(inside: str, pattern: str) -> list[str]:
    ends = _RANGE.fullmatch(inside)
    if ends:
        first, last = int(ends[1]), int(ends[2])
        if not 0 <= last - first < MOST:
            raise _refusal(pattern, f"has a range from {first} to {last}")
        padded = ends[1] if len(ends[1]) == len(ends[2]) else ""
        return [str(number).zfill(len(padded)) for number in range(first, last + 1)]
    if "," not in inside:
        raise _refusal(pattern, f"has braces around '{inside}'")
    return inside.split(",")


def _refusal(pattern: str, error: str) -> Refusal:
    return Refusal(
        f"the pattern {error}",
        path=pattern,
        value=pattern,
        remedy="write {000..009} or {one,two}",
    )
