"""A W&B sweep file as our `search:` block: what `search --from-wandb` prints (docs/search.md has the table).

Its keys are those of github.com/wandb/sweeps, src/sweeps/config/schema.json. Nothing is dropped in silence: what has no
counterpart is a note, or refused where the search would be another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import yaml

from datasets.refusal import Refusal, nearest
from search.tune.distributions import Note, check_keys, distribution, word
from search.tune.goals import goals, metrics
from search.tune.places import Place, called, places
from trainers.recipe import Recipe
from trainers.space import Space

METHODS = {"grid": "grid", "random": "random", "bayes": "gp"}
ENGINES = {"optuna": "tpe", "ax": "gp"}  # of method: custom, where no file of Python says more
STOPPING = ("type", "min_iter", "max_iter", "s", "eta", "strict")
MOST_POINTS = 10_000  # of a grid
READ = ("method", "metric", "metrics", "parameters", "early_terminate", "run_cap", "scheduler")
# They say how W&B runs and shows a sweep; here the recipe and the command do.
IDLE = (
    *("program", "command", "project", "entity", "name", "description"),
    *("controller", "job", "image_uri", "apiVersion", "kind"),
)


@dataclass(frozen=True)
class Translated:
    """A recipe's `search:` as a plain tree, and what is not the same as it was, a line each."""

    block: dict[str, Any]
    notes: tuple[str, ...]

    def yaml(self) -> str:
        """To be pasted into the recipe."""
        tree = {"search": self.block}
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=1_000)


def translate(sweep: Any, recipe: Recipe, names: Iterable[str] = ()) -> Translated:
    """A sweep's plain tree for a recipe; `names` are `KEY=PATH`s for what the recipe has no one place for.

    Raises Refusal for what W&B or the recipe would not take, and for what has no counterpart.
    """
    check_keys(sweep, (*READ, *IDLE), "")
    base = recipe.override({"search": None}) if recipe.search else recipe
    flat = dict(_flat(sweep.get("parameters"), "parameters"))
    said = _said(names, {*flat, *(metric["name"] for metric in metrics(sweep))})
    notes: list[str] = []
    block = {**goals(sweep, base, said, notes.append), **_trials(sweep, notes.append)}
    block["sampler"] = _sampler(sweep)
    if "early_terminate" in sweep:
        block |= _scheduler(sweep, notes.append)
    where = places(base, {name: _listed(each) for name, each in flat.items()}, said)
    block["space"] = _space(flat, where, sweep["method"] == "grid", notes.append)
    if sweep["method"] == "grid":
        block["trials"] = _combinations(sweep, block["space"])
    _tell_idle(sweep, notes.append)
    _check(base, block, {place.path: name for name, place in where.items()})
    return Translated(block, tuple(notes))


