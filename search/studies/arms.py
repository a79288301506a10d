"""From a study file to its arms and cells: every combination of arms, factors and recipes, each with every seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import store
from datasets.refusal import Refusal, nearest
from search.studies.fields import Changes
from search.studies.levels import factors_of
from search.studies.study import Study
from trainers.grammar import ORIGINS
from trainers.recipe import Recipe
from trainers.rooms import ROOT

BEFORE = "before."
_APART = 1_000_003  # between the seeds of arms that are not paired


@dataclass(frozen=True)
class Arm:
    """One of the things that are compared; `recipe` is that of its runs but for their seeds."""

    label: str
    values: Mapping[str, Any]  # of each factor
    changes: Changes
    recipe: Recipe


@dataclass(frozen=True)
class Cell:
    """One run of a study. Its recipe names a run that has to be before it as `before.NAME`."""

    arm: str
    seed: int
    recipe: Recipe

    @property
    def starts_from(self) -> list[str]:
        """The names of the runs that have to be before it."""
        return [
            phase.init.removeprefix(BEFORE)
            for phase in self.recipe.phases
            if phase.init and phase.init.startswith(BEFORE)
        ]

    def after(self, urls: Mapping[str, str]) -> Recipe:
        """The recipe with the folders of the runs that were before it."""
        changes = {
            f"phases.{index}.init": urls[phase.init.removeprefix(BEFORE)]
            for index, phase in enumerate(self.recipe.phases)
            if phase.init and phase.init.startswith(BEFORE)
        }
        return self.recipe.override(changes) if changes else self.recipe


def arms(study: Study) -> list[Arm]:
    """Every combination, in the order of the file. Raises Refusal, with the arm, where a recipe does not take one."""
    factors = factors_of(study)
    found: list[Arm] = []
    bases: dict[str, Recipe] = {}
    for levels in itertools.product(*factors.values()):
        changes: Changes = {}
        for level in levels:
            changes |= level.changes
        label = ", ".join(level.label for level in levels)
        if "seed" in {*changes, *study.set, *study.sized.set}:
            raise Refusal(
                "the seeds are the study's",
                path="seed",
                value=changes.get("seed"),
                remedy="say seeds: [...]",
            )
        values = dict(zip(factors, (level.value for level in levels), strict=True))
        path = study.sized.recipe or _recipe_of(study, values)
        if path not in bases:  # a mistake in it is no arm's own
            bases[path] = _base(path, study)
        try:
            recipe = bases[path].override(changes)
        except Refusal as refusal:
            raise _in_arm(label, refusal) from None
        _check_before(study, label, recipe)
        if label in [arm.label for arm in found]:
            raise Refusal(
                f"two arms are called '{label}'",
                path="arms",
                value=label,
                remedy="name the values of the factor: {label: {dotted.path: value}}",
            )
        found.append(Arm(label, values, changes, recipe))
    if len(found) == 1:
        raise Refusal(
            f"there is one arm alone, '{found[0].label}': nothing is compared",
            path="arms",
            value=found[0].label,
            remedy="add another one, or values to a factor",
        )
    _check_names(study, [arm.label for arm in found])
    _check_all_used(study, found)
    if study.compare not in ("baseline", "all", *factors):
        raise Refusal(
            f"'{study.compare}' is no factor",
            path="compare",
            value=study.compare,
            remedy=nearest(study.compare, ["baseline", "all", *factors]),
        )
    return found


def cells(study: Study, listed: list[Arm]) -> list[Cell]:
    """Seed by seed, so that all arms have a run before one has two."""
    return [
        Cell(arm.label, seed, seeded(study, arm.recipe, own_seed(study, seed, place)))
        for seed in study.run_seeds
        for place, arm in enumerate(listed)
    ]


def own_seed(study: Study, seed: int, place: int) -> int:
    """The seed of a run of the arm at `place`: the study's, of arms that are not paired one of its own."""
    return seed if study.paired else seed + _APART * place


def seeded(study: Study, recipe: Recipe, seed: int) -> Recipe:
    """The recipe of one run. A path in what this recipe leaves out, such as the seed of a noise it lacks, is none of its."""
    own = [path for path in study.seeded if not left_out(recipe, path)]
    return recipe.override({"seed": seed, **dict.fromkeys(own, seed)})


def left_out(recipe: Recipe, path: str) -> bool:
    """Whether a key on the way to the last one of a dotted path is known and null."""
    node: Any = recipe.plain()
    for key in path.split(".")[:-1]:
        if not isinstance(node, dict) or key not in node:
            return False  # a mistake, which `override` tells
        node = node[key]
    return node is None


