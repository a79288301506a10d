"""DDP's options, each against DDP as torch has it: ResNet-18 over two gloo ranks, blocks alternating in the same processes.

Which of two equal loops is faster hangs on where their memory came to lie, by several percent, and stays so for as long as
the processes live. So each pair is started several times, and a start counts once, by the median of its blocks.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import warnings
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

RANKS, ROWS, BLOCK, BLOCKS, STARTS = 2, 4, 8, 7, 6
OPTIONS: dict[str, dict[str, Any]] = {
    "gradient_as_bucket_view": {"gradient_as_bucket_view": True},
    "static_graph": {"static_graph": True},
    "both": {"gradient_as_bucket_view": True, "static_graph": True},
    "nothing (two plain ones)": {},
}


def run(rounds: int | None = None) -> list[Reading]:
    """Medians over starts of the paired ratios; the last line says how far two equal sides are apart."""
    found: dict[str, list[float]] = {name: [] for name in OPTIONS}
    for _ in range(rounds or STARTS):
        for name, medians in found.items():
            medians.append(_started(name))
    note = f"two ranks, {ROWS} rows each at 32 pixels; {BLOCKS} blocks of {BLOCK} steps a start"
    return [summed_up("ddp_options", name, found[name], note=note) for name in OPTIONS]


def _started(name: str) -> float:
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as folder:
        spawn(_rank, args=(folder, name), nprocs=RANKS)  # type: ignore[no-untyped-call]
        return float(statistics.median(json.loads(Path(folder, "found.json").read_bytes())))


def _rank(rank: int, folder: str, name: str) -> None:
    warnings.simplefilter("ignore", FutureWarning)  # of an argument that Manta gives as well
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS
    )
    ours, theirs = _loop(OPTIONS[name]), _loop({})
    interleaved(ours, theirs, steps=BLOCK, rounds=1, fence=dist.barrier)  # warm-up
    a, b = interleaved(ours, theirs, steps=BLOCK, rounds=BLOCKS, fence=dist.barrier)
    found = ratios(a.wall, b.wall)
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
