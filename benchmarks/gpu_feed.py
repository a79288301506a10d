"""A GPU that learns from photographs: pictures a second from our shards, from torchvision's ImageFolder, and with nothing to wait for.

Random resized crops of 224 pixels and flips, batches of 256, bf16, channels-last, SGD. Each side has a process of its own, in
rounds; a window of steps is timed after as many as fill every buffer. `threads` is ours with threads that decode; `resident` takes the same batch over and over: no loader
can be faster. The photographs are drawn once (benchmarks/stream/pictures.py), each laid down several times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import fair
from benchmarks.reading import Reading, summed_up
from trainers.recipe import Recipe

ROUNDS = 3
DRAWN, COPIES = 2048, 5
BATCH, SIZE, WARM_UP, WINDOW = 256, 224, 30, 80
NETWORKS = ("resnet18", "resnet50")
SIDES = ("resident", "manta", "threads", "imagefolder")

OURS = {"manta": "processes", "threads": "threads"}


def run(rounds: int | None = None) -> list[Reading]:
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as name:
        prepare(Path(name), DRAWN, COPIES)
        found: dict[tuple[str, str], list[dict[str, float]]] = {}
        for _ in range(rounds or ROUNDS):
            for network in NETWORKS:
                for side in SIDES:
                    one = _alone(side, network, name)
                    found.setdefault((network, side), []).append(one)
    return [reading for network in NETWORKS for reading in _told(network, found)]


def _told(network: str, found: dict[tuple[str, str], list[dict[str, float]]]) -> list[Reading]:
    rates = {side: [one["rate"] for one in found[network, side]] for side in SIDES}
    waits = ", ".join(f"{one['waits']:.3f}" for one in found[network, "manta"])
    readings = [
        summed_up("gpu_feed", f"{network}: {side}", rates[side], unit="img/s") for side in SIDES
    ]
    for other, target in (("resident", ">= .95"), ("threads", ""), ("imagefolder", "")):
        by = [a / b for a, b in zip(rates["manta"], rates[other], strict=True)]
        what, note = f"{network}: manta / {other}", f"share of time waiting for data: {waits}"
        readings.append(summed_up("gpu_feed", what, by, target=target, note=note))
    return readings


def prepare(folder: Path, drawn: int, copies: int) -> None:
    """`photographs/`, each drawn one laid down `copies` times, and our `shards/` of them."""
    from benchmarks.stream import pictures
    from datasets import pack
    from datasets.pictures.prepare import Options

    pictures.draw(folder, drawn, pictures.CLASSES)
    for path in sorted((folder / "photographs").glob("*/*.jpg")):
        for copy in range(1, copies):
            os.link(path, path.with_name(f"{path.stem}-{copy}.jpg"))
    pack.pack(
        "imagefolder",
        {"path": str(folder / "photographs")},
        str(folder / "shards"),
        splits={},
        seed=0,
        options=Options(tile=True),
        workers=os.cpu_count() or 1,
    )


def _alone(side: str, network: str, folder: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.gpu_feed", side, network, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{side} with {network} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(side: str, network: str, folder: str, *, device: str = "cuda") -> None:
    """One side: its rate and the share of the window that it waited for data, as a line of JSON."""
    if side in OURS:
        found = _ours(network, folder, device, OURS[side])
    else:
        batches = _resident if side == "resident" else partial(_imagefolder, folder)
        found = _by_hand(network, batches(), torch.device(device))
    print(json.dumps(found))


def _ours(network: str, folder: str, device: str, decode_in: str) -> dict[str, float]:
    recipe = Recipe.check(
        {
            "name": "feed",
            "model": f"torchvision:{network}",
            "data": {
                "url": f"{folder}/shards",
                "size": SIZE,
                "batch": BATCH,
                "train": {"frame": {"random_resized_crop": {"mirror": 0.5}}},
            },
            "phases": [
                {
                    "task": "classify",
                    "steps": WARM_UP + WINDOW,
                    "optim": {"main": {"name": "sgd", "lr": 0.1, "momentum": 0.9}},
                    "schedule": "constant",
                }
            ],
            "evals": {},
            "keep": {"metric": None},
            "log": {"every": 1},
            "scale": {"device": device, "readers": os.cpu_count(), "decode_in": decode_in},
        }
    )
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as name:
        session = fair.local(recipe, Path(name) / "run")
        with fair.engine(recipe, session) as reports:
            seconds = _timed(lambda: next(reports), device)
            list(reports)  # the last rows are written at the end
        lines = Path(session.folder, "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    waited = {row["step"]: row["wait_seconds"] for row in map(json.loads, lines)}
    waits = waited[WARM_UP + WINDOW] - waited[WARM_UP]
    return {"rate": WINDOW * BATCH / seconds, "waits": waits / seconds}


def _by_hand(
    network: str, batches: Iterator[tuple[Tensor, Tensor]], device: torch.device
) -> dict[str, float]:
    from torchvision import models

    model = models.get_model(network, weights=None, num_classes=10).to(device)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(1, 3, 1, 1) * 255
    std = torch.tensor([0.229, 0.224, 0.225], device=device).view(1, 3, 1, 1) * 255
    waits: list[float] = []

    def advance() -> None:
        begun = time.perf_counter()
        image, label = next(batches)
        waits.append(time.perf_counter() - begun)
        image = image.to(device, non_blocking=True).float().sub_(mean).div_(std)
        image = image.contiguous(memory_format=torch.channels_last)
        label = label.to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16):
            loss = F.cross_entropy(model(image), label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    seconds = _timed(advance, device.type)
    return {"rate": WINDOW * BATCH / seconds, "waits": sum(waits[WARM_UP:]) / seconds}


def _timed(advance: Callable[[], object], device: str) -> float:
    fence: Callable[[], object] = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    for _ in range(WARM_UP):
        advance()
    fence()
    begun = time.perf_counter()
    for _ in range(WINDOW):
        advance()
    fence()
    return time.perf_counter() - begun


def _resident() -> Iterator[tuple[Tensor, Tensor]]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    image = torch.randint(0, 256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8, device=device)
    label = torch.randint(0, 10, (BATCH,), device=device)
    while True:
        yield image, label


def _imagefolder(folder: str) -> Iterator[tuple[Tensor, Tensor]]:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    from benchmarks.stream.decoding import cropped

    files = ImageFolder(
        f"{folder}/photographs", loader=lambda path: cropped(Path(path).read_bytes(), SIZE)
    )
    loader: Any = DataLoader(
        files,
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=os.cpu_count() or 1,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4,
        persistent_workers=True,
    )
    while True:
        yield from loader


if __name__ == "__main__":
    main(*sys.argv[1:4])
