"""Where a search's records are: a journal file in its folder, or an SQL database that several machines share."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import xxhash

from datasets import store
from datasets.refusal import Refusal

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

logger = logging.getLogger(__name__)

JOURNAL = "search.journal"
VARIABLE = "MANTA_STORAGE"  # a database's URL that holds a password
DATABASES = ("sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql")
WAIT_SECONDS = 60.0  # for SQLite's one writer at a time
PATIENCE_SECONDS = 120.0  # for a server that answered before: it may be started again


def url_of(said: str | None, path: str = "search.storage") -> str | None:
    """The database that the recipe or the environment names. Raises Refusal for a password in a recipe."""
    if said and urlsplit(said).password:
        raise Refusal(
            "a password must stand neither in a recipe nor in a command",
            path=path,
            value=said.replace(urlsplit(said).password or "", "***"),
            remedy=f"put the URL into the environment, as {VARIABLE}",
        )
    return said or os.environ.get(VARIABLE) or None


def is_database(said: str) -> bool:
    """Whether it is a database's URL rather than a path or an object storage's."""
    scheme, there, _ = said.partition("://")
    return bool(there) and scheme.partition("+")[0] in DATABASES


def database(url: str) -> BaseStorage:
    """An SQL database's storage, made where there is none. Raises Refusal where it does not answer."""
    from optuna.storages import RDBStorage
    from sqlalchemy import event

    lite = url.partition("://")[0].partition("+")[0] == "sqlite"
    options: dict[str, Any] = {"pool_pre_ping": True}  # else a server's restart is an error each
    if lite:
        options = {"connect_args": {"timeout": WAIT_SECONDS}}
    try:
        try:
            kept = RDBStorage(url, engine_kwargs=options)
        except silences() as error:
            if "already exists" not in f"{error} {error.__cause__}":
                raise
            kept = RDBStorage(url, engine_kwargs=options)  # another driver has just made the tables
    except silences(ImportError, ValueError) as error:
        raise silent(url, error) from error
    if lite:
        # SQLite has no row locks: between looking at a trial that waits and taking it, another driver could take it too.
        event.listen(kept.engine, "connect", _no_implicit_begin)
        event.listen(kept.engine, "begin", lambda link: link.exec_driver_sql("BEGIN IMMEDIATE"))
        kept.engine.dispose()  # of the connections that were opened before
    else:
        event.listen(kept.engine, "do_connect", _patiently)
    return kept


def _patiently(dialect: Any, record: Any, words: Any, options: Any) -> Any:
    """A connection to a server that answered before, as soon as it does so again."""
    deadline, told = time.monotonic() + PATIENCE_SECONDS, False
    while True:
        try:
            return dialect.connect(*words, **options)
        except dialect.loaded_dbapi.OperationalError as error:
            if time.monotonic() > deadline:
                raise
            if not told:
                said = str(error).strip().splitlines()[0]
                logger.warning("waiting for the database, which does not answer: %s", said)
                told = True
            time.sleep(0.5)


def _no_implicit_begin(link: Any, record: Any) -> None:
    link.isolation_level = None


def silences(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What is raised where a database does not answer, and others."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    return StorageInternalError, SQLAlchemyError, *others


@contextmanager
def answering(url: str | None) -> Iterator[None]:
    """Of a database that was silent for longer than is waited, a Refusal that says so."""
    try:
        yield
    except silences() as error:
        raise silent(url or "", error, "when it does, the same command goes on") from error


def silent(url: str, error: Exception, remedy: str = "") -> Refusal:
    """What to say of a database that does not answer; its URL without a password."""
    from optuna.exceptions import StorageInternalError

    cause = error.__cause__ if isinstance(error, StorageInternalError) else None
    said = str(cause or error).strip().splitlines()[0][:200]
    remedy = remedy or "check the URL (sqlite:////path/to/file.db, postgresql://host/name)"
    if isinstance(error, ImportError):
        remedy = "install the database's driver; PostgreSQL's with pip install -e '.[postgresql]'"
    return Refusal(
        f"the database does not answer: {said}",
        path="search.storage",
        value=urlsplit(url)._replace(netloc=urlsplit(url).hostname or "").geturl(),
        remedy=remedy,
    )


class Journal:
    """The journal of a search folder; of one in object storage a file of this host, copied there.

    For the driver that holds the folder's lock: what one that was killed left half done is taken away.
    """

    def __init__(self, folder: str) -> None:
        self.url = store.join(folder, JOURNAL)
        self.path = store.path_of(self.url) if not store.is_remote(folder) else _own(self.url)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if store.is_remote(folder) and store.exists(self.url):
            self.path.write_bytes(store.read_bytes(self.url))
        _mend(self.path)

    def storage(self) -> BaseStorage:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        return JournalStorage(JournalFileBackend(str(self.path)))

    def keep(self) -> None:
        """Copy it to where the folder is. What is lost of it with a host, its trials' folders still tell."""
        if not store.is_remote(self.url):
            return
        try:
            store.write_bytes(self.url, self.path.read_bytes())
        except Refusal as refusal:
            logger.warning("the journal is not copied now: %s", refusal)


def _own(url: str) -> Path:
    return store.cache_folder() / "searches" / xxhash.xxh3_64_hexdigest(url.encode()) / JOURNAL


def _mend(path: Path) -> None:
    """A killed writer may have left half a line, onto which the next one would write, and the file locked."""
    # Optuna's lock, a link to the journal: it waits 30 s for its release, and for ever where the folder was moved.
    Path(f"{path}.lock").unlink(missing_ok=True)
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
