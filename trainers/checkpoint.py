"""Checkpoints found and read: safetensors and JSON, nothing is ever unpickled. saving.py writes them and says what is in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.optim import Optimizer

from datasets import order, store
from datasets.refusal import Refusal
from trainers import anatomy

_NAME = re.compile(r"^step-(\d{8,})$")
MARKER = "complete.json"
DAMAGED = "damaged.json"  # the marker of one that was found damaged: it counts no more
CHUNK_BYTES = 2**23


class Damaged(Refusal):
    """A checkpoint whose bytes are not those that were written."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything beside the weights: where the run stands and what it has decided so far."""

    step: int  # steps done, over all phases
    lengths: tuple[
        tuple[int, int], ...
    ]  # (steps per epoch, steps) of each phase, early stops included
    scores: tuple[tuple[int, int, float], ...] = ()  # (phase, step, kept metric) of each evaluation
    samples: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    fetched: Mapping[str, int] = field(default_factory=dict)  # from afar, over all ranks
    checkpoints: Mapping[str, float] = field(default_factory=dict)  # what those before cost
    recipe: str = ""  # its identity
    commit: str = ""
    kept: str = ""  # metric and mode that `scores` are of
    optimizers: Mapping[str, str] = field(
        default_factory=dict
    )  # name -> kind, of the phase it is in

    def to_json(self) -> bytes:
        tree = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(tree, indent=1).encode()

    def under(self, own: State) -> State:
        """The state as a child run takes it up, whose `own` state at step 0 says how long its phases are.

        Raises Refusal where the position would mean something else there. Scores of another metric are forgotten.
        """
        phase = min(order.locate(self.step, self.lengths)[0], len(self.lengths) - 1)
        before = sum(steps for _, steps in self.lengths[:phase])
        remedy = "start from its weights instead: a recipe with phases.0.init=RUN"
        if len(own.lengths) <= phase or own.lengths[phase][0] != self.lengths[phase][0]:
            raise Refusal(
                f"the parent stands at step {self.step}, which is another place in epochs of another length",
                path="data.batch",
                value=[per_epoch for per_epoch, _ in own.lengths],
                remedy=f"keep the phases and the batch as they were, or {remedy}",
            )
        if self.step - before > own.lengths[phase][1]:
            raise Refusal(
                f"the parent has done {self.step - before} steps of this phase, more than {own.lengths[phase][1]}",
                path=f"phases.{phase}",
                value=own.lengths[phase][1],
                remedy=f"raise epochs or steps, or {remedy}",
            )
        return replace(
            self,
            recipe=own.recipe,
            lengths=(*self.lengths[:phase], *own.lengths[phase:]),
            scores=self.scores if self.kept == own.kept else (),
            kept=own.kept,
        )

    @classmethod
    def from_json(cls, data: bytes) -> State:
        tree = json.loads(data)
        for name in ("lengths", "scores"):
            tree[name] = tuple(tuple(row) for row in tree[name])
        return cls(**tree)


def folder(run: str, step: int) -> str:
    return store.join(run, "checkpoints", f"step-{step:08d}")


def nearby(run: str, step: int) -> Path:
    """Where this host keeps a copy of a checkpoint in object storage."""
    url = run.rstrip("/")
    name = f"{url.rpartition('/')[2]}-{xxhash.xxh3_64_hexdigest(url.encode())[:8]}"
    return store.cache_folder() / "checkpoints" / name / f"step-{step:08d}"


def latest(run: str) -> str | None:
    """URL of the newest complete checkpoint of a run folder, whatever anything else remembers."""
    return next(_complete(run, steps(run)), None)


def before(url: str) -> str | None:
    """URL of the newest complete checkpoint of a run that is older than this one."""
    run, _, name = url.rpartition("/checkpoints/")
    return next(_complete(run, [step for step in steps(run) if step < step_of(name)]), None)


def _complete(run: str, among: list[int]) -> Iterator[str]:
    """The newest first."""
    urls = (folder(run, step) for step in reversed(among))
    return (url for url in urls if store.exists(store.join(url, MARKER)))


def verify(url: str) -> None:
    """Compare a complete checkpoint's files with what was written. Raises Damaged.

    Of one in object storage this host then has a copy, so that nothing is fetched twice.
    """
    run, _, step = url.rpartition("/checkpoints/")
    for name, written in _marker(url).items():
        if not store.is_remote(url):
            path = store.path_of(url) / name
            found = checksum(path) if path.exists() else "none"
            if found != written:
                raise _changed(url, name, found, written)
            continue
        data = _file(url, name)
        with suppress(OSError):
            place = nearby(run, step_of(step))
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(data)


