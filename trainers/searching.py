"""A recipe's `search:` block: what is sought, over which space, with which means."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from datasets.refusal import Refusal, nearest
from trainers.grammar import SCORE
from trainers.part import Frozen, SamplerPart, SchedulerPart
from trainers.space import ABSENT, Condition, Dimension, Space, at

if TYPE_CHECKING:
    from trainers.recipe import Recipe

COSTS = ("parameters", "multiply_adds", "latency")  # objectives that are no scores
# What a checkpoint of another value does not fit: steps of an epoch, phases, whole parts.
_FIXED = re.compile(
    r"^(data\.(batch|source|url|mixture)|seed|scale|keep|evals)\b|^model(\.name)?$"
    r"|^phases\.\d+\.(epochs|steps|train|init|data)\b|^phases\.\d+\.task(\.name)?$"
)
# How a run is named, judged and carried out: equal for all trials, or they could not be compared, or found room for.
_NOT_LEARNT = re.compile(
    r"^(name|rows|log|evals|search|scale\.(workers|placement|wait_seconds|device|threads|readers|hang_seconds)"
    r"|keep\.(metric|mode|last|best|every_steps|every_seconds))\b"
)
Share = Annotated[float, Field(gt=0, le=1)]


def _not_of_test(metric: str | None) -> str | None:
    if metric and metric.startswith("test/"):
        raise ValueError("nothing is ever chosen by a test metric: use a val/ metric")
    return metric


class Objective(Frozen):
    """One of several things that are sought at once."""

    metric: Annotated[str, Field(pattern=rf"{SCORE}|^({'|'.join(COSTS)})$")]
    mode: Literal["max", "min"] = "max"
    _no_test = field_validator("metric")(_not_of_test)


class Search(Frozen):
    """A search over one's own recipe; a run of the recipe does not look at it."""

    metric: Annotated[str, Field(pattern=SCORE)] | None = Field(
        None, description="default keep.metric"
    )
    mode: Literal["max", "min"] | None = Field(None, description="default keep.mode")
    objectives: list[Objective] = Field([], description="several at once, instead of metric")
    trials: PositiveInt | None = Field(None, description="default 20, where no time is said either")
    seconds: PositiveFloat | None = Field(None, description="no trial is begun after these")
    sampler: SamplerPart = SamplerPart(name="tpe")
    scheduler: SchedulerPart = SchedulerPart(name="none")
    space: dict[str, Any] = Field(min_length=1, description="dotted.path: distribution(...)")
    first: list[dict[str, Any]] = Field([], description="points to try before the sampler's")
    warm: list[str] = Field(
        [], description="search folders, or URL#study, whose trials the sampler knows beforehand"
    )
    seeds: PositiveInt = Field(1, description="runs of each trial, whose mean counts")
    retrain: NonNegativeInt = Field(3, description="seeds that the winner is trained anew with")
    parallel: PositiveInt | None = Field(None, description="trials at a time; default what fits")
    gpus: Share = Field(1.0, description="of a GPU, that a trial of one worker takes")
    storage: str | None = Field(None, description="an SQL database's URL; default a journal file")
    _no_test = field_validator("metric")(_not_of_test)

    def goals(self, recipe: Recipe) -> list[Objective]:
        """What is sought, in order; the first score chooses checkpoints."""
        if self.objectives:
            return self.objectives
        metric = self.metric or recipe.keep.metric
        if metric is None:
            raise Refusal(
                "there is nothing to search for",
                path="search.metric",
                remedy="say search.metric or keep.metric, such as val/accuracy",
            )
        return [Objective(metric=metric, mode=self.mode or recipe.keep.mode)]

    @property
    def budget(self) -> int | None:
        """Trials at most; None where only the time ends it."""
        return self.trials or (None if self.seconds else 20)


def check(recipe: Recipe) -> None:
    """Refuse a search that could not work: paths that are not there, values that the recipe does not take."""
    search = recipe.search
    assert search
    if search.metric and search.objectives:
        raise Refusal(
            "metric and objectives are both said", path="search.objectives", remedy="say one"
        )
    base = recipe.override({"search": None})
    goals = search.goals(recipe)
    known = {*base.scores(), *COSTS}
    for goal in goals:
        if goal.metric not in known:
            raise Refusal(
                f"no evaluator gives '{goal.metric}'",
                path="search.metric",
                value=goal.metric,
                remedy=nearest(goal.metric, known),
            )
    if not any(goal.metric not in COSTS for goal in goals):
        raise Refusal("no objective is a score", path="search.objectives", remedy="add a val/ one")
    space = Space.parse(search.space)
    for path in (*space.constants, *(dimension.path for dimension in space.dimensions)):
        if _NOT_LEARNT.search(path):
            raise Refusal(
                "is no part of what is learnt: it would only bring trials of other kinds together",
                path=f"search.space.{path}",
                value=path,
                remedy="leave it out, and say it for all trials",
            )
    try:
        base = base.override(dict(space.constants))
    except Refusal as refusal:
        raise Refusal(
            refusal.error,
            path=f"search.space.{refusal.path}",
            value=refusal.value,
            remedy=refusal.remedy,
        ) from None
    _check_space(base, space)
    if len(goals) > 1 and search.scheduler.name not in ("none", "pbt"):
        raise Refusal(
            "ends trials early by one score, and there are several objectives",
            path="search.scheduler",
            value=search.scheduler.name,
            remedy="leave the scheduler out, or say search.metric",
        )
    if search.scheduler.name == "pbt":
        _check_population(recipe, search, space)
    for index, point in enumerate(search.first):
        _check_point(base, space, point, index)
        if point in search.first[:index]:
            raise Refusal(
                "this point is there already",
                path=f"search.first.{index}",
                value=str(point),
                remedy="leave one of them out",
            )


