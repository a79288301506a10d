"""The whole state of a run in safetensors and JSON: nothing is ever unpickled.

`checkpoints/step-00000420/` holds `model.safetensors` (weights alone), `task.safetensors` (what the task owns beyond the
model), `optim.safetensors` (moments and counters, never hyper-parameters), `state.json` and, written last,
`complete.json`. Local folders appear by one rename; in object storage the marker makes them visible.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from datasets import order, store
from datasets.refusal import Refusal
from trainers import ledger

_NAME = re.compile(r"^step-(\d{8,})$")
FILES = ("model.safetensors", "task.safetensors", "optim.safetensors", "state.json")


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


def write(
    run: str,
    state: State,
    *,
    model: nn.Module,
    task: nn.Module,
    optimizers: Mapping[str, Optimizer],
) -> str:
    """Write a checkpoint atomically; its url."""
    url = folder(run, state.step)
    checkpoints = store.join(run, "checkpoints")
    local = None if store.is_remote(run) else Path(checkpoints)
    if local:
        local.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=local, prefix=store.TEMPORARY) as name:
        files = Path(name) / "files"
        files.mkdir()
        save_file(_contiguous(model.state_dict()), files / "model.safetensors")
        save_file(_contiguous(_beyond(task, model)), files / "task.safetensors")
        save_file(_contiguous(_moments(optimizers)), files / "optim.safetensors")
        (files / "state.json").write_bytes(state.to_json())
        for file in files.iterdir():  # safetensors makes its files for the owner alone
            file.chmod((files / "state.json").stat().st_mode)
        marker = {n: xxhash.xxh3_64_hexdigest((files / n).read_bytes()) for n in FILES}
        if local:
            store.write_bytes(str(files / "complete.json"), json.dumps(marker).encode())
            store.remove(url)
            files.rename(url)
        else:
            store.remove(store.join(url, "complete.json"))
            store.upload(files, url)
            store.write_bytes(store.join(url, "complete.json"), json.dumps(marker).encode())
    return url


def latest(run: str) -> str | None:
    """URL of the newest complete checkpoint of a run folder, whatever anything else remembers."""
    checkpoints = store.join(run, "checkpoints")
    steps = [int(match[1]) for n in store.names(checkpoints) if (match := _NAME.match(n))]
    for step in sorted(steps, reverse=True):
        url = folder(run, step)
        if store.exists(store.join(url, "complete.json")):
            return url
    return None


def step_of(url: str | None) -> int:
    """The steps that are done in a checkpoint; 0 without one."""
    match = _NAME.match((url or "").rsplit("/", 1)[-1])
    return int(match[1]) if match else 0


def point(run: str, chosen: Mapping[str, Any]) -> None:
    """Say which checkpoint is the best and why; with nothing chosen, that none is."""
    url = store.join(run, "checkpoints", "best.json")
    if chosen:
        store.write_bytes(url, json.dumps(dict(chosen)).encode())
    else:
        store.remove(url)


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


def sweep(run: str) -> None:
    """Remove what killed ranks left half-written. Only for who holds the run."""
    for room in ("checkpoints", ledger.FOLDER):
        store.sweep(store.join(run, room))


def prune(run: str, *, keep: int, best: int | None) -> None:
    """Remove all but the newest `keep` checkpoints and the best one."""
    checkpoints = store.join(run, "checkpoints")
    steps = sorted(int(match[1]) for n in store.names(checkpoints) if (match := _NAME.match(n)))
    for step in steps[:-keep]:
        if step != best:
            url = folder(run, step)
            # The marker goes first: a half-removed checkpoint is never taken for a whole one.
            store.remove(store.join(url, "complete.json"))
            store.remove(url)


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


def fitting(url: str, model: nn.Module) -> dict[str, Tensor]:
    """The weights of a checkpoint, if they are this model's, which may be on the meta device."""
    found = _tensors(url, "model.safetensors")
    wanted = model.state_dict()
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    shapes = [
        f"{name} {tuple(found[name].shape)} where the model has {tuple(wanted[name].shape)}"
        for name in sorted(set(wanted) & set(found))
        if found[name].shape != wanted[name].shape
    ]
    problems = [
        *([f"lacks {_some(missing)}"] if missing else []),
        *([f"has {_some(extra)} besides"] if extra else []),
        *([f"has {_some(shapes)}"] if shapes else []),
    ]
    if problems:
        raise Refusal(
            f"a checkpoint of another model: it {'; '.join(problems)}",
            path=url,
            remedy="use the recipe that wrote it, its model's arguments included",
        )
    return found


def load_task(url: str, task: nn.Module, model: nn.Module) -> None:
    """What the task owns beyond the model."""
    found, wanted = _tensors(url, "task.safetensors"), _beyond(task, model)
    if set(found) != set(wanted):
        different = sorted(set(found) ^ set(wanted))
        raise Refusal(f"a checkpoint of another task: {_some(different)} differ", path=url)
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(found[name])


def load_moments(url: str, optimizers: Mapping[str, Optimizer]) -> None:
    """Moments and counters. Hyper-parameters stay as the recipe says: a resumed run may have been edited."""
    found = _tensors(url, "optim.safetensors")
    for name, optimizer in optimizers.items():
        fused = bool(optimizer.defaults.get("fused"))
        for index, parameter in enumerate(_parameters(optimizer)):
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


def _moments(optimizers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    return {
        f"{name}/{index}/{key}": value
        for name, optimizer in optimizers.items()
        for index, parameter in enumerate(_parameters(optimizer))
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _beyond(task: nn.Module, model: nn.Module) -> dict[str, Tensor]:
    """The task's tensors that are not the model's, told apart by identity."""
    own = {id(t) for t in model.state_dict(keep_vars=True).values()}
    return {n: t for n, t in task.state_dict(keep_vars=True).items() if id(t) not in own}


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU that share no storage, as safetensors asks (tied weights are written twice)."""
    return {n: t.detach().to("cpu", copy=True).contiguous() for n, t in tensors.items()}


def _tensors(url: str, name: str) -> dict[str, Tensor]:
    data = _file(url, name)
    try:
        tensors: dict[str, Tensor] = load(data)
        return tensors
    except (SafetensorError, ValueError) as error:
        raise _damaged(url, name, str(error)) from None


def _file(url: str, name: str) -> bytes:
    """A file of a checkpoint, its checksum compared with the marker's."""
    data = store.read_bytes(store.join(url, name))
    found = xxhash.xxh3_64_hexdigest(data)
    marker = store.read_bytes(store.join(url, "complete.json"))
    try:
        written = json.loads(marker)[name]
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(url, "complete.json", str(error)) from None
    if found != written:
        raise _damaged(url, name, f"checksum {found}, written as {written}")
    return data


def _damaged(url: str, name: str, why: str) -> Refusal:
    return Refusal(
        f"a damaged checkpoint: {why[:200]}",
        path=f"{url}/{name}",
        remedy="copy it again, or name another; where its run is to go on, remove its folder and "
        "it resumes from the one before",
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
