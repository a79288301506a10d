"""Whether all of a study is there already: then its table is drawn without the library that its runs were trained with."""

from __future__ import annotations

import itertools

from cluster.environment import code
from cluster.lock import held
from cluster.run import Run
from datasets import store
from search.studies import arms as arms_of
from search.studies import looking, seeds
from search.studies.arms import Cell
from search.studies.digests import Digests
from search.studies.folder import STUDY, Entry, Folder
from search.studies.study import Study


def whole(study: Study, out: str | None, *, seeds_said: bool = False) -> Folder | None:
    """The folder of a study of which nothing is to be done or to be written down; None where anything may be.

    Raises Refusal for arms that a recipe does not take: nothing more is needed to know them.
    """
    listed = arms_of.arms(study)
    folder = Folder.of(study, out)
    if not store.exists(store.join(folder.url, STUDY)):
        return None
    state = folder.state
    if state.get("status") != "finished" or "sets" not in state or held(folder.url):
        return None
    study, _ = seeds.with_more(study, folder, 0, said=seeds_said)
    if study.plain() != folder.study.plain() or state.get("marks") != looking.marks(study, listed):
        return None
    wanted = {(arm.label, seed) for arm, seed in itertools.product(listed, study.run_seeds)}
    entries = folder.entries
    if {(each.arm, each.seed) for each in entries} != wanted:
        return None
    if not all(_stands(folder, each) for each in entries):
        return None
    if study.seeded:
        cells = arms_of.cells(study, listed)
    else:  # data that no seed changes are the arm's: a hundred recipes need not be made
        cells = [
            Cell(arm.label, seed, arm.recipe)
            for arm, seed in itertools.product(listed, study.run_seeds)
        ]
    return folder if _same_data(cells, entries) else None


def _stands(folder: Folder, entry: Entry) -> bool:
    """Whether a cell's run is there, and would end as it did."""
    run = Run(folder.run_url(entry))
    if entry.diverged:
        return bool(run.json("env.json").get("code") == code())
    return entry.status == "finished" and run.finished


def _same_data(cells: list[Cell], entries: list[Entry]) -> bool:
    digests = Digests()
    now = {(cell.arm, cell.seed): digests.of(cell) for cell in cells}
    return all(each.digest == now[each.arm, each.seed] for each in entries)
