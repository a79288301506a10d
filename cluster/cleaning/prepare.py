"""From a recipe to the list of its labels: found by runs, written beside them, and taken by the run that asked for it.

All lies in `OUT/<name>-labels-<hash8>/`: `runs/`, run folders as any; `labels-<hash8>.parquet`, and its page and figures.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.cleaning import evidence
from cluster.cleaning.evidence import Bench
from cluster.lock import Lock
from cluster.pool import Pool
from datasets import store
from datasets.cleaning import detect, lists, report
from datasets.cleaning.detect import Found
from datasets.cleaning.lists import Labels
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.subsets import check_labels
from trainers import feed
from trainers.cleaned import NEIGHBOURS, Cleaned, finder
from trainers.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_SECONDS = 1.0
LEAST_WEIGHT = 0.01  # of a wrong label that is weighed down: a batch of such alone would have none


@dataclass(frozen=True)
class Cleaning:
    """The list, and what is told of it."""

    labels: Labels
    told: dict[str, Any]
    page: str


def prepared(
    recipe: Recipe,
    runs: str,
    *,
    pool: Callable[[], Pool],
    stopping: Callable[[], bool],
    say: Callable[[str], None],
) -> Recipe:
    """The recipe with the path of the list that it asks for, below the folder `runs`; it is made where it is not there.

    Whoever comes second waits for the first. Raises Refusal where a run of it fails, or is stopped.
    """
    said = recipe.data.cleaned
    assert said and said.by
    plain = recipe.override({"data.cleaned": None, "search": None})
    dataset = feed.dataset(plain.data)
    folder = folder_of(plain, dataset, runs)
    path = store.join(folder, f"labels-{_key(said)}.parquet")
    if not store.exists(path):
        with alone_in(folder):
            if not store.exists(path):
                bench = Bench(store.join(folder, "runs"), pool(), stopping, say)
                found = clean(recipe, dataset, bench)
                lists.write(path, found.labels, dataset.manifest.classes)
                write_page(path, found)
                say(f"cleaning: {found.told['verdict']} -> {path}")
    return recipe.override({"data.cleaned.path": path})


def folder_of(plain: Recipe, dataset: Dataset, runs: str) -> str:
    """Where everything about a recipe's labels lies: named by what is learnt from them."""
    return store.join(runs, f"{plain.name}-labels-{plain.identity(dataset.manifest.digest)}")


def clean(recipe: Recipe, dataset: Dataset, bench: Bench) -> Cleaning:
    """Find wrong labels in train as the recipe's `data.cleaned` says, and what becomes of them; `dataset` is not cleaned yet."""
    said, plain = recipe.data.cleaned, finder(recipe)
    assert said
    check_labels(dataset, "data.cleaned")
    if len(dataset.manifest.classes) < 2:
        raise Refusal(
            f"'{dataset.manifest.name}' has one class: no label can be wrong",
            path="data.cleaned",
            remedy="leave it out",
        )
    columns = dataset.columns("train")
    originals = np.flatnonzero(columns["id"] == columns.get("origin", columns["id"]))
    ids, given = columns["id"][originals], columns["label"][originals]
    found = _found(plain, said, dataset, bench, originals)
    truth = _truth(plain)
    truly: np.ndarray | None = None if truth is None else truth[originals] != given
    noise = plain.data.noise.model_dump() if plain.data.noise else None
    made = {
        "digest": dataset.manifest.digest,
        "data": dataset.manifest.name,
        "noise": noise,
        "recipe": plain.name,
        "seed": plain.seed,
        **_plain(said),
    }
    labels = _decided(said, ids, given, found, made)
    told = report.told(dataset, labels, found, truly)
    page = report.html(dataset, labels, found, told, rows=originals, truly=truly)
    return Cleaning(labels, told, page)


def write_page(path: str, found: Cleaning) -> str:
    """The page and its figures beside a list, under its name; the page's place."""
    stem = path.rpartition(".")[0]
    store.write_bytes(f"{stem}.html", found.page.encode())
    store.write_bytes(f"{stem}.json", json.dumps(found.told, indent=1).encode())
    return f"{stem}.html"


def _found(
    plain: Recipe, said: Cleaned, dataset: Dataset, bench: Bench, originals: np.ndarray
) -> Found:
    columns = dataset.columns("train")
    ids, given = columns["id"][originals], columns["label"][originals]
    num_classes = len(dataset.manifest.classes)
    if said.by == "kfold":
        shares = evidence.probabilities(plain, said, bench, ids)
        return detect.confident(given, shares, share=said.share)
    if said.by == "loss":
        losses = evidence.losses(plain, bench, ids)
        return detect.by_loss(given, losses, num_classes=num_classes, share=said.share)
    _, features = evidence.features_of(plain, said, bench, dataset)
    return detect.by_neighbours(
        given,
        features[originals],
        num_classes=num_classes,
        neighbours=said.neighbours or NEIGHBOURS,
        share=said.share,
    )


def _decided(
    said: Cleaned, ids: np.ndarray, given: np.ndarray, found: Found, made: dict[str, Any]
) -> Labels:
    """What becomes of each label."""
    action, wrong = said.action or "drop", found.wrong
    if action == "relabel":
        wrong = wrong & (found.suggested != given)
    actions = np.where(wrong, action, "keep")
    weights = {
        "drop": np.zeros(len(ids)),
        "relabel": np.ones(len(ids)),
        "downweight": found.scores.clip(LEAST_WEIGHT, 1.0),
    }[action]
    return Labels(
        ids, given, found.suggested, found.scores, actions, np.where(wrong, weights, 1.0), made
    )


def _truth(plain: Recipe) -> np.ndarray | None:
    """The labels before the recipe's own noise, where it has some."""
    if not plain.data.noise:
        return None
    label: np.ndarray = feed.dataset(plain.override({"data.noise": None}).data).columns("train")[
        "label"
    ]
    return label


def _plain(said: Cleaned) -> dict[str, Any]:
    return said.model_dump(mode="json", exclude_none=True, exclude={"path"})


def _key(said: Cleaned) -> str:
    text = json.dumps(_plain(said), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@contextmanager
def alone_in(folder: str) -> Iterator[None]:
    """Held by one process at a time; others wait, for as long as it lives."""
    while True:
        try:
            lock = Lock(folder).__enter__()
        except Refusal:
            time.sleep(WAIT_SECONDS)
            continue
        break
    try:
        yield
    finally:
        lock.__exit__(None, None, None)
