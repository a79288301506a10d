"""Weights to begin with, from files: read without unpickling code, compared with the network, put into its body.

The head is the recipe's: that of the file is taken where it is of the same shape, and left where it is not.
"""

from __future__ import annotations

import importlib
import pickle
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from datasets import store
from datasets.refusal import Refusal
from trainers import anatomy, checkpoint, networks, rooms
from trainers.model_part import WEIGHTS, ModelPart

if TYPE_CHECKING:
    from trainers.build import Shape

# Under these names training scripts keep the weights beside an optimizer's state and the like.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "weights")
_COUNTER = "num_batches_tracked"  # of batch norm: old files lack it, and nothing hangs on it
_DAMAGED = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError, RuntimeError, EOFError),
    *(ValueError, KeyError, IndexError, TypeError, AttributeError),
)


def begin(part: ModelPart, network: nn.Module) -> None:
    """Put the weights into the network that the recipe names, unless its library has done so. Raises Refusal."""
    tensors = _named(part)
    if tensors is not None:
        network.load_state_dict(fitting(network, tensors, _source(part)), strict=False)


def check(part: ModelPart, network: nn.Module, shape: Shape) -> None:
    """Refuse weights that cannot be had, or are another network's; `network` may be on the meta device."""
    tensors = _named(part)
    if tensors is not None:
        fitting(network, tensors, _source(part))
    elif part.pretrained:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is loaded into meta goes nowhere, torch warns
            networks.bare(
                part,
                num_classes=shape.num_classes,
                channels=shape.channels,
                size=shape.size,
                pretrained=part.pretrained,
            )


def told(part: ModelPart) -> dict[str, Any] | None:
    """Where the weights come from, for people: `{from, checksum}`."""
    if not part.pretrained:
        return None
    if part.file:
        return {"from": part.file, "checksum": checkpoint.checksum(_local(part.file))}
    return {"from": f"{part.name}'s own" if part.pretrained is True else part.pretrained}


def unchanged(part: ModelPart, before: Mapping[str, Any]) -> None:
    """Refuse a file that is no longer what the run began with (`told`, then). One that is gone is not needed."""
    if not part.file or part.file != before.get("from") or store.is_remote(part.file):
        return
    path = store.path_of(part.file)
    if path.is_file() and checkpoint.checksum(path) != before["checksum"]:
        raise Refusal(
            f"{part.file} has changed since the run began with it",
            path="model.pretrained",
            value=part.file,
            remedy="give the new weights another name, which is another run; or begin anew with --fresh",
        )


def _named(part: ModelPart) -> dict[str, Tensor] | None:
    """The tensors that are ours to load; None of a library's own weights, and of random ones."""
    if part.file:
        return read(part.file)
    if part.pretrained and part.name in rooms.doors("models"):
        known = importlib.import_module(f"trainers.models.{part.name}").weights
        named = "ARCHITECTURES" in rooms.door("models", part.name).constants
        tensors: dict[str, Tensor] = known(part.pretrained, **part.arguments) if named else known()
        return tensors
    return None


def _source(part: ModelPart) -> str:
    return part.file or part.name


def read(url: str) -> dict[str, Tensor]:
    """The tensors of a file by name: safetensors, or a state dict of torch's, perhaps beneath the names that scripts use.

    A run, or its checkpoint's folder, stands for the weights in it.
    """
    path = _local(url)
    try:
        found: Any
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            with torch.serialization.safe_globals([Namespace]):  # scripts keep their arguments
                found = torch.load(
                    path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
                )
    except _DAMAGED as error:
        why = " ".join(str(error).split())[:160]
        raise Refusal(
            f"{url} is not readable as weights: {why}",
            path="model.pretrained",
            value=url,
            remedy="save tensors alone: torch.save(model.state_dict(), 'weights.pt'), or safetensors",
        ) from None
    while isinstance(found, Mapping):
        tensors = {str(name): t for name, t in found.items() if isinstance(t, Tensor)}
        inner = next((found[n] for n in _WRAPPERS if isinstance(found.get(n), Mapping)), None)
        if inner is None and tensors:
            return tensors
        found = inner
    raise Refusal(
        f"{url} holds no tensors by name",
        path="model.pretrained",
        value=url,
        remedy="save a state dict: torch.save(model.state_dict(), 'weights.pt')",
    )


def _local(url: str) -> Path:
    """The file on this host: a remote one is fetched once, and again when it has changed."""
    file = url
    if not url.lower().endswith(WEIGHTS):
        file = store.join(checkpoint.chosen(url), "model.safetensors")
    if not store.exists(file):
        raise Refusal(
            f"no such file: {url}",
            path="model.pretrained",
            value=url,
            remedy=f"name a file of weights ({', '.join(WEIGHTS)}) or a run's folder",
        )
    if not store.is_remote(file):
        return store.path_of(file)
    version = xxhash.xxh3_64_hexdigest(f"{file} {store.modified_seconds(file)}".encode())
    place = store.cache_folder() / "weights" / f"{version}-{file.rpartition('/')[2]}"
    if not place.exists():
        store.download(file, place)
    return place


def head(network: nn.Module) -> str:
    """The dotted name of the layer that gives the outputs: the last linear one, else the last with parameters."""
    try:
        return anatomy.head(network)
    except Refusal:
        return [name for name, _ in network.named_parameters()][-1].rpartition(".")[0]


def fitting(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Those of the tensors that go into the network: its whole body, and the head where that of the file fits.

    Raises Refusal, with their names, where some of the body are missing, left over or of another shape.
    """
    wanted = network.state_dict()
    found = _stripped(tensors, wanted)
    inside = f"{head(network)}."
    missing = [
        name
        for name in wanted
        if name not in found and not name.startswith(inside) and not name.endswith(_COUNTER)
    ]
    extra = [name for name in found if name not in wanted and not name.startswith(inside)]
    other = [n for n in wanted if n in found and found[n].shape != wanted[n].shape]
    shapes = [
        f"{name} is {tuple(found[name].shape)} where the model has {tuple(wanted[name].shape)}"
        for name in other
        if not name.startswith(inside)
    ]
    problems = [
        *([f"it lacks {checkpoint.some(missing)}"] if missing else []),
        *([f"it has {checkpoint.some(extra)} besides"] if extra else []),
        *([checkpoint.some(shapes)] if shapes else []),
    ]
    if problems:
        raise Refusal(
            f"{source} has the weights of another network: {'; '.join(problems)}",
            path="model.pretrained",
            value=source,
            remedy="name the model, and its arguments, that they were saved from",
        )
    ours = [name for name in wanted if name.startswith(inside)]
    fits = all(name in found and name not in other for name in ours)
    return {n: t for n, t in found.items() if n in wanted and (fits or n not in ours)}


def _stripped(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the names that wrappers put before all others: DDP's `module.`, torch.compile's `_orig_mod.`, ...

    Of a whole CLIP, the image tower alone, where that is what is wanted.
    """
    found = dict(tensors)
    towers = {name.partition(".")[0] for name in wanted}
    if towers == {"0", "1"} and any(name.startswith("visual.") for name in found):
        found = {f"0.{n.partition('.')[2]}": t for n, t in found.items() if n.startswith("visual.")}
    while found and not any(name in wanted for name in found):
        firsts = {name.partition(".")[0] for name in found}
        if len(firsts) > 1 or not all("." in name for name in found):
            break
        found = {name.partition(".")[2]: tensor for name, tensor in found.items()}
    return found
