"""`doctor`: what would fail later, found out now and for nothing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from datasets import progress, store
from datasets.refusal import Refusal
from trainers.recipe import Recipe

MOST_FULL = 0.97


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    found: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(recipe: Recipe | None, out: str | None) -> list[Check]:
    """Versions, device, storage and, for a recipe, its model, data and resources."""
    checks = [_checked("versions", _versions), _checked("device", _device)]
    url = out or os.environ.get("MANTA_OUT") or "runs"
    checks.append(_checked("run folders", lambda: _storage(url)))
    checks.append(_checked("cache", lambda: _storage(str(store.cache_folder()))))
    if recipe is not None:
        checks.append(_checked("model", lambda: _model(recipe)))
        checks.append(_checked("workers", lambda: _workers(recipe)))
        checks.append(_checked("data", lambda: _data(recipe)))
    return checks


def _checked(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except Refusal as refusal:
        return Check(name, False, str(refusal))


def _versions() -> str:
    names = ("torch", "torchvision", "ray", "pyarrow")
    found = {name: metadata.version(name) for name in names}
    pinned = [r for r in _pins() if r[0] in found and found[r[0]].split("+")[0] != r[1]]
    if pinned:
        wrong = ", ".join(f"{name} {found[name]} (pinned {pin})" for name, pin in pinned)
        raise Refusal(f"not the pinned versions: {wrong}", remedy="run `make install`")
    said = ", ".join(f"{name} {version}" for name, version in found.items())
    return f"python {platform.python_version()}, {said}"


def _pins() -> list[tuple[str, str]]:
    import tomllib

    from trainers.rooms import ROOT

    tree = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pairs = [line.partition("==") for line in tree["project"]["dependencies"]]
    return [(name, pin) for name, equals, pin in pairs if equals and "*" not in pin]


def _device() -> str:
    import torch

    from cluster.session import choose_device
    from trainers.recipe import Scale

    device = choose_device(Scale())
    cores = os.cpu_count()
    if device.type == "cuda":
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return f"{len(names)} x {names[0]}, {cores} cores"
    return f"{device.type}, {cores} cores"


def _storage(url: str) -> str:
    store.probe(url)
    if store.is_remote(url):
        return f"{url}: written, read and deleted"
    path = store.path_of(url).expanduser().absolute()
    while not path.exists():
        path = path.parent
    usage = shutil.disk_usage(path)
    if usage.used / usage.total > MOST_FULL:
        raise Refusal(f"{usage.free / 2**30:.1f} GiB free", path=url, remedy="make room")
    return f"{url}: written, read and deleted; {usage.free / 2**30:.0f} GiB free"


def _model(recipe: Recipe) -> str:
    from cluster.describe import describe

    number = describe(recipe)["parameters"]
    # Weights, gradients and two moments in float32: what training needs before any activation.
    return f"{recipe.model.name}, {number:,} parameters, {16 * number / 2**20:,.0f} MiB to train before activations"


def _workers(recipe: Recipe) -> str:
    from cluster.train import choose_place

    place = choose_place(recipe)
    return f"{place.workers} on {place.device}, {'Ray' if place.ray else 'this process'}"


def _data(recipe: Recipe) -> str:
    from cluster.train import choose_place, plans_of
    from datasets.packed import leaks
    from trainers import feed

    dataset = feed.dataset(recipe.data, shown=progress.shown)
    leaks.refuse(dataset.manifest, recipe.data.allow_leaks)
    plans = plans_of(recipe, dataset, choose_place(recipe).workers)
    rows = {split: found.rows for split, found in dataset.manifest.splits.items()}
    return f"{dataset.url}: {rows}, {plans[0].steps} steps an epoch"
