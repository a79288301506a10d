"""The GPUs of a machine, asked in a process of their own: a driver that hangs must not hang the doctor.

    python -m cluster.doctor.gpu

says as JSON what torch finds, after a small kernel ran on each of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.doctor.check import Check, Finding, checked
from datasets.refusal import Refusal
from trainers.rooms import ROOT

ANSWER_SECONDS = 120.0  # the first CUDA context of a machine takes its time
DRIVER = "/proc/driver/nvidia/version"


@dataclass(frozen=True, slots=True)
class GPUs:
    """What was found; `bytes` is the memory of the smallest."""

    check: Check
    names: tuple[str, ...] = ()
    bytes: int = 0


def gpus(promised: int | None) -> GPUs:
    """The GPUs here, of which Ray was told of `promised`; None where there is no Ray."""
    version = driver()
    if not promised and not version:
        return GPUs(Check("gpu", "ok", "none"))
    try:
        answer = _asked()
    except Refusal as refusal:
        return GPUs(Check("gpu", "BAD", str(refusal)))
    return judged(answer, promised, version or "unknown")


def judged(answer: dict[str, Any], promised: int | None, driver: str) -> GPUs:
    """What `found` answered, held against what Ray was told."""
    check = checked("gpu", lambda: _finding(answer, promised, driver))
    return GPUs(check, tuple(answer["names"]), answer["bytes"])


def _finding(answer: dict[str, Any], promised: int | None, driver: str) -> Finding:
    names, error, cuda = answer["names"], answer["error"], answer["cuda"]
    if promised and len(names) < promised:
        raise Refusal(
            f"torch sees {len(names)} of the {promised} GPUs that Ray was told of{error and f': {error}'}",
            path="gpu",
            value=len(names),
            remedy="check nvidia-smi, the driver, and that torch is built for CUDA",
        )
    if error:
        raise Refusal(
            f"a kernel does not run: {error}",
            path="gpu",
            remedy=f"the driver ({driver}) must serve CUDA {cuda}",
        )
    if not names:
        return Finding("none")
    many = f"{len(names)} x {names[0]}" if len({*names}) == 1 else ", ".join(names)
    said = f"{many}, driver {driver}, CUDA {cuda}, NCCL {answer['nccl']}, a kernel ran"
    if promised is not None and len(names) > promised:
        return Finding(f"{said}; Ray was told of {promised}", state="warn")
    return Finding(said)


def driver(file: str = DRIVER) -> str:
    """The version of NVIDIA's kernel module, "" without one."""
    path = Path(file)
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", path.read_text() if path.is_file() else "")
    return found[0] if found else ""


def _asked() -> dict[str, Any]:
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cluster.doctor.gpu"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise Refusal(
            f"the GPUs did not answer in {ANSWER_SECONDS:.0f} s",
            path="gpu",
            remedy="look at nvidia-smi and dmesg there; the machine may want a restart",
        ) from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        raise Refusal(
            f"the GPUs cannot be asked: {last[:200]}", path="gpu", remedy="mend torch there"
        ) from error
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def found() -> dict[str, Any]:
    """`{names, bytes, cuda, nccl, error}` of this process's GPUs."""
    import torch

    num = torch.cuda.device_count()
    error, names, sizes = "", [], []
    try:
        for index in range(num):
            about = torch.cuda.get_device_properties(index)
            names.append(about.name)
            sizes.append(about.total_memory)
            if int((torch.ones(8, device=f"cuda:{index}") * 2).sum()) != 16:
                error = f"cuda:{index} computes wrongly"
    except (
        RuntimeError,
        AssertionError,
    ) as raised:  # torch's errors of CUDA, and of builds without it
        error = str(raised).strip().splitlines()[0]
    nccl = torch.cuda.nccl.version() if num else ()  # type: ignore[no-untyped-call]
    return {
        "names": names,
        "bytes": min(sizes, default=0),
        "cuda": torch.version.cuda or "(none)",
        "nccl": ".".join(map(str, nccl)),
        "error": error,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(found()) + "\n")
