"""What one more trial of a search costs beyond its training: ours, plain Optuna, Ray Tune's functions, a nested trainer.

A trial is an epoch of digits (19 steps, a net of 8 channels) and one look at its 268 validation rows, one trial at a
time; what is timed are the seconds from one trial's end to the next one's, without the first of each round, which starts
a process. The same by hand (benchmarks/plain.py and an evaluation, no folder, no search) is the training. Ours writes
a run folder with checkpoints, metrics and predictions for each trial; the others write nothing of their own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import plain
from benchmarks.reading import Reading, summed_up
from search.tune import drive
from search.tune.reading import of_folder
from trainers import build, feed
from trainers.recipe import Recipe
from trainers.rooms import ROOT

ROUNDS, TRIALS, NESTED, GROUPS = 5, 9, 3, 4
LR = "phases.0.optim.main.lr"


def run(rounds: int | None = None) -> list[Reading]:
    """Seconds a trial, interleaved; then trials of two workers over the cold start of their group."""
    from cluster.connection import connected

    connected(2)
    feed.dataset(_recipe().data)  # packed once, for all
    sides: dict[str, Callable[[int], list[float]]] = {
        "by hand, without a search": _by_hand,
        "plain Optuna, in one process": _optuna,
        "Manta, trials in reused processes": _ours,
        "Ray Tune, a function a trial": _functions,
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds or ROUNDS):
        for name, side in sides.items():
            times[name] += side(TRIALS)
    times["Ray Tune, a nested trainer of one worker"] = _functions(NESTED, nested=True)
    bare = float(np.median(times["by hand, without a search"]))
    found = [summed_up("search_cost", name, each, unit="s") for name, each in times.items()]
    ours = [each - bare for each in times["Manta, trials in reused processes"]]
    what = "Manta, one more trial beyond its training"
    found.append(summed_up("search_cost", what, ours, unit="s", target="<= 0.15"))
    return [*found, *_groups()]


def _recipe(**changes: Any) -> Recipe:
    recipe = Recipe.load(str(ROOT / "recipes" / "digits.yaml"))
    return recipe.override(
        {
            "model.width": 8,
            "phases.0.epochs": 1,
            "scale.device": "cpu",
            "scale.threads": 1,
            "log.tensorboard": False,
            **changes,
        }
    )


def _trained(lr: float) -> float:
    """The trial by hand: its validation accuracy."""
    recipe = _recipe().override({LR: lr, "phases.0.epochs": None, "phases.0.steps": 19})
    torch.manual_seed(0)
    advance = plain.loop(recipe)
    for _ in range(19):
        advance()
    network = next(
        cell.cell_contents
        for cell in advance.__closure__ or ()
        if isinstance(cell.cell_contents, torch.nn.Module)
    )
    dataset = feed.dataset(recipe.data)
    shape = build.shape(recipe, dataset.manifest)
    columns = dataset.columns("val")
    pixels = torch.from_numpy(columns["image"].take(np.arange(len(columns["label"])), axis=0))
    image = pixels.permute(0, 3, 1, 2).float().div(255)
    image = (image - torch.tensor(shape.mean).view(1, -1, 1, 1)) / torch.tensor(shape.std).view(
        1, -1, 1, 1
    )
    network.eval()
    with torch.inference_mode():
        hits = network(image).argmax(1) == torch.tensor(np.asarray(columns["label"][:]))
    return float(hits.float().mean())


def _by_hand(trials: int) -> list[float]:
    times = []
    for index in range(trials):
        begun = time.perf_counter()
        _trained(0.01 * (index + 1))
        times.append(time.perf_counter() - begun)
    return times[1:]


def _optuna(trials: int) -> list[float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    ends: list[float] = []
    study.optimize(
        lambda trial: _trained(trial.suggest_float("lr", 1e-3, 1e-1, log=True)),
        n_trials=trials,
        callbacks=[lambda study, trial: ends.append(time.perf_counter())],
    )
    return np.diff(ends).tolist()


def _ours(trials: int) -> list[float]:
    recipe = _recipe(search={"trials": trials, "space": {LR: "loguniform(1e-3, 1e-1)"}})
    recipe = recipe.override({"search.parallel": 1, "search.retrain": 0})
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as out:
        folder = drive.search(recipe, out=out, quiet=True)
        ended = [trial.datetime_complete for trial in of_folder(folder).get_trials()]
    seconds = sorted(each.timestamp() for each in ended if each)
    assert len(seconds) == trials
    return np.diff(seconds).tolist()


def _functions(trials: int, *, nested: bool = False) -> list[float]:
    """As Ray's documentation has it: a function a trial, Optuna's search, one at a time."""
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    ends: list[float] = []

    class Ends(tune.Callback):  # type: ignore[misc]
        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **more: Any) -> None:
            ends.append(time.perf_counter())

    def trained(config: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        tune.report({"accuracy": _trained(config["lr"])})

    def trainer(config: dict[str, Any]) -> None:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        with tempfile.TemporaryDirectory(prefix="manta-bench-") as own:
            TorchTrainer(
                lambda given: _trained(given["lr"]) and None,
                train_loop_config=config,
                scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.5}),
                run_config=RunConfig(storage_path=own),
            ).fit()
        tune.report({"accuracy": 0.0})

    share = {"CPU": 0.5 if nested else 1}
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as own:
        tune.Tuner(
            tune.with_resources(trainer if nested else trained, share),
            param_space={"lr": tune.loguniform(1e-3, 1e-1)},
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(metric="accuracy", mode="max"),
                num_samples=trials,
                max_concurrent_trials=1,
            ),
            run_config=tune.RunConfig(storage_path=own, verbose=0, callbacks=[Ends()]),
        ).fit()
    return np.diff(ends).tolist()


def _groups() -> list[Reading]:
    """Trials of two workers, from one's end to the next one's, over the cold starts of groups by themselves."""
    from cluster.run import run as train

    recipe = _recipe(**{"scale.workers": 2})
    alone = []
    for index in range(GROUPS):
        with tempfile.TemporaryDirectory(prefix="manta-bench-") as out:
            begun = time.perf_counter()
            train(recipe.override({"seed": index}), out=out)
            alone.append(time.perf_counter() - begun)
    search = {"trials": GROUPS + 1, "space": {LR: "loguniform(1e-3, 1e-1)"}, "retrain": 0}
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as out:
        folder = drive.search(recipe.override({"search": search}), out=out, quiet=True)
        ended = [trial.datetime_complete for trial in of_folder(folder).get_trials()]
    times = np.diff(sorted(each.timestamp() for each in ended if each))
    return [
        summed_up("search_cost", "a run of two workers by itself", alone, unit="s"),
        summed_up("search_cost", "a trial of two workers", times.tolist(), unit="s"),
        summed_up(
            "search_cost",
            "the trial over the run",
            [a / float(np.median(alone)) for a in times],
            target="<= 1.1",
            note="the run's whole: its group's cold start, 19 steps, its end",
        ),
    ]
