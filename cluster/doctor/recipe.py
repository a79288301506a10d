"""What a recipe needs of the place: its model, its memory, its workers, its data."""

from __future__ import annotations

from collections.abc import Callable

from cluster.describe import describe, shape_of
from cluster.doctor.check import Check, Finding, checked
from cluster.doctor.machine import GIB
from cluster.doctor.storage import Packed
from cluster.opening import plans_of
from cluster.train import Place, choose_place
from datasets import progress, store
from datasets.packed import leaks
from datasets.refusal import Refusal
from trainers import feed, memory
from trainers.devices import uses_bf16
from trainers.recipe import Recipe

ROOMY = 0.9  # of a device's memory: the rest is its libraries'


def checks(recipe: Recipe, device_bytes: Callable[[Place], int]) -> list[Check]:
    """Data, model, workers and memory; `device_bytes` is what one worker has at the place."""
    try:
        place = choose_place(recipe)
    except Refusal as refusal:
        model = checked("model", lambda: _model(recipe))
        return [model, Check("workers", "BAD", str(refusal))]
    where = "Ray" if place.ray else "this process"
    found = [
        checked("data", lambda: _data(recipe, place)),
        checked("model", lambda: _model(recipe)),
        Check("workers", "ok", f"{place.workers} on {place.device}, {where}"),
        checked("memory", lambda: _memory(recipe, place, device_bytes(place))),
    ]
    # Without its data neither a model's input nor its memory is known: said once is enough.
    firsts = {check.found: check for check in reversed(found)}
    return [check for check in found if check.ok or firsts[check.found] is check]


def sets(recipe: Recipe) -> tuple[Packed, ...]:
    """The packed sets that a recipe names by where they are; none where the data cannot be opened."""
    origins = [*(recipe.data.mixture or ()), recipe.data]
    urls = [origin.url for origin in origins if origin.url is not None]
    try:
        return tuple(Packed.of(url) for url in map(store.absolute, urls))
    except Refusal:
        return ()  # the check of the data says why


def _model(recipe: Recipe) -> str:
    described = describe(recipe)
    number, learning = described["parameters"], described["trainable"]
    frozen = f", {learning:,} of them learn" if learning != number else ""
    return f"{recipe.model.name}, {number:,} parameters{frozen}"


def _data(recipe: Recipe, place: Place) -> str:
    dataset = feed.dataset(recipe.data, shown=progress.shown)
    leaks.refuse(dataset.manifest, recipe.data.allow_leaks)
    plans = plans_of(recipe, dataset, place.workers)
    rows = {split: found.rows for split, found in dataset.manifest.splits.items()}
    return f"{dataset.url}: {rows}, {plans[0].steps} steps an epoch"


def _memory(recipe: Recipe, place: Place, available: int) -> Finding:
    """The phase that takes most, against what a worker has."""
    shape, bf16 = shape_of(recipe, None), uses_bf16(recipe, place.device)
    taken, said = [], recipe.scale.micro_batch
    for index in range(len(recipe.phases)):
        # The largest share of the global batch, or as much of it as is taken at once.
        rows = -(-recipe.phase_data(index).batch // place.fewest)
        found = memory.estimate(recipe, shape, index, bf16=bf16)
        taken.append((found, min(rows, said) if isinstance(said, int) else rows))
    found, rows = max(taken, key=lambda each: each[0].at(each[1]))
    told = (
        f"{_size(found.fixed)} and {_size(found.row)} a row: at {rows} rows a worker "
        f"{_size(found.at(rows))} of {_size(available)}"
    )
    if found.at(rows) <= ROOMY * available:
        return Finding(told)
    fitting = found.most_rows(int(ROOMY * available))
    if said == "auto" and fitting:
        return Finding(f"{told}; scale.micro_batch=auto will find what fits", state="warn")
    remedy = f"set scale.micro_batch={fitting}" if fitting else "choose a smaller model"
    raise Refusal(
        told,
        path="scale.micro_batch",
        value=rows,
        remedy=f"{remedy}, scale.checkpoint_activations=true, or more workers",
    )


def _size(number: float) -> str:
    for unit, bytes_each in (("GiB", GIB), ("MiB", 2**20)):
        if number >= bytes_each:
            return f"{number / bytes_each:,.1f} {unit}"
    return f"{number / 2**10:,.1f} KiB"
