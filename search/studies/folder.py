"""A study's folder: `study.yaml`, `study.json`, the tables and the report; its cells are ordinary runs beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from cluster.run import runs_folder
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
        name = f"{study.name}-{study.scale}" if study.scale else study.name
        return cls(store.join(runs_folder(out), name))

    @classmethod
    def open(cls, url: str) -> Folder:
        """The study at a folder. Raises Refusal when there is none."""
        url = store.absolute(str(url).rstrip("/"))
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
        url = store.join(self.url, STUDY)
        return Study.check(read_yaml(store.read_bytes(url).decode(errors="replace"), url))

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
