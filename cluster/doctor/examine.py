"""The doctor's whole examination, of this machine or of a cluster."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import metadata
from typing import TYPE_CHECKING

from cluster.connection import connected, on_cluster
from cluster.doctor import compare, gpu, machine, network, storage, visit
from cluster.doctor import recipe as needs
from cluster.doctor.check import Check, checked
from cluster.doctor.node import Asked, Node
from cluster.doctor.storage import Sign
from cluster.doctor.visit import Round
from datasets import store
from datasets.refusal import Refusal
from trainers.recipe import Recipe
from trainers.rooms import ROOT

if TYPE_CHECKING:
    from cluster.train import Place

ANSWER_SECONDS = 180.0  # a node may have to fetch the checkout first, and to wake its GPUs


def examine(recipe: Recipe | None, out: str | None) -> list[Check]:
    """Versions, devices, storage, network and, for a recipe, its model, data, memory and workers.

    Of the cluster that RAY_ADDRESS names, on every node of it; else of this machine. Nothing that was asked in vain
    keeps anybody waiting.
    """
    out = out or os.environ.get("MANTA_OUT")
    if on_cluster():
        return [checked("versions", _pinned), *_of_the_cluster(recipe, out)]
    return [checked("versions", _pinned), *_of_this_machine(recipe, out or "runs")]


def _of_this_machine(recipe: Recipe | None, out: str) -> list[Check]:
    packed = needs.sets(recipe) if recipe else ()
    far = [each for each in packed if store.is_remote(each.url)]
    checks = [
        checked("device", _device),
        *([found.check] if (found := gpu.gpus(None)).names else []),
        checked("run folders", lambda: storage.run_folders(out)),
        checked("cache", lambda: machine.cache_folder(sum(each.bytes for each in far))),
        checked("shared memory", machine.shared_memory),
        checked("network", lambda: network.network("gloo", "127.0.0.1")),
    ]
    if far:
        checks.append(checked("reading", lambda: storage.reading(far, None)))
    return [*checks, *(needs.checks(recipe, _bytes_here) if recipe else ())]


def _of_the_cluster(recipe: Recipe | None, out: str | None) -> list[Check]:
    ray = connected(1)
    nodes = visit.alive(ray)
    gpus = sum(node.num_gpus for node in nodes)
    cpus = sum(node.num_cpus for node in nodes)
    size = f"{len(nodes)} node{'s' if len(nodes) != 1 else ''}, {cpus:g} CPUs, {gpus} GPUs"
    on_cpu = not gpus or (recipe is not None and recipe.scale.device == "cpu")
    packed = needs.sets(recipe) if recipe else ()
    with ExitStack() as stack:
        own, sign = _signed(stack, out)
        asked = Asked(
            sign,
            "gloo" if on_cpu else "nccl",
            several=len({node.address for node in nodes}) > 1,
            thorough=True,
            sets=packed,
        )
        found = visit.made(ray, nodes, asked, seconds=ANSWER_SECONDS)
    checks = [Check("cluster", "ok", size), *own, *compare.judged(machine.software(), found)]
    if recipe:
        checks += needs.checks(recipe, lambda place: _bytes_there(place, nodes, found))
    return checks


def _signed(stack: ExitStack, out: str | None) -> tuple[list[Check], Sign | None]:
    """The driver's sign among the run folders, until the stack ends; where it leaves none, the check that says why."""
    if not out:
        unsaid = "not looked at: say --out s3://bucket/runs, or a folder that all nodes share"
        return [Check("run folders", "warn", unsaid)], None
    folder = out if store.is_remote(out) else os.path.abspath(store.path_of(out).expanduser())
    try:
        return [], stack.enter_context(storage.signed(folder, storage.SIGN_BYTES))
    except Refusal as refusal:
        return [Check("run folders", "BAD", f"the driver: {refusal}")], None


def _pinned() -> str:
    """The versions here, which are those that pyproject.toml pins."""
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

    tree = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pairs = [line.partition("==") for line in tree["project"]["dependencies"]]
    return [(name, pin) for name, equals, pin in pairs if equals and "*" not in pin]


def _device() -> str:
    from cluster.session import choose_device
    from trainers.scale import Scale

    return f"{choose_device(Scale()).type}, {os.cpu_count()} cores"


def _bytes_here(place: Place) -> int:
    """Memory of one worker on this machine."""
    import torch

    if place.device.type == "cuda":
        return int(torch.cuda.get_device_properties(place.device).total_memory)
    return machine.memory_bytes() // place.workers


def _bytes_there(place: Place, nodes: Sequence[Node], found: Round) -> int:
    """Memory of the worker that has least, where as many as can share a node."""
    seen = [(node, found.seen[node.name]) for node in nodes if node.name in found.seen]
    if place.device.type == "cuda":
        sizes = [each.gpu_bytes for _, each in seen if each.gpu_bytes]
    else:
        sizes = [
            each.memory_bytes // max(1, min(place.workers, int(node.num_cpus)))
            for node, each in seen
            if node.num_cpus
        ]
    if not sizes:
        raise Refusal("no node told what memory it has", path="memory", remedy="see above")
    return min(sizes)
