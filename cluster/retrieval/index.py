"""Indexes of pictures, made of a run's checkpoint or of any model, and asked with pictures' files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from cluster.connection import on_cluster
from cluster.retrieval import opening
from cluster.retrieval.opening import Opened
from cluster.retrieval.tasks import Work, on_ray
from cluster.run import runs_folder
from cluster.tasks import Workers, in_order
from datasets import store
from datasets.packed.manifest import Manifest
from datasets.progress import Shown, silent
from datasets.refusal import Refusal
from trainers.retrieval import answers, jobs, neighbours
from trainers.retrieval import index as indexes
from trainers.retrieval.answers import Answer
from trainers.retrieval.embedder import Metric
from trainers.retrieval.index import Index
from trainers.retrieval.neighbours import Approximate
from trainers.scale import Scale


@dataclass(frozen=True)
class Made:
    """An index that is there, and what a reader must know of it."""

    index: Index
    new: bool
    notes: tuple[str, ...] = ()


def index(
    what: str | nn.Module,
    data: str,
    changes: Sequence[str | Mapping[str, Any]] = (),
    *,
    out: str | None = None,
    on: str = "all",
    subset: int | None = None,
    metric: Metric = "cosine",
    approximate: Approximate | None = None,
    workers: Workers = None,
    shown: Shown = silent,
) -> Made:
    """Embed the pictures of `data` (a packed set, or a source) and write their index into the folder `out`.

    `what` is a run (its best checkpoint), a model as recipes name it, or a module in eval mode that gives features (B, D).
    `changes` are `dotted.path=value`s of data, model, seed and scale; `subset` takes so many of each split, classes in
    proportion. With `workers` the work is done by Ray tasks, else in this process; the index is the same.
    An index that is there already is returned as it is.
    """
    opened = opening.opened(what, data, changes, shown)
    splits = _splits(opened.dataset.manifest, on)
    whole = opened.dataset.manifest.digest
    dataset = jobs.sampled(opened.dataset, splits, subset, opened.embedder.recipe.seed)
    about = _about(opened, dataset.manifest, subset, metric, approximate)
    name = f"index-{dataset.manifest.name}-{indexes.identity(about)}"
    url = out or store.join(runs_folder(None), name)
    if there := _there(url, about):
        return Made(there, False, opened.notes)
    listed = jobs.cut(dataset, splits)
    if workers is None or (workers == 1 and not on_cluster()):
        runner = jobs.here(opened.embedder, dataset, metric)
    else:
        work = Work(opened.embedder, metric, tuple(splits), subset, whole)
        runner = on_ray(work, workers)
    total = sum(dataset.manifest.split(split).rows for split in splits)
    with shown(f"index {dataset.manifest.name}") as progress:
        indexes.write(url, about, jobs.told(in_order(runner(listed)), total, progress))
    made = Index.open(url)
    if approximate is None:
        return Made(made, True, opened.notes)
    share = neighbours.build(made, approximate)
    note = f"{approximate} finds {share:.1%} of the true {neighbours.NEAR} nearest"
    return Made(made, True, (*opened.notes, note))


def query(
    index: Index, images: Sequence[str], *, k: int = 5, model: str | nn.Module | None = None
) -> list[Answer]:
    """The `k` nearest of an index to each picture's file. `model` is where its run lies now, or its module.

    Raises Refusal for a picture that does not decode, and where the weights are not those of the index.
    """
    read = [(image, store.read_bytes(image)) for image in images]
    embedder = opening.again(index, model)
    found = []
    for image, data in read:
        pixels = embedder.look(data, image)
        features = embedder.picture(pixels, index.metric, image)
        found.append(answers.answer(index, image, pixels.numpy(), features, k))
    return found


def alike(index: Index, picture: int, *, split: str | None = None, k: int = 5) -> Answer:
    """The `k` nearest to a picture of the index, by its id; it is not among them itself."""
    row = index.row_of(picture, split)
    pixels = answers.pixels(index.thumbnail(row))
    features = index.features[row : row + 1]
    return answers.answer(index, f"id {picture}", pixels, features, k, without=row)


def _splits(manifest: Manifest, on: str) -> list[str]:
    if on == "all":
        return [name for name, split in manifest.splits.items() if split.rows]
    manifest.split(on, "--on")
    return [on]


def _about(
    opened: Opened,
    manifest: Manifest,
    subset: int | None,
    metric: Metric,
    approximate: Approximate | None,
) -> dict[str, Any]:
    """All that a query must know, and nothing that hangs on when and where the index was made."""
    embedder = opened.embedder
    recipe = embedder.recipe.plain()
    data = {
        "name": manifest.name,
        "digest": manifest.digest,
        "rows": {name: split.rows for name, split in manifest.splits.items()},
        "subset": subset,
        "seed": embedder.recipe.seed if subset else None,
    }
    return {
        "format": indexes.FORMAT,
        "metric": metric,
        "recipe": {**recipe, "scale": Scale().model_dump(mode="json")},
        "shape": asdict(embedder.shape),
        "codec": embedder.codec,
        "weights": {**opened.weights, "digest": embedder.digest},
        "data": data,
        "classes": list(manifest.classes),
        "approximate": approximate,
    }


def _there(url: str, about: Mapping[str, Any]) -> Index | None:
    """The same index, where it is there already. Raises Refusal where another one is."""
    if not store.exists(store.join(url, indexes.NAME)):
        return None
    found = Index.open(url)
    if found.identity != indexes.identity(about):
        raise Refusal(
            "another index lies here",
            path="--out",
            value=url,
            remedy="name another folder, or remove it",
        )
    if about["approximate"] and not store.exists(store.join(url, neighbours.NAME)):
        return None  # interrupted between the two files
    return found
