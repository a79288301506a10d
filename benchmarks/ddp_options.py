"""DDP's options, each against DDP as torch has it: ResNet-18 over two gloo ranks, blocks alternating in the same processes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import resnet18

from benchmarks.clock import interleaved, ratios
from benchmarks.reading import Reading, summed_up

RANKS, ROWS, BLOCK, ROUNDS = 2, 4, 8, 25
OPTIONS: dict[str, dict[str, Any]] = {
    "gradient_as_bucket_view": {"gradient_as_bucket_view": True},
    "static_graph": {"static_graph": True},
    "both": {"gradient_as_bucket_view": True, "static_graph": True},
    "nothing (two plain ones)": {},
}


def run(rounds: int | None = None) -> list[Reading]:
    """Medians of the paired ratios; the last line says how far two equal sides are apart."""
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as folder:
        spawn(_rank, args=(folder, rounds or ROUNDS), nprocs=RANKS)
        found = json.loads(Path(folder, "found.json").read_bytes())
    note = f"two ranks, {ROWS} rows each at 32 pixels, blocks of {BLOCK} steps"
    return [summed_up("ddp_options", name, found[name], note=note) for name in OPTIONS]


def _rank(rank: int, folder: str, rounds: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS
    )
    found = {}
    for name, options in OPTIONS.items():
        ours, theirs = _loop(options), _loop({})
        interleaved(ours, theirs, steps=BLOCK, rounds=1, fence=dist.barrier)  # warm-up
        a, b = interleaved(ours, theirs, steps=BLOCK, rounds=rounds, fence=dist.barrier)
        found[name] = ratios(a.wall, b.wall)
    if rank == 0:
        Path(folder, "found.json").write_text(json.dumps(found), encoding="utf-8")
    dist.destroy_process_group()


def _loop(options: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    net: nn.Module = DistributedDataParallel(
        resnet18(num_classes=10), broadcast_buffers=False, **options
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True)
    images, labels = torch.randn(ROWS, 3, 32, 32), torch.arange(ROWS) % 10

    def advance() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return advance
