"""Bytes at local paths and at any fsspec URL (s3://, gs://, memory://, ...): what all rooms use.

A local path never imports fsspec; `datasets/remote.py` does. Credentials and endpoints come from
the environment (AWS_PROFILE, AWS_ENDPOINT_URL, ...), never from a URL. Every function raises
Refusal, with the path and the remedy, for what the world refuses.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from datasets.refusal import Refusal
from datasets.remote import Remote, explained, redact

logger = logging.getLogger(__name__)

# Names being written start with this; they are never listed, mirrored or uploaded.
TEMPORARY = ".tmp-"


def is_remote(url: str) -> bool:
    """Whether the URL has a scheme:// other than file://."""
    scheme, separator, _ = str(url).partition("://")
    return bool(separator) and scheme != "file"


def absolute(url: str) -> str:
    """The same place from every working directory: local paths made absolute, URLs as they are."""
    return url if is_remote(url) else str(path_of(url).expanduser().absolute())


def join(url: str, *names: str) -> str:
    """`url/name/...`; raises Refusal for a name that is absolute or leaves the folder."""
    for name in names:
        if any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name:
            raise Refusal(
                f"'{name}' is not a name inside a folder",
                path=redact(url),
                value=name,
                remedy="use a relative path without '..' and backslashes",
            )
        url = f"{url.rstrip('/')}/{name}" if url else name
    return url


def cache_folder() -> Path:
    """$MANTA_CACHE, or ~/.cache/manta. Everything in it can be deleted at any time."""
    return Path(os.environ.get("MANTA_CACHE") or "~/.cache/manta").expanduser()


def exists(url: str) -> bool:
    """Whether a file or folder is there; remote folders are there while they hold something."""
    if is_remote(url):
        return Remote(url).exists()
    with explained("looked at", url):
        return path_of(url).exists()


def check_bucket(url: str) -> None:
    """Refuse a URL whose bucket is not there: for who found nothing at it."""
    if is_remote(url):
        Remote(url).check_bucket()


def names(url: str) -> list[str]:
    """Names of a folder's entries, sorted; [] when it is absent."""
    if is_remote(url):
        found = Remote(url).names()
    else:
        with explained("listed", url):
            try:
                found = os.listdir(path_of(url))
            except FileNotFoundError:
                found = []
    return sorted(name for name in found if not name.startswith(TEMPORARY))


def listing(url: str) -> Iterator[tuple[str, int, str]]:
    """(name, bytes, when it changed) of every file of a tree, sorted; nothing where it is absent."""
    if is_remote(url):
        yield from Remote(url).listing()
        return
    with explained("listed", url):
        for file, name in sorted(_files(path_of(url)), key=lambda found: found[1]):
            if file.exists():
                state = file.stat()
                yield name, state.st_size, str(state.st_mtime_ns)


def read_bytes(url: str) -> bytes:
    """A whole file."""
    if is_remote(url):
        return Remote(url).read_bytes()
    with explained("read", url):
        return path_of(url).read_bytes()


def modified_seconds(url: str) -> float:
    """When a file was last written, in seconds since 1970."""
    if is_remote(url):
        return Remote(url).modified_seconds()
    with explained("looked at", url):
        return path_of(url).stat().st_mtime


def write_bytes(url: str, data: bytes) -> None:
    """Writes a whole file, atomically: readers see the old bytes or the new. Makes its folder."""
    if is_remote(url):
        return Remote(url).write_bytes(data)
    with explained("written", url), _replacing(path_of(url)) as temporary:
        temporary.write_bytes(data)


@contextmanager
def placing(url: str) -> Iterator[Path]:
    """A local path to write a file at; leaving without an error puts it at `url`, whole or not at all.

    It lies beside `url`, or for a remote one in the system's temporary folder ($TMPDIR).
    """
    if not is_remote(url):
        with explained("written", url), _replacing(path_of(url)) as temporary:
            yield temporary
        return
    with (
        explained("written", tempfile.gettempdir()),
        tempfile.TemporaryDirectory(prefix="manta-", ignore_cleanup_errors=True) as folder,
    ):
        local = Path(folder, "file")
        yield local
        Remote(url).upload([(local, "")])


