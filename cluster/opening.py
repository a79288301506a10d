"""What is known of a run, refused and written down before its first step."""

from __future__ import annotations

import json
import logging
from typing import Any

from cluster.environment import environment
from datasets import figures, order, pack, store, stream
from datasets.card import card, examples
from datasets.order import Plan
from datasets.refusal import Refusal
from datasets.shards import Dataset
from trainers import build, checkpoint, demands, extractors, feed, resume, shown, summary, weights
from trainers.build import Shape
from trainers.describe import describe, loading_lines, preview
from trainers.language import demands as language
from trainers.recipe import Recipe

logger = logging.getLogger(__name__)


def resolved(recipe: Recipe) -> Recipe:
    """Relative paths made absolute on the driver: workers have other working directories."""
    paths = {"data.url": recipe.data.url}
    paths |= {f"data.mixture.{n}.url": one.url for n, one in enumerate(recipe.data.mixture or ())}
    paths |= {f"phases.{index}.init": phase.init for index, phase in enumerate(recipe.phases)}
    if cleaned := recipe.data.cleaned:
        paths |= {"data.cleaned.path": cleaned.path, "data.cleaned.run": cleaned.run}
    paths["model.pretrained"] = recipe.model.file
    for key, judge in recipe.evals.items():
        features = judge.arguments.get("features")
        if features is not None and extractors.is_place(features):
            paths[f"evals.{key}.features"] = features
    changes = {
        path: store.absolute(url)
        for path, url in paths.items()
        if url is not None and not store.is_remote(url)
    }
    sources = {"data.source": recipe.data.source}
    sources |= {
        f"data.mixture.{n}.source": one.source for n, one in enumerate(recipe.data.mixture or ())
    }
    for place, source in sources.items():
        given = source.arguments if source else {}
        absolute = pack.everywhere(given)
        changes |= {
            f"{place}.{name}": absolute[name] for name in given if absolute[name] != given[name]
        }
    return recipe.override(changes) if changes else recipe


def plans_of(recipe: Recipe, dataset: Dataset, world: int) -> list[Plan]:
    """The order of every phase; refuses more workers than lanes, or lanes than the cache can serve, before any is started."""
    samplers = feed.samplers(recipe, dataset)
    for sampler in samplers:
        order.slots(sampler.plan, 0, world)
        stream.check_lanes(dataset, "train", sampler)
    return [sampler.plan for sampler in samplers]


def foreknown(
    recipe: Recipe, dataset: Dataset, plans: list[Plan], folder: str, parent: str | None
) -> dict[str, bytes]:
    """Files that tell of the model and the data; a `Refusal` where they do not fit each other."""
    if not any(run and checkpoint.latest(run) for run in (folder, parent)):
        demands.check_begun(recipe)
    shape = build.shape(recipe, dataset.manifest, begun=folder)
    for index in range(len(recipe.phases)):
        feed.mixing(recipe, index, shape)
        demands.check_data(recipe, index, dataset)
        language.check_cache(recipe, index, dataset)
        if "tokens" in build.needs(recipe.phases[index].task.name):
            language.check_tokens(recipe, dataset, preview(recipe, shape))
    build.evaluators(recipe, shape)  # some ask for features of another run
    described = describe(recipe, shape)
    shown.check(recipe, dataset.manifest, shape)
    file = f"{folder}/checkpoints/step-XXXXXXXX/model.safetensors"
    described["load"] = loading_lines(recipe, shape, file)
    described["weights"] = _begun_with(recipe, shape, folder, parent)
    _check_weights(recipe, shape, plans, dataset.manifest.digest, parent)
    kept, splits = recipe.keep.metric, dataset.manifest.splits
    if kept and not ("val" in splits and splits["val"].rows):
        raise Refusal(
            "the data have no validation split to measure this on",
            path="keep.metric",
            value=kept,
            remedy="set data.splits.val above 0, or keep.metric=null to keep the last checkpoint",
        )
    demands.check_judged(recipe, dataset)
    return {
        "model.json": json.dumps(described, indent=1).encode(),
        "data.json": json.dumps(card(dataset), indent=1).encode(),
    }


