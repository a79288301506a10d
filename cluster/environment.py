"""Where and with what a run happens: written to env.json, compared when a run is resumed."""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
import platform
import socket
import subprocess
import sys
from importlib import metadata
from typing import Any

from trainers.rooms import ROOT

COMMIT, DIRTY = "MANTA_COMMIT", "+dirty"  # the variable, and how it ends
PACKAGES = ("torch", "torchvision", "ray", "timm", "pyarrow", "numpy", "optuna", "torchmetrics")


def environment() -> dict[str, Any]:
    """Commit, versions and machine, without importing any of the packages named."""
    commit, dirty = commit_of_checkout()
    return {
        "commit": commit,
        "dirty": dirty,
        "code": code(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "hostname": socket.gethostname(),
        "command": " ".join(sys.argv),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def code() -> str:
    """Eight hex digits of the files that decide what a run learns, whatever git knows of them."""
    digest = hashlib.sha256()
    for room in ("cluster", "datasets", "trainers"):
        for file in sorted((ROOT / room).rglob("*.py")):
            digest.update(str(file.relative_to(ROOT)).encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:8]


def commit_of_checkout() -> tuple[str, bool]:
    """(commit, whether files differ from it); ("", False) outside a git checkout."""
    if said := os.environ.get(COMMIT):  # by `submit` or an image, where .git is not shipped
        return said.removesuffix(DIRTY), said.endswith(DIRTY)
    commit = _git("rev-parse", "HEAD")
    return commit, bool(commit and _git("status", "--porcelain", "--untracked-files=no"))


def commit_variable() -> dict[str, str]:
    """What tells the commit where git cannot: to a job, or to a process that begins many runs and asks once."""
    commit, dirty = commit_of_checkout()
    return {COMMIT: f"{commit}{DIRTY if dirty else ''}"} if commit else {}


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@functools.cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
