"""Checkpoints written while training goes on: a step waits for the copy into host memory, a thread does the rest.

`checkpoints/step-00000420/` holds `model.safetensors` (weights alone), `task.safetensors` (what the task owns beyond the
model), `optim.safetensors` (moments and counters, never hyper-parameters), with an average also `raw.safetensors` (the
weights that learn), `state.json` and, written last, `complete.json`: their checksums. Local folders appear by one rename;
in object storage the marker makes them visible.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from datasets import store
from datasets.refusal import Refusal
from trainers import checkpoint, ledger
from trainers.checkpoint import MARKER, State

logger = logging.getLogger(__name__)

Tensors = Mapping[str, Tensor]


class Snapshot(NamedTuple):
    """The state of a run at a step, in host memory: nothing that training still changes."""

    state: State
    files: Mapping[str, Tensors]  # name without its ending -> tensors


def snapshot(
    state: State,
    *,
    model: nn.Module,
    task: nn.Module,
    optimizers: Mapping[str, Optimizer],
    raw: Tensors | None = None,
) -> Snapshot:
    """Copy what a run needs to go on from here. `raw` are the weights that learn, where the model holds their average."""
    files: dict[str, Tensors] = {
        "model": model.state_dict(),
        "task": checkpoint.beyond(task, model),
        "optim": _moments(optimizers),
    }
    if raw is not None:
        files["raw"] = raw
    copies = {name: {n: _host(t) for n, t in tensors.items()} for name, tensors in files.items()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()  # the copies were only begun
    return Snapshot(state, copies)


def _host(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU that shares no storage, as safetensors asks (tied weights are written twice)."""
    tensor = tensor.detach()
    if not tensor.is_cuda:
        return tensor.to("cpu", copy=True).contiguous()
    # Pinned memory comes from an allocator that keeps it, and is written by the device while we go on.
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)


def write(
    run: str,
    found: Snapshot,
    *,
    ready: Callable[[], object] = lambda: None,
    copies: bool = False,
) -> str:
    """Write a checkpoint atomically; its url. It becomes complete after `ready` has returned.

    Of one in object storage this host keeps a copy if it `copies`.
    """
    url = checkpoint.folder(run, found.state.step)
    checkpoints = store.join(run, "checkpoints")
    local = None if store.is_remote(run) else Path(checkpoints)
    if local:
        local.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=local, prefix=store.TEMPORARY) as name:
        files = Path(name) / "files"
        files.mkdir()
        marker = _written(files, found)
        if local:
            ready()
            store.write_bytes(str(files / MARKER), marker)
            store.remove(url)
            files.rename(url)
        else:
            store.remove(store.join(url, MARKER))
            store.upload(files, url)
            ready()
            store.write_bytes(store.join(url, MARKER), marker)
            if copies:
                _keep_copy(run, found.state.step, files)
    return url


def copy(run: str, found: Snapshot) -> None:
    """Keep a checkpoint on this host's disk, where it is read again sooner than from object storage.

    It counts only beside the one in the run folder, whose checksums it must have.
    """
    with tempfile.TemporaryDirectory(prefix="manta-copy-") as name:
        files = Path(name) / "files"
        files.mkdir()
        _written(files, found)
        _keep_copy(run, found.state.step, files)


