"""Sources packed once: a folder of the cache for each source, its arguments and the files that it reads."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from datasets import pack, store
from datasets.formats.braces import has_braces
from datasets.packed import manifest as manifests
from datasets.packed.manifest import Json
from datasets.progress import Shown, silent
from datasets.refusal import Refusal
from datasets.remote import explained

FORMATS = Path(__file__).parent / "formats"


def ensure(
    source: str,
    args: pack.Arguments,
    *,
    fractions: Mapping[str, float | None],
    seed: int,
    folds: int = 0,
    raw: int | None = None,
    leave_out: bool = False,
    extras: Sequence[str] = (),
    shown: Shown = silent,
) -> str:
    """The URL of the packed source in the cache folder; packs it at the first call, and shows that.

    Its name holds a hash of all that decides the content, the source's own code included. Several
    processes may call at once: each packs to a folder of its own, the first to rename wins.
    """
    args = pack.everywhere(args)  # or the same folder would be packed once for each way to say it
    _, complete = pack.door_of(source, args)
    decides: Json = {
        "format": manifests.FORMAT,
        "source": source,
        "code": _code(source),
        "args": complete,
        "files": _fingerprint(complete),
        "fractions": dict(fractions),
        "folds": folds,
        "raw": raw,
        "seed": seed,
        **({"leave_out": True} if leave_out else {}),
        **({"extra": [*extras]} if extras else {}),
    }
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    folder = store.cache_folder() / "packed" / f"{source}-{key}"
    if not (folder / manifests.NAME).exists():
        with explained("written", f"MANTA_CACHE ({store.cache_folder()})"):
            folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.parent / f"{store.TEMPORARY}{uuid.uuid4().hex}"
        try:
            workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
            told: Any = {"folds": folds, "seed": seed, "raw": raw, "leave_out": leave_out}
            told["extras"] = extras
            with shown(f"pack {source}") as progress:
                told |= {"workers": workers, "progress": progress}
                pack.pack(source, args, str(temporary), splits=fractions, **told)
            _publish(temporary, folder)
        finally:
            with suppress(Refusal):  # what went wrong before says more
                store.remove(str(temporary))
    return str(folder)


def _code(source: str) -> str:
    """A hash of what reads a source: its own file, and what sources share."""
    files = [pack.SOURCES / f"{source}.py", *sorted(FORMATS.glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _fingerprint(args: pack.Arguments) -> str:
    """A hash of the names, sizes and times of the files that a source reads; "" where it names none."""
    found = hashlib.sha256()
    for key in ("path", "root"):
        given = args.get(key)
        if not isinstance(given, str) or not given:
            continue
        if has_braces(given):
            folder = given[: given.index("{")].rpartition("/")[0]
            places = [os.path.expanduser(folder) or "."]
        elif store.is_remote(given):
            places = [given.partition("*")[0].rpartition("/")[0] if "*" in given else given]
        else:
            places = sorted(glob.glob(os.path.expanduser(given))) or [given]
        for place in places:
            listed: list[tuple[str, int, str]] = []
            with suppress(
                Refusal
            ):  # what cannot be listed the source itself refuses, and knows more of it
                listed = list(store.listing(place))
            for name, size, changed in listed:
                found.update(f"{place}\0{name}\0{size}\0{changed}\n".encode())
    return found.hexdigest()


def _publish(temporary: Path, folder: Path) -> None:
    with explained("written", str(folder)):
        try:
            os.rename(temporary, folder)
        except OSError:
            # A folder that is there already is another process's, and holds the same bytes.
            if not (folder / manifests.NAME).exists():
                raise
