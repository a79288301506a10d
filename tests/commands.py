"""The command line in this process, and what it said."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


def cli(*words: object) -> Said:
    """`cli("train", ...)`: launch.py in this process."""
    import launch

    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            launch.app([str(word) for word in words])
        except SystemExit as exit_:
            code = exit_.code
    return Said(int(str(code or 0)), out.getvalue(), err.getvalue())
