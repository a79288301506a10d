"""From a recipe to a run folder: checked, identified, locked, driven in the right place, summed up."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch

from cluster import capacity, opening, workers
from cluster.connection import on_cluster
from cluster.doctor.admit import admit
from cluster.environment import environment
from cluster.lock import Lock
from cluster.run import runs_folder
from cluster.session import REGROUP, STOP, Local, choose_device, set_threads, stopping_on_signals
from datasets import progress, store
from datasets.order import Plan
from datasets.packed import leaks
from datasets.refusal import Refusal
from trainers import checkpoint, feed, summary, symptoms
from trainers.describe import preview
from trainers.devices import uses_bf16
from trainers.engine import fit
from trainers.progress import Bar
from trainers.recipe import Recipe
from trainers.stage import length

IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray for what `ray job submit` starts


@dataclass(frozen=True)
class Place:
    """Where the run will happen."""

    fewest: int
    workers: int  # at most: of an elastic group, as many as there is room for
    device: torch.device
    ray: bool

    def says(self, recipe: Recipe, steps: int) -> dict[str, Any]:
        bf16 = uses_bf16(recipe, self.device)
        return {
            "place": "Ray workers" if self.ray else "this process",
            "workers": self.workers,
            "device": self.device.type if self.ray else str(self.device),
            "precision": "bf16" if bf16 else "fp32",
            "batch": recipe.data.batch,
            "steps": steps,
        }


def train(
    recipe: Recipe, *, out: str | None, fresh: bool, quiet: bool, parent: str | None = None
) -> str:
    """Run a recipe to its end (or to a signal); the url of its run folder."""
    preview(recipe)
    place = choose_place(recipe)
    recipe = opening.resolved(recipe)
    dataset = feed.dataset(recipe.data, shown=progress.silent if quiet else progress.shown)
    leaks.refuse(dataset.manifest, recipe.data.allow_leaks)
    plans = opening.plans_of(recipe, dataset, place.workers)
    digest = dataset.manifest.digest
    folder = run_folder(recipe, digest, out)
    if parent and parent.rpartition("/")[0] == folder.rpartition("/")[0]:
        own = opening.resolved(Recipe.load(store.join(parent, "recipe.yaml")))
        if own.identity(digest) == recipe.identity(digest):
            folder, parent = parent, None  # the run itself, whatever its folder is called now
    if summary.read(folder).get("status") == "finished" and not fresh:
        then = summary.read(folder).get("place", {})
        where = f"{then.get('place', 'this process')}, {then.get('workers', 1)} worker"
        many = "s" if then.get("workers", 1) != 1 else ""
        _say(quiet, f"{folder} is finished ({where}{many}); --fresh starts it anew")
        return folder
    if recipe.data.cleans_first:
        recipe = _cleaned(recipe, folder.rpartition("/")[0], quiet)
        dataset = feed.dataset(recipe.data)
        plans = opening.plans_of(recipe, dataset, place.workers)
    # What can be refused is refused before the folder is there.
    files = opening.foreknown(recipe, dataset, plans, folder, parent)
    if place.ray:
        admit(folder.rpartition("/")[0])
    if fresh and store.exists(store.join(folder, "recipe.yaml")):
        set_aside(folder)
    with Lock(folder) as lock:
        store.sweep(folder)
        _forget_wishes(folder)
        # recipe.yaml is written last: until then a copy that was cut off is made again.
        if parent and not store.exists(store.join(folder, "recipe.yaml")):
            opening.inherit(parent, folder)
        steps = sum(length(p, q)[1] for p, q in zip(recipe.phases, plans, strict=True))
        says = place.says(recipe, steps)
        group = (
            f"{place.fewest}..{place.workers}" if place.fewest < place.workers else place.workers
        )
        _say(
            quiet,
            f"{says['place']} ({group}), {says['device']}, {says['precision']}, "
            f"global batch {recipe.data.batch}, {steps} steps -> {folder}",
        )
        _warn(folder, quiet)
        for doubt in symptoms.foreseen(recipe, dataset):
            _say(quiet, f"warning: {doubt}")
        opening.open_folder(folder, recipe, digest, files, says, parent)
        _drive(recipe, folder, place, plans, steps, quiet, lock)
        opening.draw_examples(folder, dataset)
    return folder


def _cleaned(recipe: Recipe, runs: str, quiet: bool) -> Recipe:
    """The recipe with the list of wrong labels that it asks for, found first: on a cluster there, else in this process."""
    from cluster.cleaning import prepare  # which makes runs, as this does
    from cluster.pool import Pool

    here = not on_cluster() and not in_a_job()
    signals: list[int] = []
    with stopping_on_signals(signals):
        return prepare.prepared(
            recipe,
            runs,
            pool=lambda: Pool(recipe.scale, here=here),
            stopping=lambda: bool(signals),
            say=lambda text: _say(quiet, text),
        )


def set_aside(folder: str) -> None:
    """Rename a run's folder, so that the run is begun anew. Raises Refusal under a living one."""
    with Lock(folder):
        pass
    store.rename(folder, _free(f"{folder}.{time.strftime('%Y%m%d-%H%M%S')}"))


