"""Confounds: arms that differ in more than the factor that the study names. They are refused unless allowed by name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from datasets.refusal import Refusal
from datasets.shards import Dataset
from search.results import flatten
from search.studies.arms import Arm, before, left_out
from search.studies.levels import factors_of, paths_of
from search.studies.study import Study
from trainers import build
from trainers.describe import preview, without_weights
from trainers.phase import Optim
from trainers.recipe import Recipe

# What a difference is called, by its path; the first that fits.
KINDS = (
    (r"phases\.\d+\.(epochs|steps)$|^keep\.patience$", "epochs"),
    (r"phases\.\d+\.schedule\b", "schedule"),
    (r"phases\.\d+\.init$", "warm start"),
    (r"model\.(pretrained|weights)\b", "pretraining"),
    (r"(data\.train|phases\.\d+\.data\.train)\b", "augmentation"),
    (r"data\.(splits|fold|held_out|allow_leaks)\b", "split"),
    (r"data\.(source|url|mixture)\b", "data"),
    (r"data\.subset\b", "subset"),
    (r"data\.noise\b", "label noise"),
    (r"data\.cleaned\b", "label cleaning"),
    (r"data\.(batch|lanes|tail)$", "batch"),
    (r"phases\.\d+\.optim\.[^.]+\.(lr|lr_scaling|lr_batch)$", "learning rate"),
    (r"phases\.\d+\.optim\b", "optimizer"),
    (r"phases\.\d+\.train\b", "frozen layers"),
    (r"phases\.\d+\.task\b", "loss"),
    (r"^model\b", "model"),
    (r"^keep\b", "choice of the checkpoint"),
    (r"^evals\b", "evaluation"),
    (r"^scale\.(precision|sync_bn|micro_batch|deterministic|compile|device|workers)$", "numerics"),
)
PARAMETERS, LOSS_SCALE = "parameter count", "loss scale"
# Not of a run's outcome, or another name for the same.
_ASIDE = re.compile(
    r"^(name|rows|seed|log|search|data\.ledger|keep\.(every_|last|best)"
    r"|scale\.(?!precision|sync_bn|micro_batch|deterministic|compile|device|workers))"
)
ROUNDING = 1e-9
_LONG = 160  # letters of one difference


@dataclass(frozen=True)
class Confound:
    """In what arms differ beside the factor: its kind, and each arm's value in words."""

    kind: str
    values: Mapping[str, str]
    path: str = ""

    def __str__(self) -> str:
        grouped: dict[str, list[str]] = {}
        for arm, value in self.values.items():
            grouped.setdefault(value, []).append(arm)
        listed = "; ".join(
            f"{value} ({', '.join(arms) if len(arms) < 4 else f'{len(arms)} arms'})"
            for value, arms in grouped.items()
        )
        where = f" ({self.path})" if self.path else ""
        return f"{self.kind}{where}: {listed}"


def confounds(study: Study, arms: Sequence[Arm], datasets: Mapping[str, Dataset]) -> list[Confound]:
    """Every difference that the study does not name as its factor, allowed or not; `datasets` are by arm."""
    return [*_declared(study, arms), *_derived(arms, datasets)]


def covered(study: Study, arms: Sequence[Arm]) -> list[str]:
    """What differs beneath each named factor that holds differences of several kinds, such as `phases.0`: a line each.

    They are the factor, as the study says so; but whoever reads its table has to know that it is no single thing.
    """
    leaves = {arm.label: _leaves(arm.recipe) for arm in arms}
    paths = dict.fromkeys(path for flat in leaves.values() for path in flat)
    said = []
    for name in sorted(_named(study)):
        met: dict[str, list[Confound]] = {}
        for path in paths:
            values = {arm: _said(flat.get(path, "–")) for arm, flat in leaves.items()}
            beneath = path != name and _beneath(path, name) and not _ASIDE.match(path)
            if beneath and len({*values.values()}) > 1:
                met.setdefault(_kind(path, name), []).append(Confound(_kind(path), values, path))
        if len(met) > 1:
            listed = " | ".join(_short(each) for kind in met.values() for each in kind)
            said.append(f"the factor `{name}` holds {len(met)} kinds of differences: {listed}")
    return said


def _short(found: Confound) -> str:
    """Without its values where those are long."""
    told = str(found)
    return told if len(told) <= _LONG else f"{found.kind} ({found.path})"


def refuse(study: Study, found: Sequence[Confound]) -> None:
    """Raises Refusal for the confounds that are not allowed by name."""
    met = [each for each in found if not allowed(study, each)]
    if not met:
        return
    names = sorted({each.kind for each in met})
    raise Refusal(
        f"arms differ in more than what is compared: {' | '.join(map(str, met[:4]))}"
        + (f" | and {len(met) - 4} more" if len(met) > 4 else ""),
        path="arms",
        value=names,
        remedy="make them equal; or name what belongs to the factor in `vary`, "
        f"or what is known and shall stand beside the table: allow: [{', '.join(names)}]",
    )


def allowed(study: Study, found: Confound) -> bool:
    return any(name in (found.kind, found.path) for name in study.allow) or any(
        fnmatchcase(found.path, name) for name in study.allow if found.path
    )


def check_names(study: Study, arms: Sequence[Arm]) -> None:
    """Refuse `vary` and `allow` that name nothing: a typo would allow what nobody meant."""
    kinds = {kind for _, kind in KINDS} | {PARAMETERS, LOSS_SCALE}
    paths = {path for arm in arms for path in flatten(arm.recipe.plain())}
    for place, names, known in (("vary", study.vary, set()), ("allow", study.allow, kinds)):
        for name in names:
            hits = any(fnmatchcase(path, name) or _beneath(path, name) for path in paths)
            if name not in known and not hits:
                listed = f"a path of the recipe{' or one of ' + ', '.join(sorted(known)) if known else ''}"
                raise Refusal(f"'{name}' names nothing", path=place, value=name, remedy=listed)


