"""From a recipe's `data` to what a run reads: the data set, who fills which batch, how samples are mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets import assembled, cached, store, subsets
from datasets.cleaning import lists, view
from datasets.orders import Rows
from datasets.packed import manifest as manifests
from datasets.packed.columns import Array
from datasets.progress import Shown, silent
from datasets.refusal import Refusal, nearest
from datasets.sampling.mixture import Mixture
from datasets.sampling.samplers import Sampler
from datasets.shards import Dataset, open_fold
from trainers import rooms
from trainers.data import Data, Ingredient
from trainers.recipe import Recipe

if TYPE_CHECKING:
    from datasets.mixing import Mixing
    from trainers.build import Shape


def dataset(data: Data, *, shown: Shown = silent) -> Dataset:
    """The packed set or sets, opened: a subset of its rows, labels with noise, cleaned, with weights, as the recipe says.

    A source is packed into the cache first, which is `shown`.
    """
    if data.mixture:
        sets = [_opened(each, data, shown) for each in data.mixture]
        found: Dataset = assembled.mixed(sets, [each.weight for each in data.mixture])
    else:
        found = _opened(data, data, shown)
    if data.learn_from:
        _whole(data, "learn_from")
        found = subsets.joined(found, data.learn_from)
    chosen = data.subset
    if chosen:
        _whole(data, "subset")
    if chosen and chosen.classes:
        found = subsets.of_classes(found, chosen.classes)
    if chosen and chosen.fewer:
        found = subsets.of_train(found, **chosen.fewer, seed=chosen.seed)
    if data.noise:
        _whole(data, "noise")
        noise = rooms.door("noises", data.noise.name).build({}, data.noise.arguments)
        found = subsets.noisy(found, noise)
    if data.held_out:
        _whole(data, "held_out")
        found = subsets.held_out(found, **data.held_out.model_dump())
    if data.cleaned:
        _whole(data, "cleaned")
        found = _cleaned(found, data)
    return subsets.weighted(found) if data.class_weights else found


def _cleaned(found: Dataset, data: Data) -> Dataset:
    """By the list that the recipe names; what it has yet to make (cluster/cleaning.py) changes nothing so far."""
    said = data.cleaned
    assert said
    if not said.path:
        subsets.check_labels(found, view.PATH)
        return found
    noise = data.noise.model_dump() if data.noise else None
    labels = lists.read(said.path, found.manifest, noise=noise, path=view.PATH)
    # How a list was found is in the recipe; of one that a person brings its content counts.
    return view.cleaned(found, labels, other=said.by is None)


def samplers(recipe: Recipe, dataset: Dataset) -> list[Sampler]:
    """Who fills the batches of each phase. Raises Refusal where there is no full batch, or an order does not fit."""
    return [sampler(recipe, index, dataset) for index in range(len(recipe.phases))]


def sampler(recipe: Recipe, index: int, dataset: Dataset) -> Sampler:
    """Who fills the batches of a phase."""
    from trainers.build import on_part  # what the data alone need goes without torch

    data = recipe.phase_data(index)
    lanes = data.lanes or min(data.batch, 64)
    if data.mixture:
        assert isinstance(dataset, assembled.Assembled)
        weights = [each.weight for each in data.mixture]
        return Mixture(dataset.ingredients, weights, batch=data.batch, lanes=lanes)
    name, arguments = (data.order.name, data.order.arguments) if data.order else ("shuffle", {})

    def labels() -> Array:
        columns = dataset.columns("train")
        if "label" not in columns:
            raise Refusal(
                f"order '{name}' goes by classes, '{dataset.manifest.name}' has no labels",
                path="data.order",
                value=name,
                remedy="use data.order=shuffle",
            )
        return columns["label"]

    split = dataset.manifest.split("train")
    rows = Rows(split, labels, data.batch, lanes, data.tail)
    with on_part("data.order"):
        found: Sampler = rooms.door("orders", name).build({"rows": rows}, arguments)
    return found


def mixing(recipe: Recipe, index: int, shape: Shape) -> Mixing | None:
    """CutMix and MixUp of a phase, or None. Raises Refusal where there are no classes to mix."""
    parts = recipe.phase_data(index).train.mix or []
    if not parts:
        return None
    if not shape.classes:
        raise Refusal(
            "samples are mixed with their labels, and these data have none",
            path="data.train.mix",
            value=[part.name for part in parts],
            remedy="set data.train.mix=[]",
        )
    if recipe.phase_data(index).batch < 2:
        raise Refusal(
            "a batch of one sample has no other to be mixed with",
            path="data.batch",
            value=1,
            remedy="use data.batch=2 or more, or set data.train.mix=[]",
        )
    from datasets.mixing import Mixing

    mixers = [rooms.door("mixers", part.name).build({}, part.arguments) for part in parts]
    return Mixing(mixers, len(shape.classes))


def _opened(origin: Data | Ingredient, data: Data, shown: Shown) -> Dataset:
    return open_fold(url_of(origin, data, shown=shown), data.fold)


def url_of(origin: Data | Ingredient, data: Data, *, shown: Shown = silent) -> str:
    """Where a packed set is; a source is packed into the cache first."""
    if origin.url is not None:
        return origin.url
    assert origin.source is not None
    splits = data.splits
    shares = {"val": 0.0 if splits.folds else splits.val, "test": splits.test}
    return cached.ensure(
        origin.source.name,
        origin.source.arguments,
        fractions={name: share for name, share in shares.items() if share != 0},
        folds=splits.folds or 0,
        seed=splits.seed,
        # Frames show parts of pictures in files: who asks for one keeps small pictures in files too.
        raw=0 if data.train.frame or data.eval.frame else None,
        leave_out=bool(data.leave_out),
        extras=data.extra or (),
        shown=shown,
    )


def _whole(data: Data, what: str) -> None:
    if data.mixture:
        raise Refusal(
            f"data.{what} of a mixture is not clear: of which set?",
            path=f"data.{what}",
            remedy="leave one of the two out",
        )


def origin(data: str, path: str) -> dict[str, str]:
    """What a recipe's `data` says for a source or a packed set. Raises Refusal, on `path`, for neither."""
    if data.partition(":")[0] in rooms.doors("sources"):
        return {"source": data}
    if store.exists(store.join(data, manifests.NAME)):
        return {"url": data}
    raise Refusal(
        "neither a packed data set nor a source",
        path=path,
        value=data,
        remedy=nearest(data, rooms.doors("sources"), "`python launch.py list sources`"),
    )
