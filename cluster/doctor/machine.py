"""What any machine can say of itself without torch: its software, its memory, its disks."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from functools import cache
from importlib import metadata
from pathlib import Path

from cluster.doctor.check import Finding
from cluster.environment import PACKAGES
from datasets import store
from datasets.refusal import Refusal
from trainers.rooms import ROOT

MOST_FULL = 0.97  # of a disk that is written to
RAY_MOST_FULL = 0.95  # beyond it Ray takes no more objects: its local_fs_capacity_threshold
LEAST_SHARED_BYTES = 2**30  # containers have 64 MB unless told otherwise
GIB = 2**30
_ROOMS = ("verbs", "search", "cluster", "trainers", "datasets")
_READERS = ("obstore", "s3fs", "simplejpeg", "safetensors")


@cache
def software() -> dict[str, str]:
    """Versions of Python and of what a run needs ("" where it is absent), and the first digits of the checkout's digest."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *_READERS):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return {**found, "checkout": _checkout()}


def _checkout() -> str:
    """The code that runs here: what nodes must have in common, whatever git says of it."""
    files = [ROOT / "launch.py", *(path for room in _ROOMS for path in (ROOT / room).rglob("*.py"))]
    whole = hashlib.sha256()
    for path in sorted(file for file in files if file.is_file()):
        whole.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return whole.hexdigest()[:8]


def memory_bytes() -> int:
    """The memory that processes here may take: the machine's, or its container's."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        path = Path(file)
        text = path.read_text().strip() if path.is_file() else ""
        if text.isdecimal():
            whole = min(whole, int(text))
    return whole


def shared_memory(folder: str = "/dev/shm") -> Finding:
    """Where Ray keeps its objects and NCCL its buffers."""
    if not Path(folder).is_dir():
        return Finding("none here")
    size = shutil.disk_usage(folder).total
    if size >= LEAST_SHARED_BYTES:
        return Finding(folder, size / GIB, "GiB")
    return Finding(
        f"{folder} has {size / 2**20:,.0f} MiB: start the container with --shm-size=8g, or a memory volume there",
        state="warn",
    )


def room(url: str, most_full: float = MOST_FULL) -> float | None:
    """GiB free where a local folder is, or will be; None for a remote one. Raises Refusal where its disk is full."""
    if store.is_remote(url):
        return None
    path = store.path_of(url).expanduser().absolute()
    while not path.exists():
        path = path.parent
    usage = shutil.disk_usage(path)
    if usage.used > most_full * usage.total:
        full = f"the disk is {usage.used / usage.total:.0%} full, {usage.free / GIB:.1f} GiB free"
        raise Refusal(full, path=url, remedy="make room, or name another folder")
    return usage.free / GIB


def cache_folder(data_bytes: int) -> Finding:
    """$MANTA_CACHE can be written, and holds what a run will fetch of `data_bytes` of remote data."""
    from datasets.packed.shelf import cache_bytes  # and numpy, and pyarrow

    folder = store.cache_folder()
    store.probe(str(folder))
    free = room(str(folder)) or 0.0
    held = sum(size for _, size, _ in store.listing(str(folder / "batches"))) if data_bytes else 0
    needed = min(data_bytes, cache_bytes())
    if needed > free * GIB + held:
        raise Refusal(
            f"{free:.1f} GiB free, the data take up to {needed / GIB:.1f} GiB of it",
            path=str(folder),
            value=needed,
            remedy=f"make room, name another disk by MANTA_CACHE, or set MANTA_CACHE_BYTES={int(0.9 * free * GIB)}",
        )
    needs = f" (the data take up to {needed / GIB:.1f})" if needed else ""
    return Finding(f"{folder}{needs}", free, "GiB free")