def _flat(parameters: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Nested ones by their dotted name."""
    if not isinstance(parameters, dict) or not parameters:
        raise Refusal(
            "is no mapping of names to what may be drawn",
            path=place,
            value=parameters,
            remedy="for example parameters: {lr: {min: 0.001, max: 0.1}}",
        )
    for name, said in parameters.items():
        if not isinstance(said, dict):
            raise Refusal(
                "is neither values nor a distribution",
                path=f"{place}.{name}",
                value=said,
                remedy=f"write {name}: {{value: {said}}}",
            )
        if "parameters" not in said:
            yield str(name), said
            continue
        check_keys(said, ("parameters",), f"{place}.{name}")
        inside = _flat(said["parameters"], f"{place}.{name}")
        yield from ((f"{name}.{inner}", each) for inner, each in inside)


def _said(names: Iterable[str], known: set[str]) -> dict[str, str]:
    said = {}
    for each in names:
        key, equals, path = each.partition("=")
        if not equals or key not in known or key in said:
            wrong = "is said twice" if key in said else "is no name of the sweep"
            raise Refusal(
                f"'{key}' {wrong}" if equals else f"'{each}' is not KEY=PATH",
                path="--name",
                value=each,
                remedy=nearest(key, known),
            )
        said[key] = path
    return said


def _trials(sweep: Mapping[str, Any], note: Note) -> dict[str, Any]:
    if "run_cap" in sweep:
        return {"trials": _whole(sweep["run_cap"], "run_cap")}
    if sweep.get("method") != "grid":
        note("run_cap: none is said, and W&B goes on until it is stopped: here 20 trials")
    return {"trials": 20}


def _sampler(sweep: Mapping[str, Any]) -> str:
    method, scheduler = str(sweep.get("method")), sweep.get("scheduler")
    if method in METHODS:
        return METHODS[method]
    if method == "custom" and isinstance(scheduler, dict) and set(scheduler) == {"engine"}:
        engine = ENGINES.get(str(scheduler["engine"]))
        if engine:
            return engine
    raise Refusal(
        "its search is a file of Python" if method == "custom" else f"'{method}' is no method",
        path="method",
        value=method,
        remedy="write method: grid, random or bayes",
    )


def _scheduler(sweep: Mapping[str, Any], note: Note) -> dict[str, Any]:
    """W&B's hyperband has one bracket whose rungs are eta apart, and keeps the best 1/eta: that is our asha."""
    said, place = sweep["early_terminate"], "early_terminate"
    check_keys(said, STOPPING, place)
    if said.get("type") != "hyperband":
        raise Refusal(
            f"'{said.get('type')}' ends no runs",
            path=f"{place}.type",
            value=said.get("type"),
            remedy="write type: hyperband",
        )
    numbers = {key: _whole(said[key], f"{place}.{key}") for key in STOPPING[1:5] if key in said}
    factor = numbers.get("eta", 3)
    if "metrics" in sweep:
        note(f"{place} is left out: with several objectives no trial is ended early")
        return {}
    grace = _grace(numbers, factor, place, note)
    if "strict" in said:
        note(f"{place}.strict has no counterpart: asha goes on with the best 1/{factor} of a rung")
    note(f"{place}: iterations are evaluations here (every evals.NAME.every epochs)")
    return {"scheduler": {"name": "asha", "grace": grace, "factor": factor}}


def _grace(numbers: Mapping[str, int], factor: int, place: str, note: Note) -> int:
    """The first rung, and a note where asha's later ones are not W&B's."""
    if "max_iter" not in numbers or "s" not in numbers:
        for key in ("max_iter", "s"):
            if key in numbers and "min_iter" in numbers:
                note(f"{place}.{key} means nothing beside min_iter alone")
        if "min_iter" in numbers:
            return numbers["min_iter"]
        raise Refusal(
            "lacks min_iter, or max_iter and s", path=place, remedy="add min_iter: 3, for example"
        )
    most = numbers["max_iter"]
    rungs = [most // factor**power for power in range(min(numbers["s"], 30), 0, -1)]
    rungs = [rung for rung in rungs if rung]
    if not rungs:
        raise Refusal(
            f"there is no iteration below {most} to look at",
            path=f"{place}.max_iter",
            value=most,
            remedy="give a larger max_iter, or a smaller eta",
        )
    ours = ", ".join(str(rungs[0] * factor**power) for power in range(len(rungs) + 1))
    note(
        f"{place}: W&B looks after {', '.join(map(str, rungs))} iterations, asha after {ours}, ..."
    )
    return rungs[0]


def _whole(number: Any, place: str) -> int:
    if type(number) not in (int, float) or not 1 <= number < 1e9 or number != int(number):
        raise Refusal(
            "is no whole number above 0",
            path=place,
            value=number,
            remedy="write a whole number",
        )
    return int(number)


def _listed(said: Mapping[str, Any]) -> list[Any]:
    values = said.get("values", [said["value"]] if "value" in said else [])
    return values if isinstance(values, list) else []


def _space(
    flat: Mapping[str, Mapping[str, Any]], where: Mapping[str, Place], grid: bool, note: Note
) -> dict[str, Any]:
    space: dict[str, Any] = {}
    for name, said in flat.items():
        place = where[name]
        if not place.path:
            note(f"parameters.{name} is left out, as --name asks")
            continue
        if place.room:
            said = _called(said, place.room, name)
        found = distribution(said, f"parameters.{name}", grid=grid, note=note)
        if place.path != name:
            note(f"{name} -> {place.path}{place.condition}")
        if place.condition and not _drawn(found):
            found = f"choice({word(found)})"
        space[place.path] = f"{found}{place.condition}" if place.condition else found
    return space


def _called(said: Mapping[str, Any], room: str, name: str) -> dict[str, Any]:
    """With parts as our rooms call them."""
    found = dict(said)
    if isinstance(said.get("values"), list):
        found["values"] = [called(each, room, name) for each in said["values"]]
    if "value" in said:
        found["value"] = called(said["value"], room, name)
    return found


def _drawn(found: Any) -> bool:
    return bool(Space.parse({"seed": found}).dimensions)


def _combinations(sweep: Mapping[str, Any], space: Mapping[str, Any]) -> int:
    """Of a grid, all of whose points W&B runs."""
    points = sum(1 for _ in islice(Space.parse(space).combinations(), MOST_POINTS + 1))
    if points > MOST_POINTS:
        raise Refusal(
            f"the grid has more than {MOST_POINTS:,} points",
            path="method",
            value="grid",
            remedy="list fewer values, or write method: random",
        )
    if points > sweep.get("run_cap", points):
        raise Refusal(
            f"the grid has {points} points",
            path="run_cap",
            value=sweep["run_cap"],
            remedy=f"write run_cap: {points}, or method: random",
        )
    return points


def _tell_idle(sweep: Mapping[str, Any], note: Note) -> None:
    idle = [key for key in IDLE if key in sweep]
    if idle:
        note(f"left out, as they mean nothing here: {', '.join(idle)}")
    if "scheduler" in sweep and sweep["method"] != "custom":
        note("scheduler: left out; search.parallel says how many trials run at a time")
    command = sweep.get("command")
    own = (
        [str(word) for word in command if "${" not in str(word)]
        if isinstance(command, list)
        else []
    )
    if own:
        note(f"command: its own words are not read: {' '.join(own)}")


def _check(recipe: Recipe, block: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Load it, and tell a mistake by the sweep's own name for the place."""
    try:
        recipe.override({"search": dict(block)})
    except Refusal as refusal:
        path = refusal.path.removeprefix("search.space.")
        if path not in names:
            raise
        raise Refusal(
            refusal.error,
            path=f"parameters.{names[path]} ({refusal.path})",
            value=refusal.value,
            remedy=refusal.remedy,
        ) from None