def remove(url: str) -> None:
    """Removes a file or a tree; absent is fine."""
    if is_remote(url):
        return Remote(url).remove()
    path = path_of(url)
    with explained("removed", url), suppress(FileNotFoundError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def rename(source: str, target: str) -> None:
    """Renames a file or a tree; at a remote place it is copied, then removed.

    Raises Refusal when the target is there already, or is at another place than the source.
    """
    if is_remote(source) != is_remote(target):
        raise Refusal(
            f"cannot be renamed to {redact(target)}",
            path=redact(source),
            value=target,
            remedy="copy it with store.upload or store.download",
        )
    if exists(target):
        raise Refusal(
            "is there already",
            path=redact(target),
            value=target,
            remedy="choose another name or remove it",
        )
    if is_remote(source):
        return Remote(source).rename(Remote(target))
    with explained("renamed", source):
        path_of(target).parent.mkdir(parents=True, exist_ok=True)
        os.rename(path_of(source), path_of(target))


def upload(local_path: str | Path, url: str) -> None:
    """Copies a local file or tree to `url`, over what is there."""
    if is_remote(url):
        return Remote(url).upload(list(_files(Path(local_path))))
    with explained("written", url):
        for file, name in _files(Path(local_path)):
            _copy(file, path_of(url) / name)


def download(url: str, local_path: str | Path) -> None:
    """Copies a file or tree to `local_path`; each file appears whole or not at all."""
    if not is_remote(url):
        return upload(path_of(url), str(local_path))
    remote = Remote(url)
    for name in remote.files():
        target = Path(local_path) / name
        with explained("written", str(local_path)), _replacing(target) as temporary:
            remote.fetch(name, temporary)


def sweep(url: str, *, deep: bool = True) -> None:
    """Removes what killed writers left half-written below, or in, a local folder; only where nobody writes now."""
    if not is_remote(url):
        pattern = f"**/{TEMPORARY}*" if deep else f"{TEMPORARY}*"
        for path in sorted(path_of(url).glob(pattern)):
            remove(str(path))


def probe(url: str) -> None:
    """Writes, reads back and removes a small file; the Refusal says which of them failed."""
    name = f"manta-probe-{uuid.uuid4().hex}"
    file, data = join(url, name), name.encode()
    absent = [] if is_remote(url) else [p for p in (path_of(file)).parents if not p.exists()]
    try:
        write_bytes(file, data)
        if read_bytes(file) != data:
            raise Refusal(
                "what was read back is not what was written",
                path=redact(file),
                remedy="check the storage; nothing can be kept there",
            )
        remove(file)
        if exists(file):
            raise Refusal(
                "a removed file is still there",
                path=redact(file),
                remedy="check the storage; checkpoints could not be pruned",
            )
    finally:
        for folder in absent:  # leave no folder that was not there before
            if folder.exists() and not os.listdir(folder):
                folder.rmdir()


class Mirror:
    """Keeps `url` a copy of a local folder: every `seconds`, at flush() and at close().

    Only files whose size or time changed are copied, and none is removed. The thread never raises:
    it keeps its error in `error` and tries again; flush() and close() raise what is still wrong.
    """

    def __init__(self, folder: str | Path, url: str, *, seconds: float = 30.0) -> None:
        self.folder, self.url, self.seconds = Path(folder), url, seconds
        self.error: Exception | None = None
        self._copied: dict[str, tuple[int, int]] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"mirror {folder}", daemon=True)
        self._thread.start()

    def flush(self) -> None:
        """Copies what changed, now. Raises Refusal when that fails."""
        with self._lock:
            for file, name in _files(self.folder):
                try:
                    state = file.stat()
                    version = (state.st_mtime_ns, state.st_size)
                    if self._copied.get(name) != version:
                        upload(file, join(self.url, name))
                        self._copied[name] = version
                except FileNotFoundError:
                    continue  # removed since it was listed
            self.error = None

    def close(self) -> None:
        """Stops the thread, then copies what changed. Closing twice is fine."""
        self._stop.set()
        self._thread.join()
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _work(self) -> None:
        while not self._stop.wait(self.seconds):
            try:
                self.flush()
            except Exception as error:  # noqa: BLE001 - kept for whoever calls flush()
                if self.error is None:
                    logger.warning("mirror is behind, will try again: %s", error)
                self.error = error


def path_of(url: str) -> Path:
    return Path(unquote(urlsplit(url).path)) if str(url).startswith("file://") else Path(url)


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """The files of a tree with their names relative to it; a file alone is named ''."""
    if not path.is_dir():
        yield path, ""
        return
    for folder, _, found in os.walk(path):
        for name in sorted(found):
            if not name.startswith(TEMPORARY):
                yield (Path(folder, name), Path(folder, name).relative_to(path).as_posix())


class _replacing:
    """A temporary path beside `path`; leaving without an error makes it `path`, durably."""

    def __init__(self, path: Path) -> None:
        self.path, self.temporary = path, path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.temporary

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                _sync(self.temporary)
                os.replace(self.temporary, self.path)
                _sync(self.path.parent)  # or a power cut may forget the rename
        finally:
            self.temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path) -> None:
    with _replacing(target) as temporary:
        shutil.copyfile(source, temporary)