def scores(arm: Arm) -> set[str]:
    """The scores that its runs end with: what is measured on val is measured on test too, at the end."""
    known = arm.recipe.scores()
    return known | {score.replace("val/", "test/", 1) for score in known}


def before(study: Study) -> Iterator[tuple[str, int | None, Recipe]]:
    """(name, the seed of whose cells it is before, recipe) of the runs that others start from; None: of all."""
    for name, said in study.before.items():
        loaded = _loaded(said.recipe, f"before.{name}.recipe")
        try:
            base = loaded.override({"search": None}, _moved(study, loaded), said.set)
        except Refusal as refusal:
            raise _in_before(name, said.set, refusal) from None
        if said.seed is not None:
            yield name, None, base.override({"seed": said.seed})
            continue
        for seed in study.run_seeds:
            yield name, seed, seeded(study, base, seed)


def _moved(study: Study, recipe: Recipe) -> Changes:
    """Where the study says its data lie, for a run before it whose recipe reads the same source."""
    paths = [study.sized.recipe] if study.sized.recipe else [study.recipe]
    paths = [
        each for path in paths for each in (path.values() if isinstance(path, dict) else [path])
    ]
    if all(_loaded(path, "recipe").data.source != recipe.data.source for path in paths):
        return {}
    said = {**study.set, **study.sized.set}
    return {path: said[path] for path in ORIGINS if path in said}


def _recipe_of(study: Study, values: Mapping[str, Any]) -> str:
    return study.recipe if isinstance(study.recipe, str) else study.recipe[values["recipe"]]


def _base(path: str, study: Study) -> Recipe:
    # A search or a rows list is of the recipe itself, not of what is compared.
    found = _loaded(path, "recipe").override({"search": None})
    return found.override(study.set).override(study.sized.set)


def _loaded(path: str, place: str) -> Recipe:
    """A recipe by its path from here, or from the checkout."""
    at = path
    if not store.is_remote(path) and not store.exists(path):
        at = str(Path(ROOT, path))
    if not store.exists(at):
        raise Refusal(
            f"no such recipe, '{path}'",
            path=place,
            value=path,
            remedy="`python launch.py list recipes`",
        )
    return Recipe.load(at)


def _in_arm(label: str, refusal: Refusal) -> Refusal:
    return Refusal(
        f"arm '{label}': {refusal.error}",
        path=refusal.path,
        value=refusal.value,
        remedy=refusal.remedy,
    )


def _in_before(name: str, changes: Changes, refusal: Refusal) -> Refusal:
    """A mistake in what a run before the arms changes, by its place in the study."""
    own = refusal.path if refusal.path in changes else ""
    return Refusal(
        f"before '{name}': {refusal.error}",
        path=f"before.{name}.set.{own}" if own else refusal.path,
        value=refusal.value,
        remedy=refusal.remedy,
    )


def _check_before(study: Study, label: str, recipe: Recipe) -> None:
    for index, phase in enumerate(recipe.phases):
        name = (phase.init or "").removeprefix(BEFORE)
        if phase.init and phase.init.startswith(BEFORE) and name not in study.before:
            raise Refusal(
                f"arm '{label}' starts from '{name}', which is not in `before`",
                path=f"phases.{index}.init",
                value=phase.init,
                remedy=nearest(name, study.before)
                if study.before
                else f"add before: {{{name}: {{recipe: ...}}}}",
            )


def _check_all_used(study: Study, listed: Sequence[Arm]) -> None:
    """Refuse a run that no arm starts from: its name may be mistyped where one should."""
    begun = {phase.init for arm in listed for phase in arm.recipe.phases}
    for name in study.before:
        if BEFORE + name not in begun:
            raise Refusal(
                "no arm starts from this run",
                path=f"before.{name}",
                value=name,
                remedy=f"say phases.0.init: {BEFORE}{name} in `set` or in an arm, or leave it out",
            )


def _check_names(study: Study, known: list[str]) -> None:
    said = {"baseline": [study.baseline], "claims": []}
    said["claims"] = [
        name
        for claim in study.claims
        if claim.scale in (None, study.scale)  # arms of another scale are looked at there
        or not study.scales
        for name in (claim.arm, claim.over)
    ]
    for place, names in said.items():
        for name in names:
            if name is not None and name not in known:
                raise Refusal(
                    f"there is no arm '{name}'",
                    path=place,
                    value=name,
                    remedy=nearest(name, known),
                )
