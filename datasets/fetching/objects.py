"""Whole objects of s3:// by obstore: a run that only reads there never imports s3fs, which takes half a second."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from datasets.fetching import clients

STALL_SECONDS = 10.0  # how long a request may be silent
_RETRIES = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}


class Objects:
    """One bucket. Raises what the operating system would: FileNotFoundError, PermissionError, OSError."""

    def __init__(self, url: str) -> None:
        self._store = clients.s3_store(url, STALL_SECONDS, retry_config=_RETRIES)

    def read(self, key: str) -> bytes:
        import obstore

        try:
            return bytes(obstore.get(self._store, key).bytes())
        except Exception as error:
            raise _of_the_system(error) from error

    def holds(self, key: str) -> bool:
        """Whether there is an object of that name; a folder is none."""
        import obstore

        try:
            obstore.head(self._store, key)
        except Exception as error:
            if isinstance(found := _of_the_system(error), FileNotFoundError):
                return False
            raise found from error
        return True


def place(url: str) -> tuple[Objects, str] | None:
    """A bucket and the key in it that a URL names; None where obstore cannot be used for it."""
    scheme, _, rest = url.partition("://")
    key = rest.partition("/")[2].rstrip("/")
    plain = key and key.isprintable() and "//" not in key  # obstore knows no other names
    if scheme not in ("s3", "s3a") or not plain or find_spec("obstore") is None:
        return None
    disabled = os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
    if clients.Obstore.is_of_a_parent() or (disabled and not clients.has_credentials()):
        return None
    environment = ((n, value) for n, value in os.environ.items() if n.startswith("AWS_"))
    return _bucket(url[: len(url) - len(rest)] + rest.partition("/")[0], tuple(environment)), key


@lru_cache(maxsize=8)
def _bucket(url: str, environment: tuple[tuple[str, str], ...]) -> Objects:
    """A client costs milliseconds; one made with other credentials, or for another endpoint, is another."""
    return Objects(url)


def _of_the_system(error: Exception) -> Exception:
    """obstore's error in the words of ours, which hold no address that the server answered with."""
    problem: Any = clients.judged(error)
    if problem is None:
        return error
    kinds = {"absent": FileNotFoundError, "denied": PermissionError, "roleless": PermissionError}
    return kinds.get(problem.kind, OSError)(problem.words)