def check_seeded(study: Study, arms: Sequence[Arm]) -> None:
    """Refuse a path that shall get the seed where no run has anything on the way to it: its last key would go unlooked at."""
    recipes = [arm.recipe for arm in arms] + [recipe for _, _, recipe in before(study)]
    for path in study.seeded:
        elsewhere = study.scales and path.endswith(".seed")  # another scale may have it
        if not elsewhere and all(left_out(recipe, path) for recipe in recipes):
            raise Refusal(
                f"'{path}' is in no run of the study: what holds it is left out in all of them",
                path="seeded",
                value=path,
                remedy="leave it out, or set what holds it",
            )


def distinct(cells: Sequence[tuple[str, Recipe, str]]) -> None:
    """Refuse two arms whose runs are one and the same; cells are (arm, recipe, digest) of one seed."""
    seen: dict[tuple[str, str], str] = {}
    for arm, recipe, digest in cells:
        key = (recipe.name, recipe.identity(digest))
        if key in seen and seen[key] != arm:
            raise Refusal(
                f"arms '{seen[key]}' and '{arm}' are the same run",
                path="arms",
                value=[seen[key], arm],
                remedy="leave one out, or change something that is learnt by",
            )
        seen[key] = arm


def _declared(study: Study, arms: Sequence[Arm]) -> Iterator[Confound]:
    """Paths whose values differ between arms of equal factors but one, that is, beyond what the factors name."""
    leaves = {arm.label: _leaves(arm.recipe) for arm in arms}
    named = _named(study)
    paths = dict.fromkeys(path for flat in leaves.values() for path in flat)
    for path in paths:
        if _ASIDE.match(path) or any(_beneath(path, name) for name in named):
            continue
        values = {arm: _said(flat.get(path, "–")) for arm, flat in leaves.items()}
        if len({*values.values()}) > 1:
            yield Confound(_kind(path), values, path)


def _named(study: Study) -> set[str]:
    """The paths that are the study's factors: of one that changes several things, those in `vary`."""
    named = {*study.vary}
    for factor in factors_of(study):
        paths = paths_of(study, factor)
        if len(paths) == 1:
            named.add(paths[0])
    # What follows from a factor by itself.
    if "data.batch" in named:
        named.add("data.lanes")
    return named | {path.removesuffix(".name") for path in named if path.endswith(".name")}


def _derived(arms: Sequence[Arm], datasets: Mapping[str, Dataset]) -> Iterator[Confound]:
    """What no path says: how large the models are, how steep the losses, what the splits hold."""
    models = {arm.label: _built(arm.recipe, datasets[arm.label]) for arm in arms}
    counts = {label: f"{count:,}" for label, (count, _) in models.items()}
    if len({*counts.values()}) > 1:
        yield Confound(PARAMETERS, counts)
    scales = {label: steepness for label, (_, steepness) in models.items()}
    if _differ(list(scales.values())):
        # A loss that is k times as large learns as with k times the rate: where rates undo it, all is equal.
        spent = {arm.label: _spent(arm.recipe, scales[arm.label]) for arm in arms}
        if any(_differ(column) for column in zip(*spent.values(), strict=True)):
            told = {
                arm.label: f"x {scales[arm.label]:g} at lr {_main(arm.recipe).lr:g}"
                + f" and weight decay {_main(arm.recipe).weight_decay:g}"
                * any(decay for _, decay in spent.values())
                for arm in arms
            }
            yield Confound(LOSS_SCALE, told)
    rows = {
        arm.label: json.dumps(
            {name: split.rows for name, split in datasets[arm.label].manifest.splits.items()}
        )
        for arm in arms
    }
    # Then it is what is asked about.
    chosen = ("data.subset", "data.extra", "data.learn_from", "data.cleaned")
    if len({*rows.values()}) > 1 and not any(
        path.startswith(chosen) for arm in arms for path in arm.changes
    ):
        yield Confound("split", rows, "rows")


def _built(recipe: Recipe, dataset: Dataset) -> tuple[int, float]:
    """(parameters, how steep the loss is beside a mean over samples and outputs)."""
    shape = build.shape(recipe, dataset.manifest)
    network = preview(without_weights(recipe), shape)
    import torch

    with torch.device("meta"):
        task = build.task(recipe, 0, network, classes=shape.classes)
    steepness = task.steepness(recipe.data.batch, shape.num_classes)
    return sum(parameter.numel() for parameter in network.parameters()), steepness


def _main(recipe: Recipe) -> Optim:
    optim = recipe.phases[0].optim
    return optim.get("main") or next(iter(optim.values()))


def _spent(recipe: Recipe, steepness: float) -> tuple[float, float]:
    """How far a step goes for a unit of the loss's mean, and how far weights decay in it."""
    optim = _main(recipe)
    rate = optim.rate(recipe.data.batch)
    # Those that divide by the gradients' size do not see the scale of a loss.
    steep = steepness if optim.name == "sgd" else 1.0
    return steep * rate, rate * optim.weight_decay


def _differ(values: Sequence[float]) -> bool:
    return any(not math.isclose(value, values[0], rel_tol=ROUNDING) for value in values)


def _leaves(recipe: Recipe) -> dict[str, Any]:
    return flatten(recipe.plain())


def _beneath(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.") or fnmatchcase(path, name)


def _kind(path: str, other: str = "") -> str:
    """What a difference is called; `other`, by default its path, where it has no name of its own."""
    return next((kind for pattern, kind in KINDS if re.match(pattern, path)), other or path)


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)