def set_aside(url: str) -> None:
    """A damaged checkpoint is complete no more; its files stay for who wants to look."""
    store.remove(store.join(url, DAMAGED))
    store.rename(store.join(url, MARKER), store.join(url, DAMAGED))


def checksum(file: Path) -> str:
    """The XXH3 digest of a file, in hex."""
    found = xxhash.xxh3_64()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def steps(run: str) -> list[int]:
    """The steps of which there are checkpoints, complete or not, in order."""
    found = map(_NAME.match, store.names(store.join(run, "checkpoints")))
    return sorted(int(match[1]) for match in found if match)


def step_of(url: str | None) -> int:
    """The steps that are done in a checkpoint; 0 without one."""
    match = _NAME.match((url or "").rsplit("/", 1)[-1])
    return int(match[1]) if match else 0


def best(run: str) -> str | None:
    """URL of the best checkpoint, else of the newest."""
    name = "checkpoints/best.json"
    url = store.join(run, name)
    if not store.exists(url):
        return latest(run)
    try:
        return folder(run, int(json.loads(store.read_bytes(url))["step"]))
    except (ValueError, KeyError, TypeError):
        raise Refusal(
            "does not say which checkpoint is the best",
            path=url,
            remedy="remove it to use the newest, or run `train` on the run again to have it written anew",
        ) from None


def read_state(url: str) -> State:
    data = _file(url, "state.json")
    try:
        return State.from_json(data)
    except (TypeError, KeyError, ValueError) as error:
        raise _damaged(url, "state.json", str(error)) from None


def chosen(url: str) -> str:
    """The checkpoint that a url means: a checkpoint's folder, or a run's (its best one, else its newest)."""
    if _NAME.match(url.rstrip("/").rsplit("/", 1)[-1]):
        return url
    found = best(url)
    if found is None:
        raise Refusal(
            "neither a checkpoint nor a run that has one",
            path=url,
            value=url,
            remedy="name a run folder or its checkpoints/step-... folder",
        )
    return found


def load_model(url: str, model: nn.Module) -> None:
    """The weights, exactly; a `Refusal` names what is missing, left over or of another shape."""
    model.load_state_dict(fitting(url, model), strict=True)


def begin(url: str, model: nn.Module) -> None:
    """The weights that a phase begins with: a head of other outputs stays as the model has it, all else is exact."""
    model.load_state_dict(fitting(url, model, any_head=True), strict=True)


def fitting(url: str, model: nn.Module, *, any_head: bool = False) -> dict[str, Tensor]:
    """The weights of a checkpoint, if they are this model's, which may be on the meta device.

    With `any_head` a head of another number of outputs is left as it is in the model.
    """
    return _fitting(_tensors(url, "model.safetensors"), url, model, any_head=any_head)


def _fitting(
    found: dict[str, Tensor], url: str, model: nn.Module, *, any_head: bool
) -> dict[str, Tensor]:
    wanted = model.state_dict()
    if any_head:
        found |= _own_head(found, wanted, model)
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    shapes = [
        f"{name} {tuple(found[name].shape)} where the model has {tuple(wanted[name].shape)}"
        for name in sorted(set(wanted) & set(found))
        if found[name].shape != wanted[name].shape
    ]
    problems = [
        *([f"lacks {some(missing)}"] if missing else []),
        *([f"has {some(extra)} besides"] if extra else []),
        *([f"has {some(shapes)}"] if shapes else []),
    ]
    if problems:
        raise Refusal(
            f"a checkpoint of another model: it {'; '.join(problems)}",
            path=url,
            remedy="use the recipe that wrote it, its model's arguments included",
        )
    return found


def check_begin(url: str, model: nn.Module) -> tuple[int, int] | None:
    """Raises Refusal where `begin` would; (a checkpoint's outputs, the model's) where the head begins anew. Read once."""
    found = _tensors(url, "model.safetensors")
    head = _weight_of_head(found, model.state_dict(), model)
    _fitting(found, url, model, any_head=True)
    return (len(head[1]), len(model.state_dict()[head[0]])) if head else None


def _own_head(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], model: nn.Module
) -> dict[str, Tensor]:
    """The model's own head, where that of a checkpoint has the same features and other outputs."""
    weight = _weight_of_head(found, wanted, model)
    if weight is None:
        return {}
    inside = weight[0].removesuffix("weight")
    return {name: tensor for name, tensor in wanted.items() if name.startswith(inside)}


