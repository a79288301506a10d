"""The remote half of `store.py`: fsspec for every scheme, imported when first used, and obstore where s3:// is only read."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from datasets.refusal import Refusal

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from datasets.fetching.objects import Objects

logger = logging.getLogger(__name__)

_REMEDIES = {
    errno.ENOSPC: "free some space, or choose another folder",
    errno.EDQUOT: "free some of your quota, or choose another folder",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ENOTDIR: "a part of this path is a file: choose another folder",
    errno.EISDIR: "this is a folder: name a file",
}
_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "httpx", "httpx2", "httpcore", "huggingface_hub")
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "memory")
_CREDENTIALS = "check the credentials in the environment (AWS_PROFILE, AWS_ACCESS_KEY_ID, ...)"


def redact(url: str) -> str:
    """The URL without a password: what may be printed."""
    scheme, separator, rest = str(url).partition("://")
    return f"{scheme}://***@{rest.rpartition('@')[2]}" if separator and "@" in rest else str(url)


@contextmanager
def explained(done: str, url: str) -> Iterator[None]:
    """Turns the world's errors into Refusals that say what could not be `done` to `url`."""
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not _is_of_a_client(error):
            raise
        raise _refusal(error, done, redact(url)) from error


def _is_of_a_client(error: Exception) -> bool:
    """Whether a storage client raised it: their errors share no class that is cheap to import."""
    return type(error).__module__.split(".")[0] in _CLIENTS


def _refusal(error: Exception, done: str, url: str) -> Refusal:
    remote = "://" in url and not url.startswith("file://")
    number = getattr(error, "errno", None)
    if isinstance(error, FileNotFoundError) and done != "written":
        return Refusal("there is nothing here", path=url, remedy="check the spelling of the path")
    if remote and isinstance(error, FileNotFoundError):  # objects need no folder
        remedy = "create the bucket, or check its name"
        return Refusal(f"cannot be {done}: there is no such bucket", path=url, remedy=remedy)
    if isinstance(error, PermissionError) or "credentials" in str(error).lower():
        remedy = _CREDENTIALS if remote else "check its owner and mode, or choose another folder"
        reason = f" ({error})" if remote else ""
        return Refusal(f"may not be {done}{reason}", path=url, remedy=remedy)
    reason = os.strerror(number) if number else str(error) or type(error).__name__
    s3 = url.startswith(("s3://", "s3a://"))
    network = "check the network and AWS_ENDPOINT_URL" if s3 else "check the network"
    fallback = network if remote else "check the disk"
    return Refusal(
        f"cannot be {done}: {reason}", path=url, remedy=_REMEDIES.get(number or 0, fallback)
    )


