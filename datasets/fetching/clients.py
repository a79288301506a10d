"""The two clients that `fetch.py` reads with, and one judgement of what they raise."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from datasets.remote import Remote

if TYPE_CHECKING:
    from obstore.store import S3Store

# roleless: an instance's role gave no credentials, for good or for a moment
Kind = Literal["again", "denied", "roleless", "absent", "wrong"]

WHOLE_BYTES = (
    1 << 18
)  # what obstore gathers before it hands over: small enough that its memory is used again
CAREFUL_BYTES = 1 << 14  # after a failure, so that little is lost by the next one
CAREFUL_REQUEST_BYTES = 1 << 20  # fsspec hands over whole answers: after a failure, small ones
_EXPIRED = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId")
_ABSENT = ("NoSuchKey", "NoSuchBucket")
_GIVEN = (  # what obstore reads by itself
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)
_WORDS: dict[str, tuple[Kind, str]] = {  # of obstore's errors, the first that is found
    "non-partial response": ("wrong", "the server ignores byte ranges"),
    "Received redirect": ("wrong", "the server redirects: the region may be another"),
    "kind: Builder": ("wrong", "the endpoint is not a URL that may be asked"),
    "dns error": ("again", "the host's name is not known"),
    "InvalidCertificate": ("again", "the server's certificate is not trusted"),
    "kind: Timeout": ("again", "the server was silent for too long"),
    "kind: Connect": ("again", "no connection"),
    "kind: Interrupted": ("again", "the connection was cut"),
    "kind: Decode": ("again", "the connection was cut"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What kept a range from coming; its words are ours, so no credential is in them."""

    kind: Kind
    words: str


class Client(Protocol):
    """Hands over bytes start .. end-1 of a URL, in order and in one or more pieces."""

    def pieces(self, url: str, start: int, end: int, *, careful: bool) -> Iterator[bytes]: ...


class Obstore:
    """s3:// by obstore. Its own retries are off: only ours know the deadline and the progress."""

    _process: ClassVar[int] = 0  # where its threads are

    def __init__(self, url: str, stall: float) -> None:
        self._store = s3_store(url, stall, retry_config={"max_retries": 0})

    @classmethod
    def is_of_a_parent(cls) -> bool:
        """Whether it was used before this process was forked: every call would hang."""
        return cls._process not in (0, os.getpid())

    def pieces(self, url: str, start: int, end: int, *, careful: bool) -> Iterator[bytes]:
        import obstore

        key = url.partition("://")[2].partition("/")[2]
        answer = obstore.get(self._store, key, options={"range": (start, end)})
        yield from answer.stream(CAREFUL_BYTES if careful else WHOLE_BYTES)


class Fsspec:
    """Every other scheme; its file systems retry by themselves before ours begin."""

    def __init__(self, url: str, *, afresh: bool) -> None:
        if afresh:  # fsspec would hand out the file system that was refused
            type(Remote(url).system).clear_instance_cache()
        self._system = Remote(url).system

    def pieces(self, url: str, start: int, end: int, *, careful: bool) -> Iterator[bytes]:
        path, step = self._system._strip_protocol(url), end - start
        if careful:
            step = min(step, CAREFUL_REQUEST_BYTES)
        for first in range(start, end, step):
            last = min(first + step, end)
            data = bytes(self._system.cat_file(path, start=first, end=last))
            yield data
            if len(data) != last - first:
                return


def s3_store(url: str, stall: float, **options: Any) -> S3Store:
    """obstore's client for a URL's bucket, with the endpoint and the credentials of now."""
    from obstore.store import S3Store

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    if endpoint:
        options["endpoint"] = endpoint
    if not _in_environment() and _in_files():
        options |= _from_files()
    Obstore._process = os.getpid()
    return S3Store(
        url.partition("://")[2].partition("/")[0],
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=min(5.0, stall)),
            "read_timeout": timedelta(seconds=stall),
            # A large range on a slow line is no failure: silence is what is timed.
            "timeout": timedelta(hours=1),
        },
        **options,
    )


