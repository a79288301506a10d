"""A study's folder: `study.yaml`, `study.json`, the tables and the report; its cells are ordinary runs beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from datasets import store
from datasets.refusal import Refusal
from search.studies.study import Study
from trainers import summary
from trainers.grammar import read_yaml

STUDY, STATE = "study.yaml", "study.json"


@dataclass
class Entry:
    """A cell as the folder has it; `run` is its run's folder, beside the study's or absolute."""

    arm: str
    seed: int
    run: str
    digest: str
    status: str = "missing"  # missing, running, finished, stopped, failed
    why: str = ""

    @property
    def diverged(self) -> bool:
        """Whether its loss became no number."""
        return self.status == "failed" and " became " in self.why


@dataclass(frozen=True)
class Folder:
    """A study folder, local or s3://."""

    url: str

    @classmethod
    def of(cls, study: Study, out: str | None) -> Folder:
        """Where a study is: one folder for each of its scales."""
        return cls(
            store.join(cls.runs_of(out), study.name + (f"-{study.scale}" if study.scale else ""))
        )

    @staticmethod
    def runs_of(out: str | None) -> str:
        """The folder of run folders, absolute."""
        out = out or os.environ.get("MANTA_OUT") or "runs"
        return out if store.is_remote(out) else os.path.abspath(store.path_of(out).expanduser())

    @classmethod
    def open(cls, url: str) -> Folder:
        """The study at a folder. Raises Refusal when there is none."""
        url = str(url).rstrip("/")
        if not store.is_remote(url):
            url = str(store.path_of(url).expanduser().absolute())
        if not store.exists(store.join(url, STUDY)):
            raise Refusal(
                f"no study here (no {STUDY})",
                path=url,
                value=url,
                remedy="name the folder of a study, or its file",
            )
        return cls(url)

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def study(self) -> Study:
        """As it was run last."""
        text = store.read_bytes(store.join(self.url, STUDY)).decode()
        return Study.check(read_yaml(text, self.url))

    @property
    def state(self) -> dict[str, Any]:
        """study.json: status, seeds, arms, cells, what the guards allowed, seconds."""
        return summary.read_json(self.url, STATE)

    def amend(self, **changes: Any) -> None:
        """Set some keys of the state; None removes one."""
        tree = {**self.state, **changes}
        tree = {key: value for key, value in tree.items() if value is not None}
        store.write_bytes(store.join(self.url, STATE), json.dumps(tree, indent=1).encode())

    @property
    def entries(self) -> list[Entry]:
        return [Entry(**each) for each in self.state.get("cells", ())]

    def write_entries(self, entries: Iterable[Entry], **changes: Any) -> None:
        self.amend(cells=[asdict(entry) for entry in entries], **changes)

    def run_url(self, entry: Entry) -> str:
        """A run beside the study stays beside it when the folder of both is moved."""
        if "/" in entry.run:
            return entry.run
        return store.join(self.url.rpartition("/")[0], entry.run)