class Remote:
    """One remote file or folder. Nothing listed is remembered: other hosts write there too."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if "@" in parts.netloc or (parts.scheme == "s3" and ":" in parts.netloc):
            raise Refusal(
                "a URL must not carry credentials",
                path=redact(url) if "@" in url else f"{parts.scheme}://***",
                remedy="put them in the environment (AWS_PROFILE, AWS_ACCESS_KEY_ID, ...)",
            )
        self.url = url.rstrip("/")

    @cached_property
    def system(self) -> AbstractFileSystem:
        return _file_system(urlsplit(self.url).scheme, self.url)

    @cached_property
    def path(self) -> str:
        return str(self.system._strip_protocol(self.url))

    def exists(self) -> bool:
        with explained("looked at", self.url):
            if found := self._object():
                bucket, key = found
                if bucket.holds(key):
                    return True
            return bool(self.system.exists(self.path))

    def check_bucket(self) -> None:
        """Refuse where the very bucket is missing; who may not list it is not told more."""
        parts = urlsplit(self.url)
        if parts.scheme not in _OBJECT_STORES:
            return
        try:
            self.system.ls(parts.netloc, detail=False)
        except FileNotFoundError:
            raise Refusal(
                "there is no such bucket",
                path=redact(self.url),
                value=parts.netloc,
                remedy="check its name, and AWS_ENDPOINT_URL",
            ) from None
        except Exception as error:  # noqa: BLE001  what was asked first is answered by the caller
            logger.debug("%s cannot be listed: %s", parts.netloc, error)

    def _object(self) -> tuple[Objects, str] | None:
        """Where obstore finds it, which is faster than s3fs to import; None where it cannot be used."""
        from datasets.fetching import objects  # which imports this file

        return objects.place(self.url)

    def names(self) -> list[str]:
        with explained("listed", self.url):
            try:
                found = self.system.ls(self.path, detail=False)
            except FileNotFoundError:
                return []
        inside = self.path.rstrip("/") + "/"
        below = (str(entry).rstrip("/") for entry in found)
        return [entry[len(inside) :] for entry in below if entry.startswith(inside)]

    def listing(self) -> Iterator[tuple[str, int, str]]:
        """(name, bytes, when it changed) of every file below, sorted."""
        with explained("listed", self.url):
            found = self.system.find(self.path, detail=True)
        for path, state in sorted(found.items()):
            name = str(path).removeprefix(self.path).lstrip("/")
            changed = state.get("ETag") or state.get("LastModified") or state.get("mtime") or ""
            yield name, int(state.get("size") or 0), str(changed)

    def read_bytes(self) -> bytes:
        with explained("read", self.url):
            if found := self._object():
                bucket, key = found
                return bucket.read(key)
            return bytes(self.system.cat_file(self.path))

    def modified_seconds(self) -> float:
        with explained("looked at", self.url):
            return float(self.system.modified(self.path).timestamp())

    def write_bytes(self, data: bytes) -> None:
        with explained("written", self.url):
            # Making a folder of an object store would try to make its bucket.
            if urlsplit(self.url).scheme not in _OBJECT_STORES:
                self.system.makedirs(self.path.rpartition("/")[0], exist_ok=True)
            self.system.pipe_file(self.path, data)

    def remove(self) -> None:
        if not urlsplit(self.url).path.strip("/"):
            raise Refusal("a whole bucket is never removed", path=self.url, remedy="name a folder")
        with explained("removed", self.url), suppress(FileNotFoundError):
            self.system.rm(self.path, recursive=True)

    def rename(self, target: Remote) -> None:
        with explained("renamed", self.url):
            for name in self.files():
                end = f"/{name}" if name else ""
                self.system.cp_file(self.path + end, target.path + end)
        self.remove()

    def files(self) -> list[str]:
        """Names of all files below, relative to here; [''] for a file. Refusal when absent."""
        with explained("listed", self.url):
            found = sorted(str(path) for path in self.system.find(self.path))
            if not found:
                raise FileNotFoundError(self.url)
        return [path.removeprefix(self.path).lstrip("/") for path in found]

    def fetch(self, name: str, local_path: Path) -> None:
        """Copies the file `name` below here (or this file, named '') to a local path."""
        with explained("read", self.url):
            self.system.get_file(f"{self.path}/{name}" if name else self.path, str(local_path))

    def upload(self, files: list[tuple[Path, str]]) -> None:
        """Copies local files to their names below here; one named '' becomes this file."""
        if not files:
            return
        with explained("written", self.url):
            targets = [f"{self.path}/{name}" if name else self.path for _, name in files]
            # Two lists of equal length: fsspec then copies several at a time.
            self.system.put([str(file) for file, _ in files], targets)


def _file_system(scheme: str, url: str) -> AbstractFileSystem:
    import fsspec

    options: dict[str, object] = {"use_listings_cache": False}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if scheme in ("s3", "s3a") and endpoint:
        # Named here so that fsspec's cache of file systems does not outlive a change of it.
        options["endpoint_url"] = endpoint
    try:
        return fsspec.filesystem(scheme, **options)
    except (ImportError, ValueError) as error:
        raise Refusal(
            f"'{scheme}://' cannot be opened: {error}",
            path=redact(url),
            value=scheme,
            remedy="use a local path or s3://, or install the package that serves it",
        ) from error
