"""Where a search's records are: a journal file in its folder, or an SQL database that several machines share."""

from __future__ import annotations

import json
import logging
import os
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


def url_of(said: str | None) -> str | None:
    """The database that the recipe or the environment names. Raises Refusal for a password in a recipe."""
    if said and urlsplit(said).password:
        raise Refusal(
            "a recipe must not hold a password",
            path="search.storage",
            value=said.replace(urlsplit(said).password or "", "***"),
            remedy=f"put the URL into the environment, as {VARIABLE}",
        )
    return said or os.environ.get(VARIABLE) or None


def database(url: str) -> BaseStorage:
    """An SQL database's storage. Raises Refusal where it does not answer."""
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return RDBStorage(url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        said = str(error).strip().splitlines()[0][:200]
        raise Refusal(
            f"the database does not answer: {said}",
            path="search.storage",
            value=urlsplit(url)._replace(netloc=urlsplit(url).hostname or "").geturl(),
            remedy="check the URL (sqlite:////path/to/file.db, postgresql://host/name) and its driver",
        ) from error


class Journal:
    """The journal of a search folder; of one in object storage a file of this host, copied there."""

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


def copy(folder: str) -> BaseStorage:
    """The records of a search folder as they are now, to be read: whoever drives the search writes on."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import BaseJournalBackend

    url = store.join(folder, JOURNAL)
    data = store.read_bytes(url) if store.exists(url) else b""
    logs = [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]

    class Copy(BaseJournalBackend):
        def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
            return logs[log_number_from:]

        def append_logs(self, new: list[dict[str, Any]]) -> None:
            raise AssertionError("a copy is only read")

    return JournalStorage(Copy())


def _own(url: str) -> Path:
    return store.cache_folder() / "searches" / xxhash.xxh3_64_hexdigest(url.encode()) / JOURNAL


def _mend(path: Path) -> None:
    """A killed writer may have left half a line, onto which the next one would write."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
