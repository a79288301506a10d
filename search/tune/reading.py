"""Studies of other searches, and of those that run, opened to be read: their drivers go on writing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import Study

from datasets import store
from datasets.refusal import Refusal
from search.tune import storage
from search.tune.folder import Folder


class Log(BaseJournalBackend):
    """A journal, local or in object storage, that nothing is ever written to."""

    def __init__(self, url: str) -> None:
        self.url = url

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        # What follows the last line's end is half a line, which its driver is about to end.
        whole = store.read_bytes(self.url).split(b"\n")[:-1]
        return [json.loads(line) for line in whole[log_number_from:]]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise Refusal(
            "is only read", path=self.url, value=self.url, remedy="leave it to its driver"
        )


def of_folder(folder: Folder) -> Study:
    """The study of a search folder. Raises Refusal where it has none yet."""
    search = folder.recipe.search
    said = search.storage if search else None
    journal = store.join(folder.url, storage.JOURNAL)
    # What the environment names now may not be where a search of a journal is.
    if not said and store.exists(journal):
        # It holds one study, which is named as the folder was before somebody moved it.
        return _study(JournalStorage(Log(journal)), "", folder.url)
    url = storage.url_of(said)
    if url is None:
        raise Refusal(
            "the search has no records yet",
            path=folder.url,
            value=folder.name,
            remedy="wait for its first trial",
        )
    return _study(_database(url), str(folder.state.get("study") or folder.name), folder.url)


def named(said: str, own: str | None) -> Study:
    """The study of a search folder, of `URL#study`, or of `#study` in the database `own`."""
    url, there, name = said.rpartition("#")
    if not there and not storage.is_database(said):
        return of_folder(Folder.open(said))
    url = url if there else said
    storage.url_of(url, "search.warm")
    if not url and not own:
        raise Refusal(
            "this search has no database",
            path="search.warm",
            value=said,
            remedy=f"write URL{said}, or name search.storage",
        )
    return _study(_database(url or str(own)), name if there else "", said)


def _study(kept: BaseStorage, name: str, place: str) -> Study:
    """The only one where no name is said."""
    names = [study.study_name for study in kept.get_all_studies()]
    if not name and len(names) == 1:
        (name,) = names
    if name not in names:
        listed = ", ".join(names[:8]) or "none"
        raise Refusal(
            f"no study '{name}' there" if name else "the study is not named",
            path=place,
            value=name,
            remedy=f"write URL#study; it has {listed}",
        )
    return optuna.load_study(study_name=name, storage=kept)


def _database(url: str) -> BaseStorage:
    """A database that is there: none is made, nor are its tables."""
    file = urlsplit(url).path[1:] if url.startswith("sqlite") else ""
    if file and not Path(file).is_file():
        raise Refusal("no such file", path=url, value=file, remedy="check the database's URL")
    try:
        return RDBStorage(url, skip_table_creation=True)
    except storage.silences(ImportError, ValueError, RuntimeError) as error:
        raise storage.silent(url, error) from error
