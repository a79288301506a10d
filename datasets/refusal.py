"""What Manta says when it refuses: one line with what, where, which value and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class Refusal(ValueError):
    """A mistake of the person at the keyboard, or of the world; never a bug of ours.

    `launch.py` prints it as one line on stderr (or as a JSON object) and exits with code 2.
    `path` is a dotted path of the recipe, a file or a URL; `value` what was found there.
    """

    def __init__(self, error: str, *, path: str = "", value: Any = None, remedy: str = "") -> None:
        self.error, self.path, self.value, self.remedy = error, path, value, remedy
        super().__init__(error)

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        remedy = f" -- {self.remedy}" if self.remedy else ""
        return " ".join(f"{where}{self.error}{remedy}".split())

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions with keyword-only arguments do not survive pickling (Ray's workers) by default.
        return _rebuild, (type(self), self.error, self.path, self.value, self.remedy)

    def as_dict(self) -> dict[str, Any]:
        return {
            "error": self.error,
            "path": self.path,
            "value": self.value,
            "remedy": self.remedy,
        }


def _rebuild(kind: type[Refusal], error: str, path: str, value: Any, remedy: str) -> Refusal:
    return kind(error, path=path, value=value, remedy=remedy)


LISTED = "`python launch.py list` shows what there is"


def nearest(word: str, known: Iterable[str], otherwise: str = LISTED) -> str:
    """A remedy for a misspelt name: the closest known one, all of them when they are few, or `otherwise`."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    if len(names) <= 12:
        return f"known: {', '.join(names)}" if names else "nothing may be said here"
    return otherwise