def _check_space(base: Recipe, space: Space) -> None:
    """Every value that a dimension's ends or choices name, beneath the conditions that it asks for."""
    paths = {dimension.path: dimension for dimension in space.dimensions}
    if not paths:
        raise Refusal(
            "every value is a constant: there is nothing to search",
            path="search.space",
            remedy="write a distribution, such as loguniform(1e-4, 1e-1) or choice(sgd, adam)",
        )
    for dimension in space.dimensions:
        under: dict[str, Any] = {}
        for condition in dimension.conditions:
            if condition.path not in paths and at(base.plain(), condition.path) is ABSENT:
                raise Refusal(
                    f"the condition asks about '{condition.path}', which is neither in the space nor in the recipe",
                    path=f"search.space.{dimension.path}",
                    value=condition.path,
                    remedy=nearest(condition.path, paths),
                )
            _check_condition(base, paths, dimension, condition)
            if condition.path in paths and condition.example is not ABSENT:
                under[condition.path] = condition.example
        # A part's argument must be there for whatever part may be drawn, unless a condition says when.
        asked = {condition.path for condition in dimension.conditions}
        names = [each for each in space.dimensions if _beside(each, dimension)]
        for other in (each for each in names if each.path not in asked):
            for name in other.values:
                drawn = {**under, other.path: name}
                remedy = f"add `if {other.path} == ...` to where it belongs"
                _check_values(base, dimension, drawn, f"with {other.path}={name}: ", remedy)
            under[other.path] = other.values[0]
        _check_values(base, dimension, under)


def _check_condition(
    base: Recipe, paths: dict[str, Dimension], dimension: Dimension, condition: Condition
) -> None:
    """Refuse one that no value of what it asks about can meet: the dimension would be in no trial."""
    asked = paths.get(condition.path)
    values = asked.grid if asked else (at(base.plain(), condition.path),)
    if values and not any(condition.holds({condition.path: each}.get) for each in values):
        listed = ", ".join(map(str, values[:8]))
        raise Refusal(
            f"the condition never holds: '{condition.path}' is {listed}",
            path=f"search.space.{dimension.path}",
            value=condition.path,
            remedy="mend the condition, or leave the dimension out",
        )


def _check_population(recipe: Recipe, search: Search, space: Space) -> None:
    """Members go on from each other's checkpoints: one process each, one curve, epochs of the same steps."""
    wrong = {
        "search.seeds": (search.seeds > 1, "a member is one run", "set search.seeds=1"),
        "search.objectives": (len(search.objectives) > 1, "members are compared by one score", "say search.metric"),
        "scale.workers": (recipe.scale.group[1] > 1, "members are runs of one worker", "set scale.workers=1"),
    }  # fmt: skip
    for path, (is_wrong, why, remedy) in wrong.items():
        if is_wrong:
            raise Refusal(
                f"{why} in population-based training",
                path=path,
                value=at(recipe.plain(), path),
                remedy=f"{remedy}, or another scheduler",
            )
    quantile = search.scheduler.arguments.get("quantile", 0.25)
    if search.budget and search.budget * quantile < 1:
        raise Refusal(
            f"{quantile:g} of {search.budget} members is nobody, so none would ever make way",
            path="search.trials",
            value=search.budget,
            remedy=f"at least {math.ceil(1 / quantile)} members, or a larger search.scheduler.quantile",
        )
    for dimension in space.dimensions:
        if _FIXED.search(dimension.path):
            raise Refusal(
                "cannot change in the middle of a run, as population-based training would",
                path=f"search.space.{dimension.path}",
                value=dimension.path,
                remedy="leave it out, or use another scheduler",
            )


def _beside(name: Dimension, dimension: Dimension) -> bool:
    """Whether one is the name of the part that the other is an argument of."""
    part, dot, last = name.path.rpartition(".")
    return last == "name" and dimension.path.startswith(part + dot) and name is not dimension


def _check_values(
    base: Recipe, dimension: Dimension, under: dict[str, Any], where: str = "", remedy: str = ""
) -> None:
    for value in dimension.examples:
        try:
            base.override({**under, dimension.path: value})
        except Refusal as refusal:
            raise Refusal(
                f"{where}{refusal.error}",
                path=f"search.space.{dimension.path}",
                value=refusal.value,
                remedy=remedy if remedy and "unknown key" in refusal.error else refusal.remedy,
            ) from None


def _check_point(base: Recipe, space: Space, point: dict[str, Any], index: int) -> None:
    paths = {dimension.path for dimension in space.dimensions}
    place = f"search.first.{index}"
    for path in point:
        if path not in paths:
            raise Refusal(
                "is no dimension of the space",
                path=f"{place}.{path}",
                value=path,
                remedy=nearest(path, paths),
            )
    for dimension in space.dimensions:
        there = space.applies(dimension, point.get, base.plain())
        if there and dimension.path not in point:
            raise Refusal(
                f"lacks {dimension.path}", path=place, value=None, remedy="say a value for it"
            )
        if there and not dimension.holds(point[dimension.path]):
            raise Refusal(
                "is not in the space",
                path=f"{place}.{dimension.path}",
                value=point[dimension.path],
                remedy="say a value that the space has",
            )
    base.override(point)