def _free(url: str) -> str:
    """The url, numbered if there is something at it."""
    number, found = 1, url
    while store.exists(found):
        number += 1
        found = f"{url}-{number}"
    return found


def in_a_job() -> bool:
    """Whether `ray job submit` started this process, on a head that may have nothing to spare."""
    return IN_A_JOB in os.environ


def choose_place(recipe: Recipe) -> Place:
    """This process, or Ray workers: where the recipe asks for more than one (by `auto`, on several GPUs), and in a job.

    A job's own process is on the head, which may have no GPU and no core to spare.
    """
    scale = recipe.scale
    elsewhere = in_a_job() or os.environ.get("MANTA_PLACE") == "ray"
    if scale.workers == "auto":
        gpus = 0 if scale.device in ("cpu", "mps") else capacity.num_gpus()
        if gpus > 1 or (gpus and elsewhere):
            return Place(1, gpus, torch.device("cuda"), ray=True)
    fewest, most = scale.group
    if most > 1 or elsewhere:
        device = capacity.device_type(scale)
        if not scale.wait_seconds:
            capacity.check(fewest, device)
        return Place(fewest, most, device, ray=True)
    return Place(1, 1, choose_device(scale), ray=False)


def run_folder(recipe: Recipe, digest: str, out: str | None) -> str:
    """`OUT/<name>-<hash8>`, absolute: workers have other working directories."""
    return store.join(runs_folder(out), f"{recipe.name}-{recipe.identity(digest)}")


def _drive(
    recipe: Recipe,
    folder: str,
    place: Place,
    plans: list[Plan],
    steps: int,
    quiet: bool,
    lock: Lock,
) -> None:
    epochs = [
        -(-length(phase, plan)[1] // plan.steps)
        for phase, plan in zip(recipe.phases, plans, strict=True)
    ]
    bar = Bar(steps=steps, epochs=epochs, quiet=quiet)
    signals: list[int] = []
    try:
        with stopping_on_signals(signals):
            if place.ray:
                group = (place.fewest, place.workers)
                workers.train(recipe, folder, *group, lock=lock, bar=bar, signals=signals)
            else:
                set_threads(recipe.scale, workers_on_host=1)
                session = Local(place.device, folder, show=bar.show, signals=signals)
                for _ in fit(recipe, session):
                    pass
    except BaseException as error:
        if not store.exists(store.join(folder, "recipe.yaml")):
            raise Refusal(
                "the run folder was removed while the run wrote into it",
                path=folder,
                remedy="the same command starts it anew",
            ) from error
        why = f"{type(error).__name__}: {error}"
        summary.amend(folder, status="failed", error=why[:2000])
        saved = checkpoint.step_of(checkpoint.latest(folder))
        short = " ".join(why.split())[:200]
        summary.happened(folder, "failed", step=max(saved, bar.step), why=short)
        raise
    finally:
        bar.close()
        _forget_wishes(folder)
    chosen = checkpoint.best(folder)
    weights = f"{chosen.removeprefix(folder + '/')}/model.safetensors" if chosen else None
    summary.amend(folder, weights=weights, error=None)


def _forget_wishes(folder: str) -> None:
    for name in (STOP, REGROUP):
        store.remove(store.join(folder, name))


def _warn(folder: str, quiet: bool) -> None:
    before, now = summary.read_json(folder, "env.json"), environment()
    if before.get("commit") and now["commit"] and before["commit"] != now["commit"]:
        _say(
            quiet,
            f"warning: resumed under commit {now['commit'][:8]}, begun under {before['commit'][:8]}",
        )


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