def _weight_of_head(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], model: nn.Module
) -> tuple[str, Tensor] | None:
    """(its name, what a checkpoint has by it) where that has the same features and other outputs."""
    try:
        weight = f"{anatomy.head(model)}.weight"
    except Refusal:
        return None
    old, new = found.get(weight), wanted[weight]
    if old is None or old.shape[1:] != new.shape[1:] or old.shape == new.shape:
        return None
    return weight, old


def load_task(url: str, task: nn.Module, model: nn.Module) -> None:
    """What the task owns beyond the model."""
    found, wanted = _tensors(url, "task.safetensors"), beyond(task, model)
    if set(found) != set(wanted):
        different = sorted(set(found) ^ set(wanted))
        raise Refusal(f"a checkpoint of another task: {some(different)} differ", path=url)
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(found[name])


def load_raw(url: str, live: Mapping[str, Tensor]) -> None:
    """The weights that learn, where the checkpoint's model is their average; one without them is left as it is."""
    if "raw.safetensors" not in _marker(url):
        return
    found = _tensors(url, "raw.safetensors")
    for name, tensor in live.items():
        if name not in found or found[name].shape != tensor.shape:
            raise _damaged(url, "raw.safetensors", f"{name} is missing or has another shape")
        tensor.copy_(found[name])


def load_moments(url: str, optimizers: Mapping[str, Optimizer]) -> None:
    """Moments and counters. Hyper-parameters stay as the recipe says: a resumed run may have been edited."""
    found = _tensors(url, "optim.safetensors")
    for name, optimizer in optimizers.items():
        fused = bool(optimizer.defaults.get("fused"))
        for index, parameter in enumerate(parameters(optimizer)):
            prefix = f"{name}/{index}/"
            for key in [key for key in found if key.startswith(prefix)]:
                tensor, kind = found[key], key.removeprefix(prefix)
                if (
                    kind == "step"
                ):  # a counter: fused kernels read it on the device, others on the CPU
                    moved = tensor.to(parameter.device) if fused else tensor
                elif tensor.shape != parameter.shape:
                    raise _damaged(url, "optim.safetensors", f"{key} has another shape")
                else:
                    # In its parameter's memory format, which fused kernels take for granted.
                    moved = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
                optimizer.state[parameter][kind] = moved.detach()


def parameters(optimizer: Optimizer) -> list[Tensor]:
    """In the order of its groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def beyond(task: nn.Module, model: nn.Module) -> dict[str, Tensor]:
    """The task's tensors that are not the model's, told apart by identity."""
    own = {id(t) for t in model.state_dict(keep_vars=True).values()}
    return {n: t for n, t in task.state_dict(keep_vars=True).items() if id(t) not in own}


def _tensors(url: str, name: str) -> dict[str, Tensor]:
    data = _file(url, name)
    try:
        tensors: dict[str, Tensor] = load(data)
        return tensors
    except (SafetensorError, ValueError) as error:
        raise _damaged(url, name, str(error)) from None


def _file(url: str, name: str) -> bytes:
    """A file of a checkpoint, its checksum compared with the marker's; from this host's copy where that is the same."""
    written = _marker(url).get(name)
    if store.is_remote(url) and (copied := _copied(url, name, written)):
        return copied
    path = store.join(url, name)
    if written is not None and not store.exists(path):
        raise _changed(url, name, "none", written)
    data = store.read_bytes(path)
    found = xxhash.xxh3_64_hexdigest(data)
    if found != written:
        raise _changed(url, name, found, written)
    return data


def _copied(url: str, name: str, written: str | None) -> bytes | None:
    run, _, step = url.rstrip("/").partition("/checkpoints/")
    try:
        data = (nearby(run, step_of(step)) / name).read_bytes()
    except OSError:
        return None
    return data if xxhash.xxh3_64_hexdigest(data) == written else None


def _marker(url: str) -> dict[str, str]:
    """The checksums of a complete checkpoint's files."""
    try:
        marker = json.loads(store.read_bytes(store.join(url, MARKER)))
    except ValueError as error:
        raise _damaged(url, MARKER, str(error)) from None
    if not isinstance(marker, dict):
        raise _damaged(url, MARKER, "it is no mapping")
    return marker


def _changed(url: str, name: str, found: str, written: str | None) -> Damaged:
    return _damaged(url, name, f"checksum {found}, written as {written}")


def _damaged(url: str, name: str, why: str) -> Damaged:
    return Damaged(
        f"a damaged checkpoint: {why[:200]}",
        path=f"{url}/{name}",
        remedy="copy it again, or name another; its run itself goes on from the one before, if there is one",
    )


def some(names: list[str]) -> str:
    """The first three, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
