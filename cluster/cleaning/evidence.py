"""What runs say of each sample: out-of-fold probabilities, losses over the epochs, features.

The runs are ordinary ones, each in a folder named by what it learns from: they are resumed after any end, and made once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from cluster.pool import Pool, Wanted
from cluster.run import Run
from cluster.saved import Saved
from cluster.session import choose_device
from cluster.train import run_folder
from datasets import store
from datasets.order import Integers
from datasets.refusal import Refusal
from datasets.shards import Dataset
from trainers import build, feed, ledger, library, rooms, shown
from trainers.cleaned import FOLDS, Cleaned
from trainers.features import features
from trainers.recipe import Recipe

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bench:
    """Where runs are made: their folder, the pool that serves them, whether it shall stop, who is told."""

    folder: str
    pool: Pool
    stopping: Callable[[], bool]
    say: Callable[[str], None]

    def train(self, wanted: Sequence[Wanted]) -> None:
        """Make what is not there yet. Raises Refusal where a run fails, or a person stops."""
        queue = [each for each in wanted if not Run(each.folder).finished]
        failed: list[str] = []
        done = len(wanted) - len(queue)
        for served in self.pool.serve(lambda: queue.pop(0) if queue else None, self.stopping):
            done += served.status == "finished"
            if served.status == "failed":
                failed.append(f"{served.wanted.folder.rsplit('/', 1)[-1]}: {served.why}")
            self.say(f"cleaning: {served.wanted.key} {served.status} ({done} of {len(wanted)})")
        if failed:
            raise Refusal(
                f"a run that was to find wrong labels failed: {failed[0]}",
                path=self.folder,
                value=len(failed),
                remedy="train the recipe without data.cleaned to see why",
            )
        if done < len(wanted):
            raise Refusal(
                f"stopped after {done} of {len(wanted)} runs that were to find wrong labels",
                path=self.folder,
                remedy="the same command goes on",
            )

    def wanted(self, key: str, recipe: Recipe, *, opens_test: bool) -> Wanted:
        """A run in the folder, of what the recipe says."""
        digest = feed.dataset(recipe.data).manifest.digest
        return Wanted(key, recipe, run_folder(recipe, digest, self.folder), opens_test)


def probabilities(plain: Recipe, said: Cleaned, bench: Bench, ids: Integers) -> Floats:
    """(N, C): what a model says of each sample that has learnt from the other folds alone.

    Each fold is a run of the recipe whose test split is the fold (`data.held_out`). Raises Refusal where its task names
    no classes.
    """
    folds = said.folds or FOLDS
    _check_names_classes(plain)
    wanted = [
        bench.wanted(f"fold {fold}", of_fold(plain, fold, folds), opens_test=True)
        for fold in range(folds)
    ]
    bench.train(wanted)
    tables = [_predictions(each.folder) for each in wanted]
    found = np.concatenate([table["id"].to_numpy() for table in tables])
    rows = np.concatenate([np.stack(table["probabilities"].to_numpy()) for table in tables])
    by_id = np.argsort(found)
    places = np.searchsorted(found[by_id], ids).clip(max=len(found) - 1)
    assert np.array_equal(found[by_id][places], ids), "every sample is in one fold"
    # float32 rows add up to 1 but for rounding; cleanlab compares them with each other alone.
    chosen: Floats = rows[by_id][places].astype(np.float64)
    return chosen / chosen.sum(1, keepdims=True)


def of_fold(plain: Recipe, fold: int, folds: int) -> Recipe:
    """The recipe whose test split is one fold of what it learns from; val, by which checkpoints are chosen, stays."""
    held_out = {"fold": fold, "folds": folds, "seed": plain.seed}
    return _judged(plain).override({"data.held_out": held_out})


def losses(plain: Recipe, bench: Bench, ids: Integers) -> Floats:
    """(N,): the mean loss of each sample over the epochs of a run that learns from all, from its ledger.

    NaN of one that was never used. Raises Refusal where the task does not tell of samples.
    """
    run = _whole(plain, bench)
    used, loss = [], []
    for name, *_ in ledger.parts(run.url):
        data = store.read_bytes(store.join(run.url, ledger.FOLDER, name))
        table = parquet.read_table(pa.BufferReader(data), columns=["sample_id", "loss"])
        used.append(table["sample_id"].to_numpy())
        loss.append(table["loss"].to_numpy())
    who, what = np.concatenate(used), np.concatenate(loss).astype(np.float64)
    told = np.isfinite(what)  # phases whose task tells nothing of samples are left out
    by_id = np.argsort(ids)
    places = np.searchsorted(ids[by_id], who).clip(max=len(ids) - 1)
    told &= ids[by_id][places] == who  # altered copies say nothing of their originals
    sums = np.bincount(by_id[places[told]], what[told], minlength=len(ids))
    counts = np.bincount(by_id[places[told]], minlength=len(ids))
    if not counts.any():
        raise Refusal(
            "the recipe's task tells no losses of samples",
            path="data.cleaned.by",
            value="loss",
            remedy="find wrong labels by kfold",
        )
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def features_of(
    plain: Recipe, said: Cleaned, bench: Bench, dataset: Dataset
) -> tuple[Integers, NDArray[np.float32]]:
    """(ids, features) of train by the model that is named, the run, or one that learnt from these labels."""
    device = choose_device(plain.scale)
    if said.model:
        recipe = plain.override({"model": _pretrained(said)})
        shape = build.shape(recipe, dataset.manifest)
        network = build.model(recipe, shape)
    else:
        run = Run.open(said.run) if said.run else _whole(plain, bench)
        saved = Saved.best(run)
        recipe, shape, network = run.recipe, saved.shape, saved.model()
        stored = dataset.manifest.shape
        if tuple(shape.stored)[2:] != tuple(stored)[2:] or (
            dataset.manifest.codec == "raw" and tuple(shape.stored) != tuple(stored)
        ):
            raise Refusal(
                f"the run has learnt from pictures of {shape.stored}, these are {stored}",
                path="data.cleaned.run",
                value=said.run,
                remedy="name a run of pictures of the same shape",
            )
    view, ready = shown.view(recipe, shape, device), build.readying(shape, device)
    return features(network.to(device), dataset, "train", view=view, ready=ready)


def _whole(plain: Recipe, bench: Bench) -> Run:
    """The recipe trained on the labels as they are, every use of a sample written down; no test split is opened."""
    recipe = _judged(plain).override({"data.ledger": True})
    wanted = bench.wanted("the whole", recipe, opens_test=False)
    bench.train([wanted])
    return Run(wanted.folder)


def _judged(plain: Recipe) -> Recipe:
    quiet: dict[str, Any] = {"log.tensorboard": False}
    if not plain.evals:  # without any no predictions are written
        quiet["evals"] = {"accuracy": {}}
    return plain.override(quiet)


def _check_names_classes(plain: Recipe) -> None:
    task = plain.phases[-1].task.name
    if "label" not in build.needs(task):
        raise Refusal(
            f"task '{task}' learns from no labels, so it cannot tell which are wrong",
            path=f"phases.{len(plain.phases) - 1}.task",
            value=task,
            remedy="use a recipe that ends in task=classify",
        )


def _predictions(folder: str) -> Any:
    """Those on the held-out fold, as a frame."""
    data = store.read_bytes(store.join(folder, "predictions.parquet"))
    table = parquet.read_table(pa.BufferReader(data)).to_pandas()
    if "probabilities" not in table:
        raise Refusal(
            "the run names no classes with probabilities",
            path=folder,
            remedy="use a recipe that ends in task=classify",
        )
    return table[table["split"] == "test"]


def _pretrained(said: Cleaned) -> dict[str, Any]:
    """The model as it is said, with the weights that come with it where it says nothing of them."""
    assert said.model
    part: dict[str, Any] = said.model.model_dump()
    if part["pretrained"] is None:
        door = rooms.doors("models").get(said.model.name)
        source, _ = library.find(said.model.name) or ("", "")
        # open_clip's weights have names.
        part["pretrained"] = "MEAN" in door.constants if door else source != "open_clip"
    return part