def _keep_copy(run: str, step: int, files: Path) -> None:
    """The newest takes the place of those before."""
    place = checkpoint.nearby(run, step)
    try:
        shutil.rmtree(place.parent, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(files, place)
    except OSError as error:
        logger.warning("no copy of step %d is kept on this host: %s", step, error)


def forget_copies(run: str) -> None:
    """The run is over: nobody resumes it."""
    shutil.rmtree(checkpoint.nearby(run, 0).parent, ignore_errors=True)


def _written(folder: Path, found: Snapshot) -> bytes:
    """The files of a snapshot, and the marker that tells their checksums."""
    state = folder / "state.json"
    try:
        state.write_bytes(found.state.to_json())
        for name, tensors in found.files.items():
            file = folder / f"{name}.safetensors"
            save_file(dict(tensors), file)
            file.chmod(state.stat().st_mode)  # safetensors makes its files for the owner alone
    except (SafetensorError, OSError) as error:  # a full disk is the former to safetensors
        raise Refusal(
            f"a checkpoint cannot be written: {error}",
            path=str(folder.parent.parent),
            remedy="make room, or name another place with --out; the same command goes on from the last checkpoint",
        ) from error
    return json.dumps(
        {file.name: checkpoint.checksum(file) for file in sorted(folder.iterdir())}
    ).encode()


def point(run: str, chosen: Mapping[str, Any]) -> None:
    """Say which checkpoint is the best and why; with nothing chosen, that none is."""
    url = store.join(run, "checkpoints", "best.json")
    if chosen:
        store.write_bytes(url, json.dumps(dict(chosen)).encode())
    else:
        store.remove(url)


def sweep(run: str) -> None:
    """Remove what killed ranks left half-written. Only for who holds the run."""
    for room in ("checkpoints", ledger.FOLDER):
        store.sweep(store.join(run, room))


def prune(run: str, *, keep: int, best: Collection[int]) -> None:
    """Remove all but the newest `keep` checkpoints and those of the `best` steps."""
    for step in checkpoint.steps(run)[:-keep]:
        if step not in best:
            url = checkpoint.folder(run, step)
            # The marker goes first: a half-removed checkpoint is never taken for a whole one.
            store.remove(store.join(url, MARKER))
            store.remove(url)


@dataclass
class Times:
    """What checkpoints cost: seconds in sum, bytes of the last one."""

    written: int = 0
    bytes: int = 0
    snapshot_seconds: float = 0.0  # a step waits for these
    waited_seconds: float = 0.0  # and for these, where the one before was still being written
    write_seconds: float = 0.0  # these pass beside the training
    load_seconds: float = 0.0

    @classmethod
    def since(cls, told: Mapping[str, float]) -> Times:
        """Those of a run that goes on."""
        known: dict[str, Any] = {
            each.name: told[each.name] for each in fields(cls) if each.name in told
        }
        return cls(**known)

    def told(self) -> dict[str, float]:
        return {name: round(value, 3) for name, value in asdict(self).items()}


class Keeper:
    """Writes one snapshot after the other, in order, in a thread of its own."""

    def __init__(self, run: str, *, keep: int, ready: Callable[[], object]) -> None:
        """`ready` is called before a checkpoint becomes complete; what it raises, the next call here raises."""
        self.run, self.keep, self.times = run, keep, Times()
        self._ready = ready
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether the last one is still being written."""
        return self._writing is not None and not self._writing.done()

    def put(
        self, take: Callable[[], Snapshot], chosen: Mapping[str, Any], best: Collection[int]
    ) -> None:
        """Take a snapshot and have it written, pointed at as `chosen` says, and others pruned."""
        begun = time.perf_counter()
        self.wait()
        free = time.perf_counter()
        found = take()
        self.times.waited_seconds += free - begun
        self.times.snapshot_seconds += time.perf_counter() - free
        self._writing = self._pool.submit(self._write, found, dict(chosen), {*best})

    def wait(self) -> None:
        """Until everything is written. Raises what went wrong."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def check(self) -> None:
        """Raise what went wrong, without waiting for anything."""
        if not self.busy:
            self.wait()

    def close(self) -> None:
        """No more of them; what is being written is finished."""
        self._pool.shutdown()

    def _write(self, found: Snapshot, chosen: dict[str, Any], best: set[int]) -> None:
        begun = time.perf_counter()
        write(self.run, found, ready=self._ready, copies=True)
        point(self.run, chosen)
        prune(self.run, keep=self.keep, best=best)
        self.times.written += 1
        self.times.bytes = sum(t.nbytes for each in found.files.values() for t in each.values())
        self.times.write_seconds += time.perf_counter() - begun


class Copier(Keeper):
    """Keeps copies of what rank 0 writes on another host."""

    def _write(self, found: Snapshot, chosen: dict[str, Any], best: set[int]) -> None:
        try:
            copy(self.run, found)
        except (
            OSError,
            Refusal,
        ) as error:  # the run folder has it; nothing ends for want of a copy
            logger.warning("no copy of step %d is kept here: %s", found.state.step, error)


def _moments(optimizers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    return {
        f"{name}/{index}/{key}": value
        for name, optimizer in optimizers.items()
        for index, parameter in enumerate(checkpoint.parameters(optimizer))
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