def has_credentials() -> bool:
    """Whether there are some but those that an instance's role would give."""
    return _in_environment() or _in_files()


def judged(error: Exception) -> Problem | None:
    """What a client's error means; None where it is a mistake of ours, to be raised as it is."""
    text, origin = str(error), type(error).__module__.split(".")[0]
    of_a_client = origin in ("obstore", "botocore", "aiobotocore", "aiohttp", "asyncio")
    if not of_a_client and not isinstance(error, OSError):
        return None
    status, code = _answer(error, text)
    words = f"status {status} {code}".strip() if status else code
    name = type(error).__name__
    if isinstance(error, FileNotFoundError) or status == 404 or code in _ABSENT:
        return Problem("absent", "there is nothing here")
    refused = isinstance(error, PermissionError) or status in (401, 403) or code in _EXPIRED
    if refused or name in ("PermissionDeniedError", "UnauthenticatedError"):
        return Problem("denied", words or "the credentials were refused")
    if name == "NoCredentialsError" or "/latest/" in text.partition("\n")[0]:
        return Problem("roleless", "there are no credentials, nor a role that gives them")
    if status == 416 or code == "InvalidRange":
        return Problem("wrong", "the file ends before the range that was asked for")
    if 300 <= status < 500 and status not in (408, 429) and code != "RequestTimeout":
        return Problem("wrong", words)
    return Problem("again", words) if words else _transport(error, text)


def _transport(error: Exception, text: str) -> Problem:
    """What happened before a server answered, or in the middle of its answer."""
    for sign, (kind, words) in _WORDS.items():
        if sign in text:
            return Problem(kind, words)
    number = error.errno if isinstance(error, OSError) else None
    if number and number != errno.EIO:
        return Problem("again", os.strerror(number))
    # Before a server answers there is nothing of a credential in the first line, nor in a URL's stead.
    return Problem("again", re.sub(r"\w+://\S+", "...", text.partition("\n")[0])[:200] or "failed")


def _answer(error: BaseException | None, text: str) -> tuple[int, str]:
    """The HTTP status and the error code of S3 that an error, or its cause, carries; or 0, ""."""
    found = re.search(r"status code: (\d{3})", text)
    named = re.search(r"<Code>(\w+)</Code>", text)
    status, code = int(found[1]) if found else 0, named[1] if named else ""
    while error is not None:
        response = getattr(error, "response", None)  # botocore's
        if isinstance(response, dict):
            status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or status)
            code = code or str(response.get("Error", {}).get("Code", ""))
        if isinstance(getattr(error, "status", None), int):  # aiohttp's
            status = status or int(getattr(error, "status"))  # noqa: B009
        error = error.__cause__
    return status, "" if code == str(status) else code


def _in_environment() -> bool:
    return any(os.environ.get(name) for name in _GIVEN)


def _in_files() -> bool:
    """Whether there are AWS's files, which obstore does not read."""
    files = {"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"}
    places = (os.environ.get(name) or f"~/.aws/{file}" for name, file in files.items())
    return any(Path(place).expanduser().exists() for place in places)


def _from_files() -> dict[str, Any]:
    """S3Store's arguments for the profile of AWS_PROFILE, by botocore, which s3fs needs anyway."""
    import botocore.session  # type: ignore[import-untyped]

    session = botocore.session.get_session()
    region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
    credentials = session.get_credentials()
    options: dict[str, Any] = {"region": region} if region else {}
    if credentials is not None:
        options["credential_provider"] = _provider(credentials)
    return options


def _provider(credentials: Any) -> Callable[[], dict[str, Any]]:
    def provide() -> dict[str, Any]:
        now = credentials.get_frozen_credentials()  # of a role: renewed ten minutes before its end
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.now(UTC) + timedelta(minutes=10),
        }

    return provide
