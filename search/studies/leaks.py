"""What arms are judged on and what they learnt from: rows and pictures that are in both are refused, or named beside the table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.run import Run
from datasets import store
from datasets.card import duplicates, fingerprints
from datasets.packed import leaks
from datasets.packed.shelf import Shelf
from datasets.refusal import Refusal
from datasets.shards import Dataset
from search.studies.arms import BEFORE, Arm, before, scores
from search.studies.study import Study
from trainers import feed
from trainers.data import Data

MOST_IDS = 50_000_000
MOST_LOOKED_AT = 200_000  # pictures of a set, that are decoded once to look for near copies


def opened(arms: Sequence[Arm], *, shown: Any) -> dict[str, Dataset]:
    """The data of each arm, opened once where arms share them."""
    known: dict[str, Dataset] = {}
    found = {}
    for arm in arms:
        key = arm.recipe.data.model_dump_json(
            exclude={"batch", "lanes", "tail", "order", "train", "eval", "ledger", "class_weights"}
        )
        if key not in known:
            with _said_by_a_study(arm.recipe.data):
                known[key] = feed.dataset(arm.recipe.data, shown=shown)
        found[arm.label] = known[key]
    return found


@contextmanager
def _said_by_a_study(data: Data) -> Iterator[None]:
    """Refusals of a source name the keys of a recipe; a study says them of all its runs."""
    try:
        yield
    except Refusal as refusal:
        source, remedy = data.source, refusal.remedy or ""
        if "data.source" in remedy:
            refusal.remedy = remedy.replace("data.source", "set.data.source")
        elif source and "path" in source.arguments:
            refusal.remedy = f"{remedy}, or say where it is: set.data.source={source.name}:FOLDER"
        raise


def check(study: Study, arms: Sequence[Arm], datasets: Mapping[str, Dataset]) -> list[str]:
    """Refuse splits that share pictures, and a score of a split that is not there; what was allowed is told."""
    told = []
    for arm in arms:
        dataset, data = datasets[arm.label], arm.recipe.data
        try:
            leaks.refuse(dataset.manifest, data.allow_leaks)
        except Refusal as refusal:
            refusal.error = f"arm '{arm.label}': {refusal.error}"
            raise
        known = scores(arm)
        wanted = {"metric": study.metric}
        wanted |= {f"claims.{n}.metric": c.metric for n, c in enumerate(study.claims) if c.metric}
        for path, metric in wanted.items():
            if metric in known:
                continue
            raise Refusal(
                f"arm '{arm.label}' has no score '{metric}'",
                path=path,
                value=metric,
                remedy=f"it has {', '.join(sorted(known)) or 'none'}; "
                "set.evals.NAME={name: accuracy, on: test} adds one",
            )
        split = study.metric.partition("/")[0]
        if split not in dataset.manifest.splits or not dataset.manifest.splits[split].rows:
            raise Refusal(
                f"the data of arm '{arm.label}' have no {split} split",
                path="metric",
                value=study.metric,
                remedy="use a metric of a split that they have",
            )
        _check_ids(arm, dataset)
        _check_origins(study, arm, dataset)
        for leak in leaks.of(dataset.manifest):
            told.append(f"leak, allowed by data.allow_leaks: {leak}")
    return list(dict.fromkeys(told))


def _check_origins(study: Study, arm: Arm, dataset: Dataset) -> None:
    """Refuse to start from a run that has learnt from rows that the arm is judged on: its splits may be other ones."""
    for index, phase in enumerate(arm.recipe.phases):
        if not phase.init:
            continue
        name = phase.init.removeprefix(BEFORE)
        if phase.init.startswith(BEFORE):
            data = next(recipe.data for each, _, recipe in before(study) if each == name)
        else:
            folder = phase.init.rstrip("/").partition("/checkpoints/")[0]
            if not store.exists(store.join(folder, "recipe.yaml")):
                continue  # weights of elsewhere: nobody here knows what they have seen
            data = Run(folder).recipe.data
        learnt = feed.dataset(data)
        if learnt.manifest.name != dataset.manifest.name:
            continue  # ids of other sources say nothing
        seen = _ids(learnt, "train")
        for split in ("test", "val"):
            if split not in dataset.manifest.splits:
                continue
            met = np.intersect1d(seen, _ids(dataset, split), assume_unique=True)
            if len(met) and f"train/{split}" not in arm.recipe.data.allow_leaks:
                raise Refusal(
                    f"arm '{arm.label}' starts from a run that has learnt from {len(met):,} rows of its {split} split",
                    path=f"phases.{index}.init",
                    value=phase.init,
                    remedy="give that run the same data.splits, or none of these rows",
                )


def _ids(dataset: Dataset, split: str) -> NDArray[np.int64]:
    """Of the pictures of a split, altered copies by their original's, each once."""
    columns = dataset.columns(split)
    return np.unique(np.asarray(columns.get("origin", columns["id"])))


