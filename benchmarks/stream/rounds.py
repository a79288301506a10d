"""Runs the sides in fresh processes, in turn, round after round."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.stream import peers, processes
from benchmarks.stream.measure import Given
from benchmarks.stream.sides import Side

LOADERS = Path(__file__).parent / "loaders"
LOOK_SECONDS = 0.25  # between looks at the memory
LIMIT_SECONDS = 600
_ERROR = re.compile(r"[\w.]*(Error|Exception|Refusal)\b")
TOKEN = "MANTA_BENCHMARK"  # in the environment of all that a loader starts


class Failed(RuntimeError):
    """A loader ended badly; its last words."""


def run(
    side: Side, action: str, given: Given, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """One process of a side: what it printed, and the most memory that its tree has held. Raises Failed."""
    python = str(peers.python(side.peer)) if side.peer else sys.executable
    # -P and a folder with `benchmarks` alone: our `datasets` would hide Hugging Face's.
    command = [python, "-P", str(LOADERS / f"{side.file}.py"), action, json.dumps(asdict(given))]
    token = uuid.uuid4().hex
    given_environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": _path(given, side),
        "PYTHONWARNINGS": "ignore",
        "HF_HUB_OFFLINE": "1",
        TOKEN: token,
        **(environment or {}),
    }
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command,
            cwd=given.folder,
            env=given_environment,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        most = _watched(process, token)
        out.seek(0)
        err.seek(0)
        lines = [line for line in out.read().decode(errors="replace").splitlines() if line]
        words = err.read().decode(errors="replace").strip()
    if process.returncode or not lines or not lines[-1].startswith("{"):
        raise Failed(f"ended with {process.returncode}: {_reason(words)}")
    return {**json.loads(lines[-1]), **most}


def _reason(words: str) -> str:
    """The first error of a traceback, which the others follow from."""
    errors = [line for line in words.splitlines() if _ERROR.match(line)]
    return (errors or words.splitlines() or ["no words"])[0][:300]


def _watched(process: subprocess.Popen[bytes], token: str) -> dict[str, float]:
    """Waits, looking at the memory of the tree; ends what the process leaves behind."""
    most = {"rss_mb": 0.0, "pss_mb": 0.0}
    left: set[int] = set()
    timer = threading.Timer(LIMIT_SECONDS, process.kill)
    timer.start()
    try:
        while process.poll() is None:
            left.update(processes.tree(process.pid))
            for name, value in zip(most, processes.memory_mb(process.pid), strict=True):
                most[name] = max(most[name], value)
            try:
                process.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    finally:
        timer.cancel()
        process.kill()  # where we are interrupted
        process.wait()
        for number in left - {process.pid}:
            _end(number, token)
    return most


def _end(number: int, token: str) -> None:
    """A descendant that outlived its loader; never another's process that has its number by now."""
    try:
        if token in Path(f"/proc/{number}/environ").read_text(errors="replace"):
            os.kill(number, signal.SIGKILL)
    except OSError:
        pass


def _path(given: Given, side: Side) -> str:
    if side.file == "manta":
        return str(peers.ROOT)
    path = Path(given.folder, "path")
    path.mkdir(exist_ok=True)
    link = path / "benchmarks"
    if not link.is_symlink():
        link.symlink_to(LOADERS.parents[1])
    return str(path)
