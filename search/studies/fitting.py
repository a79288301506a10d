"""Whether arms can be run: what `train` refuses at load is found before any of them trains, once for each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from cluster import opening
from cluster.connection import on_cluster
from cluster.session import check_device
from datasets.refusal import Refusal
from datasets.shards import Dataset
from search.studies import arms as arms_of
from search.studies.arms import BEFORE, Cell
from search.studies.folder import Folder
from search.studies.study import Study
from trainers import feed, rooms
from trainers.recipe import Recipe


def first_of(cells: Sequence[Cell], only: Collection[str]) -> list[Cell]:
    """One cell of each arm, of all or of those that are named."""
    first: dict[str, Cell] = {}
    for cell in cells:
        if not only or cell.arm in only:
            first.setdefault(cell.arm, cell)
    return [*first.values()]


def unproven(cells: Sequence[Cell], folder: Folder, changed: Collection[str]) -> list[Cell]:
    """Those of arms of which no run has come as far as its first step, or none since they were `changed`."""
    proven = {each.arm for each in folder.entries if each.status not in ("missing", "failed")}
    return [cell for cell in cells if cell.arm not in proven or cell.arm in changed]


def check_devices(cells: Sequence[Cell]) -> None:
    """Raises Refusal, with the arm, for a device that this machine has not; a cluster may get one."""
    if on_cluster():
        return
    for cell in cells:
        with _said_of(f"arm '{cell.arm}'"):
            check_device(cell.recipe.scale)


def check(
    study: Study, cells: Sequence[Cell], datasets: Mapping[str, Dataset], folder: Folder
) -> None:
    """Raises Refusal, with the arm, where a recipe does not fit its data."""
    needed = {name for cell in cells for name in cell.starts_from}
    for name, _, recipe in arms_of.before(study):
        if name in needed:
            needed.remove(name)  # they differ in their seeds alone
            with _said_of(f"the run '{name}' before the arms"):
                _check(opening.resolved(recipe), feed.dataset(recipe.data), folder)
    for cell in cells:
        with _said_of(f"arm '{cell.arm}'"):
            rests = bool(cell.starts_from) and _rests(cell.recipe)
            recipe = opening.resolved(_from_nothing(cell.recipe))
            _check(recipe, datasets[cell.arm], folder, orders_alone=rests)


def _rests(recipe: Recipe) -> bool:
    """Whether a task leaves the model as it is: that of a run before it, without which it would be refused."""
    names = (phase.task.name for phase in recipe.phases)
    return any(rooms.door("tasks", name).constants.get("KEEPS_MODEL") for name in names)


def _check(recipe: Recipe, dataset: Dataset, folder: Folder, *, orders_alone: bool = False) -> None:
    if recipe.data.cleans_first:
        return  # its data are known when others have judged them
    plans = opening.plans_of(recipe, dataset, recipe.scale.group[1])
    if orders_alone:
        return
    opening.foreknown(recipe, dataset, plans, f"{folder.url}/runs", None)


def _from_nothing(recipe: Recipe) -> Recipe:
    """Without the runs before it, whose folders are not known yet."""
    changes = {
        f"phases.{index}.init": None
        for index, phase in enumerate(recipe.phases)
        if phase.init and phase.init.startswith(BEFORE)
    }
    return recipe.override(changes) if changes else recipe


@contextmanager
def _said_of(who: str) -> Iterator[None]:
    try:
        yield
    except Refusal as refusal:
        refusal.error = f"{who}: {refusal.error}"
        raise