def _check_ids(arm: Arm, dataset: Dataset) -> None:
    """Refuse a row, or an altered copy of one, that is in two splits by its id."""
    splits = dataset.manifest.splits
    if sum(split.rows for split in splits.values()) > MOST_IDS:
        return
    ids = {name: _ids(dataset, name) for name in splits}
    for one, other in itertools.combinations(splits, 2):
        shared = np.intersect1d(ids[one], ids[other], assume_unique=True)
        if len(shared) and not {f"{one}/{other}", f"{other}/{one}"} & {
            *arm.recipe.data.allow_leaks
        }:
            raise Refusal(
                f"arm '{arm.label}': {len(shared):,} id{'s' if len(shared) > 1 else ''} of {one} "
                f"{'are' if len(shared) > 1 else 'is'} in {other} too, the first is {shared[0]}",
                path="data.allow_leaks",
                value=int(shared[0]),
                remedy=f"pack the set without them, or set data.allow_leaks=[{one}/{other}]",
            )


def lookalikes(
    arms: Sequence[Arm], datasets: Mapping[str, Dataset], known: Mapping[str, list[list[Any]]]
) -> tuple[dict[str, list[list[Any]]], list[str]]:
    """Pictures that two splits share though their bytes differ: by pixels, which is refused, and by perceptual hash, which is told.

    Gives (what was found of each set, by digest, to be `known` next time; notes).
    """
    found, notes = dict(known), []
    for arm in arms:
        manifest = datasets[arm.label].manifest
        if manifest.kind != "image":
            continue
        if manifest.digest not in found:
            views = ("subset", "noise", "held_out", "cleaned", "class_weights")
            whole = dict.fromkeys(views)
            packed = feed.dataset(arm.recipe.data.model_copy(update=whole))
            if not all(isinstance(packed.shelf(name), Shelf) for name in packed.manifest.splits):
                continue  # a mixture, or folds: views of sets whose cards tell
            rows = sum(split.rows for split in packed.manifest.splits.values())
            if rows > MOST_LOOKED_AT:
                notes.append(
                    f"{rows:,} pictures are too many to look for near copies here: `data card` does"
                )
                continue
            prints = fingerprints.take(packed)
            found[manifest.digest] = [
                [leak.split, leak.within, leak.exact, leak.near]
                for leak in duplicates.find(prints).leaks
            ]
        for split, within, exact, near in found[manifest.digest]:
            pair = {f"{split}/{within}", f"{within}/{split}"}
            if exact and not pair & {*arm.recipe.data.allow_leaks}:
                raise Refusal(
                    f"arm '{arm.label}': {_pictures(exact, split)} {'is' if exact == 1 else 'are'} "
                    f"in {within} too, stored otherwise",
                    path="data.allow_leaks",
                    value=exact,
                    remedy=f"pack the set without them, or set data.allow_leaks=[{within}/{split}]",
                )
            if near:
                looks = "looks like one" if near == 1 else "look like pictures"
                notes.append(f"{_pictures(near, split)} {looks} of {within}")
    return found, list(dict.fromkeys(notes))


def _pictures(count: int, split: str) -> str:
    return f"{count:,} picture{'' if count == 1 else 's'} of {split}"
