"""A run's network up to its head, frozen, over the splits of a data set: what the protocols of frozen features share.

Labels are learnt from the whole train split, whatever part of it, or whatever wrong labels, the run itself learnt from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cluster.opening import resolved
from cluster.saved import Saved
from cluster.session import device_here
from cluster.tasks import Workers, in_order, passes, same_data
from datasets import subsets
from datasets.refusal import Refusal
from datasets.shards import Dataset
from trainers import anatomy, build, feed, rooms, shown, summary
from trainers.build import Shape
from trainers.describe import without_weights
from trainers.evaluation import EVAL_ROWS
from trainers.features import features
from trainers.probing.known import Known, Rows
from trainers.recipe import Recipe

RANDOM = "random"  # a reference: the same network with the weights that it was initialised with
Features = NDArray[np.float32]
Maker: TypeAlias = Callable[
    [str, Rows], tuple[Rows, Features]
]  # (split, rows) -> ids, features (N, D)
_LEARNT_FROM = ("noise", "cleaned", "class_weights", "order", "mixture")


@dataclass(frozen=True)
class Backbone:
    """Features of a network over a data set; `split` is the one that is judged, and nothing is chosen or learnt by it."""

    saved: Saved
    recipe: Recipe
    data: Dataset
    split: str
    own: bool  # whether the data are those of the run
    untrained: bool = False
    workers: Workers = None  # that make the features; they are the same
    _kept: dict[str, Known] = field(default_factory=dict)

    @classmethod
    def of(
        cls, saved: Saved, split: str, data: str | None = None, workers: Workers = None
    ) -> Backbone:
        """Over the run's own data, or a packed set or source. Raises Refusal for what has no features, or no classes."""
        _check_run(saved)
        if split == "train":
            raise Refusal(
                "the labels of train are learnt from, so nothing is judged on them",
                path="--on",
                value=split,
                remedy="use --on val or --on test",
            )
        recipe = reading(saved, data)
        dataset = feed.dataset(recipe.data)
        _check_data(saved, dataset, data)
        for name in (split, "train"):
            dataset.manifest.split(name, "--on" if name == split else "")
        found = cls(saved, recipe, dataset, split, own=data is None, workers=workers)
        shown.check(recipe, dataset.manifest, found.shape)
        return found

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.manifest.classes

    @property
    def name(self) -> str:
        return "random weights" if self.untrained else self.saved.run.name

    @cached_property
    def shape(self) -> Shape:
        """As the run's network takes pictures, of these data."""
        height, width, channels = self.data.manifest.shape
        side = self.saved.shape.size
        return replace(self.saved.shape, stored=(height or side, width or side, channels))

    def known(self, split: str) -> Known:
        """Ids, labels and features of a split, made once. Opening the run's test split is counted."""
        if split not in self._kept:
            if split == "test" and self.own and not self.untrained:
                summary.count_opening(self.saved.run.url, split)
            self._kept[split] = self._made(split)
        return self._kept[split]

    def chosen_by(self) -> tuple[Known, Known, str]:
        """(what is learnt from while something is chosen, what it is chosen by, how that is called): never the judged split."""
        train, val = self.known("train"), self.data.manifest.splits.get("val")
        if self.split != "val" and val and val.rows:
            return train, self.known("val"), "val"
        learn, by = train.fifth()
        return learn, by, "a fifth of train that was left out for it"

    def beside(self, reference: str) -> Backbone:
        """Another run's network over the same pictures, or `random`. Raises Refusal where that run has learnt from the judged split."""
        if reference == RANDOM:
            return replace(self, untrained=True, _kept={})
        other = Saved.named(reference)
        _check_run(other)
        _check_data(other, self.data, reference, path="reference")
        own = reading(other, None).data
        seen = feed.dataset(own)
        if seen.manifest.name == self.data.manifest.name:
            learnt, judged = (_ids(each, name) for each, name in ((seen, "train"), (self.data, self.split)))  # fmt: skip
            if met := len(np.intersect1d(learnt, judged)):
                raise Refusal(
                    f"{other.run.name} has learnt from {met:,} pictures of this {self.split} split",
                    path="reference",
                    value=reference,
                    remedy="name a run with the same data.splits",
                )
        return replace(self, saved=other, own=False, _kept={})

    def _made(self, split: str) -> Known:
        rows = originals(self.data, split)
        if self.workers is None:
            ids, found = self.maker(self._network())(split, rows)
        else:
            pieces = [(split, rows[at : at + EVAL_ROWS]) for at in range(0, len(rows), EVAL_ROWS)]
            sent = replace(self, recipe=resolved(self.recipe), _kept={})
            made = passes(_Apart(sent, self._network()), pieces, self.recipe.scale, self.workers)
            ids, found = map(np.concatenate, zip(*in_order(made), strict=True))
        if not np.isfinite(found).all():
            raise Refusal(
                "its features are no numbers",
                path=self.saved.url,
                remedy="choose another checkpoint (--checkpoint), or a run that has not diverged",
            )
        labels = np.asarray(self.data.columns(split)["label"], np.int64)[rows]
        return Known(ids, labels, found)

    def _network(self) -> nn.Module:
        if self.untrained:
            return build.model(without_weights(self.saved.run.recipe), self.saved.shape)
        return self.saved.model()

    def maker(self, network: nn.Module) -> Maker:
        """What makes the features of some rows of a split."""
        device = device_here(self.recipe.scale)
        network = network.to(device)
        view = shown.view(self.recipe, self.shape, device)
        ready = build.readying(self.shape, device)

        def made(split: str, rows: Rows) -> tuple[Rows, Features]:
            return features(network, self.data, split, view=view, ready=ready, rows=rows)

        return made