def _begun_with(
    recipe: Recipe, shape: Shape, folder: str, parent: str | None
) -> dict[str, Any] | None:
    """Where the pretrained weights come from, which are looked at before the first step, and never needed again."""
    part = recipe.model
    for run in (folder, parent):
        if run and checkpoint.latest(run):
            before: dict[str, Any] | None = summary.read_json(run, "model.json").get("weights")
            if before:
                weights.unchanged(part, before)
            return before
    if not part.pretrained:
        return None
    weights.check(part, preview(recipe, shape), shape)
    return weights.told(part)


def _check_weights(
    recipe: Recipe, shape: Shape, plans: list[Plan], digest: str, parent: str | None
) -> None:
    """Checkpoints that the run starts from hold this model's weights, and a place that it has too."""
    begun = {
        f"phases.{index}.init": checkpoint.chosen(phase.init)
        for index, phase in enumerate(recipe.phases)
        if phase.init
    }
    found = checkpoint.latest(parent) if parent else None
    if found:
        checkpoint.read_state(found).under(resume.beginning(recipe, plans, digest))
    if begun or found:
        network = preview(recipe, shape)
        for path, url in begun.items():
            if outputs := checkpoint.check_begin(url, network):
                there, here = outputs
                logger.warning(
                    "%s: the head has %d outputs there and %d here, so it begins anew",
                    path,
                    there,
                    here,
                )
        if found:
            checkpoint.fitting(found, network)


def draw_examples(folder: str, dataset: Dataset) -> None:
    """A sheet of training pictures for the report: drawn at the end, so that no step waits for it."""
    sheet = examples(dataset)
    if sheet:
        picture = figures.png(sheet, dpi=110)
        store.write_bytes(store.join(folder, "figures", "data_examples.png"), picture)


def open_folder(
    folder: str,
    recipe: Recipe,
    digest: str,
    files: dict[str, bytes],
    says: dict[str, Any],
    parent: str | None,
) -> None:
    """Write what is known before the first step."""
    if summary.read(folder).get("status") == "running":  # and yet we hold the lock
        step = checkpoint.step_of(checkpoint.latest(folder))
        summary.happened(folder, "interrupted", step=step, why="the launch before was killed")
    summary.amend(folder, status="running", place=says, data=digest, run=folder, parent=parent)
    env = json.dumps(environment(), indent=1).encode()
    for name, data in {**files, "env.json": env}.items():
        store.write_bytes(store.join(folder, name), data)
    # Last: a folder with a recipe is a run.
    store.write_bytes(store.join(folder, "recipe.yaml"), recipe.yaml().encode())


def inherit(parent: str, folder: str) -> None:
    """A child run goes on from its parent's newest checkpoint and keeps its metrics and its best checkpoint."""
    newest = checkpoint.latest(parent)
    if newest is None:
        raise Refusal("the parent run has no checkpoint", path=parent, remedy="train it first")
    for name in (
        "metrics.jsonl",
        "checkpoints/best.json",
    ):
        if store.exists(store.join(parent, name)):
            data = store.read_bytes(store.join(parent, name))
            store.write_bytes(store.join(folder, name), data)
    # The newest last: a copy that was cut off goes on from the best one.
    for url in dict.fromkeys([checkpoint.best(parent) or newest, newest]):
        _copy_checkpoint(url, store.join(folder, "checkpoints", url.rsplit("/", 1)[-1]))


def _copy_checkpoint(url: str, target: str) -> None:
    marker = "complete.json"
    for name in [*(n for n in store.names(url) if n != marker), marker]:
        store.write_bytes(store.join(target, name), store.read_bytes(store.join(url, name)))
