"""How soon a search finds what is good: best so far after n trials, in parallel, and with trials ended early.

A table of 648 trainings of digits (learning rate, weight decay, momentum, batch, dropout; nine epochs, validation
accuracy after each) is made once, by a grid search of ours. Searches are then replayed over it, ten seeds each: what a
trial comes to is looked up, everything else (space, records, samplers, pruner) is what a search uses. The peers are
Optuna's own samplers as they come, over the same integers.
"""

from __future__ import annotations

import heapq
import itertools
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.reading import Reading, summed_up
from search.tune import drive, samplers, schedulers
from search.tune.reading import of_folder
from search.tune.records import CHANGES, Records
from trainers.recipe import Recipe
from trainers.rooms import ROOT
from trainers.searching import Objective
from trainers.space import Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SEEDS, TRIALS, PARALLEL, EPOCHS = 10, 40, 8, 9
HALVED = 100  # points of each search with and without early ends
GRID: dict[str, list[Any]] = {
    "phases.0.optim.main.lr": [3e-4, 1e-3, 3e-3, 6e-3, 1e-2, 2e-2, 4e-2, 8e-2, 0.15, 0.3, 0.6, 1.2],
    "phases.0.optim.main.weight_decay": [1e-5, 1e-3, 1e-2],
    "phases.0.optim.main.momentum": [0.0, 0.8, 0.95],
    "data.batch": [32, 64, 128],
    "model.dropout": [0.0, 0.4],
}
SPACE = Space.parse({path: f"randint(0, {len(values) - 1})" for path, values in GRID.items()})
Point = tuple[int, ...]
Table = dict[Point, list[float]]
GOAL = [Objective(metric="val/accuracy", mode="max")]


def run(rounds: int | None = None) -> list[Reading]:
    """Medians over seeds of the best accuracy so far, beside the table's best."""
    warnings.simplefilter("ignore")
    table, seeds = _table(), range(rounds or SEEDS)
    top = max(curve[-1] for curve in table.values())
    sides: dict[str, Callable[[int], list[float]]] = {
        "Manta, random": lambda seed: _searched(table, _ours("random"), seed),
        "Manta, TPE": lambda seed: _searched(table, _ours("tpe"), seed),
        "Optuna, TPE as it comes": lambda seed: _plain(table, "TPESampler", seed),
        "Manta, GP": lambda seed: _searched(table, _ours("gp"), seed),
        "Optuna, GP as it comes": lambda seed: _plain(table, "GPSampler", seed),
        "Manta, TPE, eight at a time": lambda seed: _searched(table, _ours("tpe"), seed, PARALLEL),
    }
    found = [Reading("search_quality", "the best of the table", "ratio", top, len(table))]
    for name, side in sides.items():
        paths = np.array([side(seed) for seed in seeds])
        for after in (10, 20, TRIALS):
            what = f"{name}: best of {after} trials"
            found.append(summed_up("search_quality", what, paths[:, after - 1].tolist()))
        found.append(
            summed_up("search_quality", f"{name}: mean over all n", paths.mean(1).tolist())
        )
    return [*found, *_halving(table, seeds)]


def _table() -> Table:
    recipe = Recipe.load(str(ROOT / "recipes" / "digits.yaml")).override(
        {
            "model.width": 8,
            "phases.0.epochs": EPOCHS,
            "scale.device": "cpu",
            "scale.threads": 1,
            "log.tensorboard": False,
        }
    )
    space = {path: f"choice({', '.join(map(str, values))})" for path, values in GRID.items()}
    count = int(np.prod([len(values) for values in GRID.values()]))
    search = {"sampler": "grid", "trials": count, "retrain": 0, "space": space}
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as out:
        folder = drive.search(recipe.override({"search": search}), out=out, quiet=True)
        trials = of_folder(folder).get_trials()
    table: Table = {}
    for trial in trials:
        changes = json.loads(trial.user_attrs[CHANGES])
        point = tuple(values.index(changes[path]) for path, values in GRID.items())
        # A run that came to no number is as bad as guessing.
        curve = [value for _, value in sorted(trial.intermediate_values.items())] or [0.1]
        table[point] = curve + [curve[-1]] * (EPOCHS - len(curve))
    return table


def _ours(name: str) -> Callable[[int], BaseSampler]:
    made: Any = getattr(samplers, name)
    return lambda seed: made(seed=seed)


def _records(sampler: Callable[[int], BaseSampler], seed: int, pruner: Any = None) -> Records:
    import optuna

    return Records.open(
        "replayed",
        optuna.storages.InMemoryStorage(),
        GOAL,
        sampler=lambda begun: sampler(seed),
        pruner=pruner or schedulers.none(),
        space=SPACE,
        tree={},
        owner="here",
    )


def _searched(
    table: Table, sampler: Callable[[int], BaseSampler], seed: int, parallel: int = 1
) -> list[float]:
    """The best so far, by the trials that were begun; of several at a time each takes about as long."""
    records, random = _records(sampler, seed), np.random.default_rng(seed)
    running: list[tuple[float, int, float]] = []
    best, path = 0.0, []
    for _ in range(TRIALS):
        if len(running) == parallel:
            best = max(best, _ended(records, running))
        now = running[0][0] if running else 0.0
        asked = records.ask()
        assert asked
        value = table[tuple(asked.changes[path] for path in GRID)][-1]
        heapq.heappush(running, (now + random.uniform(0.7, 1.3), asked.number, value))
        # What runs counts: all of them are waited for at the end.
        path.append(max([best, *(each for *_, each in running)]))
    return path


def _ended(records: Records, running: list[tuple[float, int, float]]) -> float:
    _, number, value = heapq.heappop(running)
    records.complete(number, [value])
    return value


def _plain(table: Table, sampler: str, seed: int) -> list[float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize", sampler=getattr(optuna.samplers, sampler)(seed=seed)
    )

    def value(trial: Any) -> float:
        point = [trial.suggest_int(path, 0, len(values) - 1) for path, values in GRID.items()]
        return table[tuple(point)][-1]

    study.optimize(value, n_trials=TRIALS)
    values = (float(trial.value or 0.0) for trial in study.trials)
    return [*itertools.accumulate(values, max)]


def _halving(table: Table, seeds: range) -> Iterator[Reading]:
    """The same random points with and without ASHA: what it cost, and what it missed."""
    for factor in (3, 4):
        spent, missed = zip(*(_halved(table, seed, factor) for seed in seeds), strict=True)
        what = f"ASHA by {factor}: epochs over those of whole trials"
        yield summed_up("search_quality", what, spent, target="<= .33")
        what = f"ASHA by {factor}: best of whole trials, less its own"
        yield summed_up("search_quality", what, missed, target="within noise")


def _halved(table: Table, seed: int, factor: int) -> tuple[float, float]:
    records = _records(_ours("random"), seed, schedulers.asha(grace=1, factor=factor))
    spent, whole, reached = 0, 0.0, 0.0
    for _ in range(HALVED):
        asked = records.ask()
        assert asked
        curve = [*itertools.accumulate(table[tuple(asked.changes[p] for p in GRID)], max)]
        whole = max(whole, curve[-1])
        for evaluation, value in enumerate(curve, start=1):
            spent += 1
            ends = records.report(asked.number, evaluation, value)
            if ends and evaluation < EPOCHS:
                records.prune(asked.number)
                break
        else:
            records.complete(asked.number, [curve[-1]])
            reached = max(reached, curve[-1])
    return spent / (HALVED * EPOCHS), whole - reached
