"""Published files, fetched once: `fetch()` gives the path of a file whose checksum is right."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import time
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

from datasets import store
from datasets.refusal import Refusal
from datasets.remote import explained

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30.0
_BLOCK_BYTES = 2**20
_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Published:
    """A file at its publisher's; `checksum` is `md5:...` or `sha256:...`, `name` what it is called in the cache folder."""

    url: str
    checksum: str
    name: str

    @property
    def path(self) -> Path:
        """Where it is, or belongs: in the downloads of the cache folder."""
        return store.cache_folder() / "downloads" / self.name


def fetch(file: Published) -> str:
    """The path of the file; downloads it when it is absent. Several processes may call at once.

    Raises Refusal, that names the address and where to put the file, when it cannot be had or is not the published one.
    """
    if not file.path.exists():
        _download(file)
    else:
        with explained("read", str(file.path)):
            found = _digest(file.checksum)
            with file.path.open("rb") as stream:
                while block := stream.read(_BLOCK_BYTES):
                    found.update(block)
        if found.hexdigest() != file.checksum.partition(":")[2]:
            raise _not_it(file, found.hexdigest(), str(file.path))
    return str(file.path)


def _download(file: Published) -> None:
    temporary = file.path.parent / f"{store.TEMPORARY}{uuid.uuid4().hex}"
    with explained("written", str(file.path.parent)):
        file.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        found = _copy(file, temporary)
        if found != file.checksum.partition(":")[2]:
            raise _not_it(file, found, file.url)
        with explained("written", str(file.path)):
            os.replace(temporary, file.path)
    finally:
        temporary.unlink(missing_ok=True)


def _copy(file: Published, target: Path) -> str:
    """Copies from the address to `target`; gives the checksum in hexadecimal."""
    found, copied, told = _digest(file.checksum), 0, time.monotonic()
    logger.info("downloading %s to %s", file.url, file.path)
    try:
        with (
            urllib.request.urlopen(file.url, timeout=TIMEOUT_SECONDS) as response,
            target.open("wb") as stream,
        ):
            total = int(response.headers.get("Content-Length") or 0)
            while block := response.read(_BLOCK_BYTES):
                found.update(block)
                stream.write(block)
                copied += len(block)
                if time.monotonic() - told >= _PROGRESS_SECONDS:
                    told = time.monotonic()
                    share = f" of {total / 1e6:.0f}" if total else ""
                    logger.info("%s: %.0f%s MB", file.name, copied / 1e6, share)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        raise Refusal(
            f"cannot be downloaded: {reason}", path=file.url, value=file.url, remedy=_by_hand(file)
        ) from error
    return found.hexdigest()


def _digest(checksum: str) -> hashlib._Hash:
    kind = checksum.partition(":")[0]
    # Some machines forbid MD5 unless it is said that it guards against accidents alone.
    return hashlib.new(kind, usedforsecurity=False)


def _not_it(file: Published, found: str, path: str) -> Refusal:
    return Refusal(
        f"is not the published file: its checksum is {found}, not {file.checksum} of {file.url}",
        path=path,
        value=found,
        remedy=f"remove it if it is there, and {_by_hand(file)}",
    )


def _by_hand(file: Published) -> str:
    return f"download {file.url} by hand to {file.path}, or say with data.source.path where it is"
