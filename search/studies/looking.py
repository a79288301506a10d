"""A study's folder as it is looked at: what the given file and its words ask, of the runs that are there; and whether anybody is at work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.lock import held
from datasets.refusal import Refusal
from search.studies import arms as arms_of
from search.studies import same, seeds
from search.studies.arms import BEFORE, Arm
from search.studies.folder import Entry, Folder
from search.studies.study import Study

INTERRUPTED = "interrupted"
# Of the data, what `Recipe.identity` leaves to the digest.
_ORIGIN = ("source", "url", "mixture", "splits", "leave_out", "extra")


@dataclass(frozen=True)
class Seen(Folder):
    """A study's folder with another study, or another state, than its files hold."""

    asked: Study
    told: Mapping[str, Any]

    @property
    def study(self) -> Study:
        return self.asked

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.told)

    def amend(self, **changes: Any) -> None:
        """Into the folder's own state: what is merely seen is not written down."""
        Folder(self.url).amend(**changes)


def marks(study: Study, listed: Sequence[Arm]) -> dict[str, str]:
    """Arm, or run before them -> what decides its runs but their seeds and the data's content, as a hash."""
    recipes = {arm.label: arm.recipe for arm in listed}
    for name, seed, recipe in arms_of.before(study):
        one_for_all = seed is None  # then its own seed is of the study, else that of each cell
        recipes[f"{BEFORE}{name}"] = recipe if one_for_all else recipe.override({"seed": 0})
    found = {}
    for place, (label, recipe) in enumerate(recipes.items()):
        data = recipe.data.model_dump(mode="json")
        tree = [study.seeded, study.paired or place, recipe.identity("")]
        text = json.dumps([*tree, *(data.get(key) for key in _ORIGIN)], sort_keys=True, default=str)
        found[label] = hashlib.sha256(text.encode()).hexdigest()[:8]
    return found


def seen(folder: Folder) -> Folder:
    """The folder as its files have it, but that a study whose process died is not running."""
    state = folder.state
    if state.get("status") != "running" or held(folder.url):
        return folder
    cells = [_stopped(each) for each in state.get("cells", ())]
    return Seen(folder.url, folder.study, {**state, "status": INTERRUPTED, "cells": cells})


def asked(
    folder: Folder, study: Study, *, by_folder: bool = False, seeds_said: bool = False
) -> Folder:
    """The given study over the runs of the folder. Raises Refusal where the folder holds another one.

    An arm of which other runs were made than it asks for has none, which a note says.
    """
    if not by_folder:
        same.check(folder, study, scored=False)
    there = seen(folder)
    state, then = there.state, there.study
    study, _ = seeds.with_more(study, folder, 0, said=seeds_said)
    listed = arms_of.arms(study)
    _check_metric(study, listed)
    now, ran = marks(study, listed), state.get("marks") or marks(then, arms_of.arms(then))
    first = [name for name in now if name.startswith(BEFORE)]
    fits = {
        arm.label: now[arm.label] == ran.get(arm.label)
        and all(now[name] == ran.get(name) for name in first if _starts_from(arm, name))
        for arm in listed
    }
    away = [
        Entry(**each) for each in state.get("left_out", ())
    ]  # of seeds that the last run was not asked for
    own = [each for each in [*away, *there.entries] if fits.get(each.arm)]
    by_cell = {(each.arm, each.seed): each for each in own}
    cells = [
        by_cell.get((arm.label, seed), Entry(arm.label, seed, "", ""))
        for seed in study.run_seeds
        for arm in listed
    ]
    left = [
        each
        for each in {each.run: each for each in own}.values()
        if each.seed not in study.run_seeds and (each.status == "finished" or each.diverged)
    ]
    changed = [label for label, fit in fits.items() if not fit and label in ran]
    note = (
        f"of {', '.join(changed)} other recipes have run than the study now asks for: "
        f"`study {folder.url}` has those"
    )
    told = {
        **state,
        "status": _status(state, cells),
        "arms": {arm.label: dict(arm.values) for arm in listed},
        "cells": [asdict(each) for each in cells],
        "left_out": [asdict(each) for each in left],
        "notes": [*state.get("notes", ()), *([note] if changed else [])],
    }
    return Seen(folder.url, study, told)


def _status(state: Mapping[str, Any], cells: Sequence[Entry]) -> str:
    """Of what is asked for: where that is more or less than has run, it has not ended as that has."""
    said = str(state.get("status", "unknown"))
    if all(each.status == "finished" or each.diverged for each in cells):
        return "finished"
    return "incomplete" if said == "finished" else said


def _starts_from(arm: Arm, name: str) -> bool:
    return any(phase.init == name for phase in arm.recipe.phases)


def _stopped(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {**cell, "status": "stopped" if cell["status"] == "running" else cell["status"]}


def _check_metric(study: Study, listed: Sequence[Arm]) -> None:
    for arm in listed:
        if study.metric not in (known := arms_of.scores(arm)):
            raise Refusal(
                f"arm '{arm.label}' has no score '{study.metric}'",
                path="metric",
                value=study.metric,
                remedy=f"it has {', '.join(sorted(known)) or 'none'}",
            )
