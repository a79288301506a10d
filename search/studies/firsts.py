"""The runs that arms start from: no arm's own, but part of what a study has cost and of where its numbers come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.run import Run
from search.studies.folder import Entry, Folder


@dataclass(frozen=True)
class First:
    """A run before the arms, as it stands; `seed` is that of the cells it is before, None: of all."""

    name: str
    seed: int | None
    run: str
    state: str
    seconds: float
    samples: int
    commit: str
    digest: str


def told(urls: Mapping[tuple[str, int | None], str]) -> list[dict[str, Any]] | None:
    """As study.json has them, of (name, seed) -> folder; they are beside the study's."""
    listed = [
        {"name": name, "seed": seed, "run": url.rsplit("/", 1)[-1]}
        for (name, seed), url in urls.items()
    ]
    return listed or None


def of(folder: Folder, state: Mapping[str, Any]) -> list[First]:
    """Those of a study's folder."""
    found = []
    for each in state.get("before", ()):
        run = Run(folder.run_url(Entry("", 0, each["run"], "")))
        summary = run.summary
        found.append(
            First(
                each["name"],
                each["seed"],
                each["run"],
                str(summary.get("status", "missing")),
                float(summary.get("seconds") or 0.0),
                int(summary.get("samples") or 0),
                str(run.json("env.json").get("commit") or ""),
                str(summary.get("data") or ""),
            )
        )
    return found