@dataclass(frozen=True)
class _Apart:
    """A backbone at work on other machines, each of which opens the data by itself."""

    judge: Backbone
    network: nn.Module  # it travels, so that the run folder need not be at hand there

    def ready(self) -> Maker:
        data = same_data(self.judge.recipe.data, self.judge.data.manifest.digest)
        return replace(self.judge, data=data).maker(self.network)


def originals(dataset: Dataset, split: str) -> Rows:
    """Rows of a split that are no altered copies of others."""
    columns = dataset.columns(split)
    ids = np.asarray(columns["id"])
    found: Rows = np.flatnonzero(np.asarray(columns.get("origin", ids)) == ids)
    return found


def reading(saved: Saved, data: str | None) -> Recipe:
    """How the pictures are read and shown: as when the run was judged."""
    recipe = saved.run.recipe.override(
        {"data.train.transforms": [], "data.train.views": None, "data.train.mix": None}
    )
    if data is None:
        classes = recipe.data.subset.classes if recipe.data.subset else None
        plain: dict[str, object] = {
            f"data.{name}": None for name in _LEARNT_FROM if name != "mixture"
        }
        return recipe.override({**plain, "data.subset": {"classes": classes} if classes else None})
    shape, own = saved.shape, recipe.plain()["data"]
    view = {
        "size": shape.size,
        "mean": list(shape.mean),
        "std": list(shape.std),
        "eval": own["eval"],
    }
    return recipe.override({"data": {**feed.origin(data, "data"), "batch": own["batch"], **view}})


def _check_run(saved: Saved) -> None:
    """Refuse a run whose network has no features of pictures."""
    recipe = saved.run.recipe
    door = rooms.doors("models").get(recipe.model.name)
    takes = door.constants.get("TAKES", "data") if door else "data"
    if not saved.shape.size or takes != "data":
        raise Refusal(
            f"model '{recipe.model.name}' takes {takes if takes != 'data' else 'a table'}, not pictures",
            path=saved.run.url,
            value=recipe.model.name,
            remedy="choose a run of pictures",
        )
    with torch.device("meta"):
        network = build.model(recipe, saved.shape, pretrained=False)
    try:
        anatomy.head(network)
    except Refusal as refusal:
        raise Refusal(
            refusal.error, path=saved.run.url, value=recipe.model.name, remedy=refusal.remedy
        ) from None


def _check_data(saved: Saved, dataset: Dataset, said: str | None, *, path: str = "data") -> None:
    """Refuse data without classes, of other channels, or that are not the run's any more."""
    manifest = dataset.manifest
    subsets.check_labels(dataset, path)
    if len(manifest.classes) < 2:
        raise Refusal(
            f"'{manifest.name}' has one class: there is nothing to tell apart",
            path=path,
            value=manifest.classes[0],
            remedy="name a set with several classes: data=SOURCE",
        )
    if manifest.kind != "image":
        raise Refusal(
            f"'{manifest.name}' is a table", path=path, value=said, remedy="name pictures"
        )
    channels, taken = manifest.shape[2], saved.shape.channels
    if channels not in (1, taken):
        raise Refusal(
            f"{saved.run.name} takes pictures of {taken} channel{'s' * (taken > 1)}, '{manifest.name}' has {channels}",
            path=path,
            value=said,
            remedy="name data, or a run, with the same channels",
        )
    known = saved.run.json("data.json").get("digest")
    if said is None and known and known != manifest.digest:
        raise Refusal(
            "the data set is not the one that the run was trained on",
            path="data",
            value=manifest.digest[:12],
            remedy=f"restore the one with digest {known[:12]}, or name one: data=SOURCE",
        )


def _ids(dataset: Dataset, split: str) -> Rows:
    columns = dataset.columns(split)
    return np.unique(np.asarray(columns.get("origin", columns["id"])))
