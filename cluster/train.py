"""From a recipe to a run folder: checked, identified, locked, driven in the right place, summed up."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch

from cluster import workers
from cluster.environment import environment
from cluster.lock import Lock
from cluster.session import STOP, Local, choose_device, set_threads, stopping_on_signals
from datasets import order, store
from datasets.card import card, examples
from datasets.order import Plan
from datasets.refusal import Refusal
from datasets.shards import Dataset, open_dataset
from trainers import build, checkpoint
from trainers.describe import describe, loading_lines, preview
from trainers.engine import fit, uses_bf16
from trainers.progress import Bar
from trainers.recipe import Recipe
from trainers.stage import length


@dataclass(frozen=True)
class Place:
    """Where the run will happen."""

    workers: int
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
    recipe = _resolved(recipe)
    dataset = open_dataset(build.data_url(recipe.data))
    plans = _plans(recipe, dataset, place.workers)
    digest = dataset.manifest.digest
    folder = run_folder(recipe, digest, out)
    if fresh and store.exists(store.join(folder, "recipe.yaml")):
        with Lock(folder):
            pass  # refuses to rename a folder under a living run
        store.rename(folder, f"{folder}.{time.strftime('%Y%m%d-%H%M%S')}")
    summary = _json(folder, "summary.json")
    if summary.get("status") == "finished":
        _say(quiet, f"{folder} is finished; --fresh starts it anew")
        return folder
    with Lock(folder):
        store.remove(store.join(folder, STOP))
        if parent and checkpoint.latest(folder) is None:
            _inherit(parent, folder)
        steps = sum(length(p, q)[1] for p, q in zip(recipe.phases, plans, strict=True))
        says = place.says(recipe, steps)
        _say(
            quiet,
            f"{says['place']} ({place.workers}), {says['device']}, {says['precision']}, "
            f"global batch {recipe.data.batch}, {steps} steps -> {folder}",
        )
        _warn(folder, quiet)
        _open_folder(folder, recipe, dataset, says, parent)
        _drive(recipe, folder, place, plans, steps, quiet)
    return folder


def choose_place(recipe: Recipe) -> Place:
    """This process, or Ray workers where the recipe asks for more than one (or for Ray by `auto` on several GPUs)."""
    scale = recipe.scale
    if scale.workers == "auto":
        gpus = 0 if scale.device in ("cpu", "mps") else workers.num_gpus()
        if gpus <= 1:
            return Place(1, choose_device(scale), ray=False)
        return Place(gpus, torch.device("cuda"), ray=True)
    # A test or a cluster may want even one worker to be Ray's.
    if scale.workers > 1 or os.environ.get("MANTA_PLACE") == "ray":
        return Place(scale.workers, workers.device_type(scale), ray=True)
    return Place(1, choose_device(scale), ray=False)


def run_folder(recipe: Recipe, digest: str, out: str | None) -> str:
    """`OUT/<name>-<hash8>`, absolute: workers have other working directories."""
    out = out or os.environ.get("MANTA_OUT") or "runs"
    if not store.is_remote(out):
        out = str(store.path_of(out).expanduser().absolute())
    return store.join(out, f"{recipe.name}-{recipe.identity(digest)}")


def _resolved(recipe: Recipe) -> Recipe:
    """Relative paths made absolute on the driver."""
    url = recipe.data.url
    if url is None or store.is_remote(url):
        return recipe
    return recipe.override({"data.url": str(store.path_of(url).expanduser().absolute())})


def _plans(recipe: Recipe, dataset: Dataset, world: int) -> list[Plan]:
    """The order of every phase; refuses more workers than lanes before any is started."""
    plans = []
    rows = dataset.manifest.split("train").rows
    for index in range(len(recipe.phases)):
        data = recipe.phase_data(index)
        plan = Plan(rows, data.batch, data.lanes or min(data.batch, 64), data.tail)
        order.slots(plan, 0, world)
        plans.append(plan)
    return plans


def _open_folder(
    folder: str, recipe: Recipe, dataset: Dataset, says: dict[str, Any], parent: str | None
) -> None:
    """Write what is known before the first step."""
    shape = build.shape(recipe, dataset.manifest)
    described = describe(recipe, shape)
    weights = f"{folder}/checkpoints/step-XXXXXXXX/model.safetensors"
    described["load"] = loading_lines(recipe, shape, weights)
    files = {
        "env.json": environment(),
        "model.json": described,
        "data.json": card(dataset),
        "summary.json": {
            **_json(folder, "summary.json"),
            "status": "running",
            "place": says,
            "data": dataset.manifest.digest,
            "run": folder,
            **({"parent": parent} if parent else {}),
        },
    }
    for name, tree in files.items():
        store.write_bytes(store.join(folder, name), json.dumps(tree, indent=1).encode())
    sheet = examples(dataset)
    if sheet:
        picture = io.BytesIO()
        sheet.savefig(picture, format="png", dpi=110)
        store.write_bytes(store.join(folder, "figures", "data_examples.png"), picture.getvalue())
    # Last: a folder with a recipe is a run.
    store.write_bytes(store.join(folder, "recipe.yaml"), recipe.yaml().encode())


def _drive(
    recipe: Recipe, folder: str, place: Place, plans: list[Plan], steps: int, quiet: bool
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
                restarts = workers.train(recipe, folder, place.workers, bar=bar, signals=signals)
                _amend(folder, restarts=restarts)
            else:
                set_threads(recipe.scale, workers_on_host=1)
                session = Local(place.device, folder, show=bar.show, signals=signals)
                for _ in fit(recipe, session):
                    pass
    except BaseException as error:
        _amend(folder, status="failed", error=f"{type(error).__name__}: {error}"[:2000])
        raise
    finally:
        bar.close()
    _amend(folder, weights=_weights(folder))


def _amend(folder: str, **changes: Any) -> None:
    url = store.join(folder, "summary.json")
    tree = {**_json(folder, "summary.json"), **changes}
    if "error" not in changes:
        tree.pop("error", None)
    store.write_bytes(url, json.dumps(tree, indent=1).encode())


def _weights(folder: str) -> str | None:
    """Where the chosen weights lie, relative to the folder."""
    best = _json(folder, "checkpoints/best.json")
    url = checkpoint.folder(folder, best["step"]) if best else checkpoint.latest(folder)
    return f"{url.removeprefix(folder + '/')}/model.safetensors" if url else None


def _inherit(parent: str, folder: str) -> None:
    """A child run goes on from its parent's newest checkpoint and keeps its metrics."""
    url = checkpoint.latest(parent)
    if url is None:
        raise Refusal("the parent run has no checkpoint", path=parent, remedy="train it first")
    target = store.join(folder, "checkpoints", url.rsplit("/", 1)[-1])
    for name in store.names(url):
        data = store.read_bytes(store.join(url, name))
        store.write_bytes(store.join(target, name), data)
    metrics = store.join(parent, "metrics.jsonl")
    if store.exists(metrics):
        store.write_bytes(store.join(folder, "metrics.jsonl"), store.read_bytes(metrics))


def _warn(folder: str, quiet: bool) -> None:
    before, now = _json(folder, "env.json"), environment()
    if before.get("commit") and now["commit"] and before["commit"] != now["commit"]:
        _say(
            quiet,
            f"warning: resumed under commit {now['commit'][:8]}, begun under {before['commit'][:8]}",
        )


def _json(folder: str, name: str) -> dict[str, Any]:
    url = store.join(folder, name)
    if not store.exists(url):
        return {}
    tree: dict[str, Any] = json.loads(store.read_bytes(url))
    return tree


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
