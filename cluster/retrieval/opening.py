"""From what people name to what embeds: a run or a model, a packed set or a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from cluster.opening import resolved
from cluster.run import Run
from cluster.saved import Saved
from cluster.session import choose_device, device_here
from datasets import store
from datasets.progress import Shown
from datasets.refusal import Refusal
from datasets.shards import Dataset
from trainers import anatomy, build, checkpoint, feed, rooms, shown
from trainers.build import Shape
from trainers.describe import without_weights
from trainers.grammar import pairs
from trainers.recipe import Recipe
from trainers.retrieval.embedder import Embedder
from trainers.retrieval.index import Index

# What a recipe must have beside its data and its model; nothing of it is run.
_REST = {
    "name": "retrieve",
    "phases": [{"task": "classify", "steps": 1, "optim": {"main": {"name": "sgd", "lr": 0.1}}}],
}
_CHANGED = ("data", "model", "seed", "scale")


@dataclass(frozen=True)
class Opened:
    """What embeds, and what is embedded."""

    embedder: Embedder
    dataset: Dataset
    weights: dict[str, str]  # where they are from
    notes: tuple[str, ...] = ()


def opened(
    what: str | nn.Module, data: str, changes: Sequence[str | Mapping[str, Any]], showing: Shown
) -> Opened:
    """A run, a model or a module, and a packed set or a source that is packed now. Any mistake is a Refusal."""
    recipe = resolved(_recipe(what, data, changes))
    _refuse_no_pictures(recipe)
    dataset = feed.dataset(recipe.data, shown=showing)
    manifest = dataset.manifest
    if manifest.kind == "table":
        raise Refusal(
            f"'{manifest.name}' is a table, an index is of pictures",
            path="DATA",
            value=manifest.name,
            remedy="name a set of pictures",
        )
    shape = build.fitted(recipe, manifest)
    weights: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    if isinstance(what, nn.Module):
        shape, network = _taking(what, recipe, shape), what
        weights["module"] = type(what).__name__
    elif _is_run(what):
        saved = Saved.best(Run.open(what))
        network = anatomy.headless(saved.model())
        channels, classes = saved.shape.channels, saved.shape.num_classes
        shape = replace(shape, channels=channels, num_classes=classes)
        weights |= {"run": saved.run.url, "checkpoint": saved.url.rsplit("/", 1)[-1]}
    else:
        network = anatomy.headless(build.model(recipe, shape))
        if not recipe.plain()["model"].get("pretrained"):
            notes = (
                f"the weights of {what} are random, as no run and no model.pretrained is said",
            )
    shown.check(recipe, manifest, shape)
    build.inputs(shape)  # refuses here what would only fail with the first batch
    if not isinstance(what, nn.Module):
        network.eval()
    device = choose_device(recipe.scale)
    return Opened(Embedder(network, recipe, shape, manifest.codec, device), dataset, weights, notes)


def _recipe(what: str | nn.Module, data: str, changes: Sequence[str | Mapping[str, Any]]) -> Recipe:
    """How the pictures are read and shown: a recipe of nothing but data and a model."""
    wanted = [*pairs(changes)]
    for path, value in wanted:
        if path.split(".")[0] not in _CHANGED:
            raise Refusal(
                "says nothing of how pictures are indexed",
                path=path,
                value=value,
                remedy=f"change {', '.join(_CHANGED)}",
            )
    tree: dict[str, Any] = {**_REST, "data": feed.origin(data, "DATA"), "model": "small_cnn"}
    if isinstance(what, nn.Module):
        return Recipe.check(tree).override(*changes)
    if not _is_run(what):
        return Recipe.check({**tree, "model": what}).override(*changes)
    if said := [path for path, _ in wanted if path.split(".")[0] == "model"]:
        raise Refusal("a run has its own model", path=said[0], remedy="leave it out")
    run = Run.open(what)
    shape, own = Saved.best(run).shape, without_weights(run.recipe).plain()
    if not shape.size:
        raise Refusal(
            "this run was trained on a table, not on pictures",
            path=run.url,
            remedy="name a run of pictures",
        )
    # Pictures are shown as when the run was judged, whatever these data would suggest.
    view = {"size": shape.size, "mean": list(shape.mean), "std": list(shape.std)}
    view["eval"] = own["data"]["eval"]
    tree |= {"model": own["model"], "data": {**tree["data"], **view}}
    return Recipe.check(tree).override(*changes)


def _is_run(what: str) -> bool:
    return "/" in what or store.exists(store.join(what, "recipe.yaml"))


def _refuse_no_pictures(recipe: Recipe) -> None:
    """Refuse a model that is fed something else: a generator, say."""
    door = rooms.doors("models").get(recipe.model.name)
    if door and door.constants.get("TAKES", "data") != "data":
        raise Refusal(
            f"'{recipe.model.name}' takes {door.constants['TAKES']}, not pictures",
            path="model",
            value=recipe.model.name,
            remedy="choose a model that classifies",
        )


def again(index: Index, model: str | nn.Module | None) -> Embedder:
    """What the index was made by. Raises Refusal where its weights have changed."""
    recipe, weights = Recipe.check(index.about["recipe"]), index.about["weights"]
    if isinstance(model, nn.Module):
        network = model
    elif "module" in weights:
        raise Refusal(
            f"it was made by a {weights['module']} of somebody's own code",
            path="INDEX",
            value=weights["module"],
            remedy="ask it from Python, with model=, or by --id",
        )
    elif "run" in weights:
        run = Run.open(model or weights["run"])
        place = store.join(run.url, "checkpoints", weights["checkpoint"])
        if not store.exists(store.join(place, checkpoint.MARKER)):
            raise Refusal(
                "the checkpoint that the index was made with is gone: its run has gone on, or was removed",
                path=place,
                value=weights["checkpoint"],
                remedy="make the index again, or say where the run lies now: --model FOLDER",
            )
        network = anatomy.headless(Saved(run, place).model()).eval()
    else:
        network = anatomy.headless(build.model(recipe, index.shape)).eval()
    device = device_here(recipe.scale)
    embedder = Embedder(network, recipe, index.shape, index.about["codec"], device)
    if embedder.digest != weights["digest"]:
        raise Refusal(
            "these are not the weights that the index was made with",
            path=str(weights.get("run", recipe.model.name)),
            value=embedder.digest[:12],
            remedy="make the index again",
        )
    return embedder


def _taking(module: nn.Module, recipe: Recipe, shape: Shape) -> Shape:
    """The shape for a module that somebody brings: as many channels as its first convolution takes."""
    first = next((p for p in module.parameters() if p.dim() == 4), None)
    channels = shape.channels if first is None else int(first.shape[1])
    mean, std = recipe.data.mean or shape.mean, recipe.data.std or shape.std
    # Moments of one channel stand for all.
    each = [tuple(v) * channels if len(v) == 1 else tuple(v) for v in (mean, std)]
    return replace(shape, channels=channels, mean=each[0], std=each[1])
