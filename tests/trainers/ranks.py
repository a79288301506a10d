"""Two and three real processes with gloo: what each of them finds, for tests to compare with one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor

Found = dict[str, Any]
Scenario = Callable[[int, int], Found]
MOST_SECONDS = 120
# (rows of each rank): uneven, and as eleven lanes of three ranks share 32 rows
CUTS = {2: (5, 3), 3: (11, 11, 10)}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def share(rank: int, world: int) -> slice:
    start = sum(CUTS[world][:rank])
    return slice(start, start + CUTS[world][rank])


def met(folder: Path, scenarios: Mapping[str, Scenario]) -> Path:
    """Every scenario on ranks among two, then among three. They are started once, for they pay for torch; none is left."""
    context = multiprocessing.spawn(
        rank_of_many, args=(str(folder), dict(scenarios)), nprocs=max(CUTS), join=False
    )
    assert context is not None
    try:
        until = time.monotonic() + MOST_SECONDS
        while not context.join(timeout=1):  # raises with a rank's traceback when one fails
            assert time.monotonic() < until, "the ranks hang"
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()
            process.join()
    return folder


def rank_of_many(rank: int, folder: str, scenarios: dict[str, Scenario]) -> None:
    """A spawned process; what it finds is saved for the test's own."""
    torch.set_num_threads(1)
    for world in CUTS:
        if rank >= world:
            continue
        meet = f"file://{folder}/meet-{world}"
        dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=world)
        found = {name: scenario(rank, world) for name, scenario in scenarios.items()}
        torch.save(found, f"{folder}/{world}-{rank}.pt")
        dist.barrier()
        dist.destroy_process_group()


def told(folder: Path, world: int) -> list[Found]:
    """What each rank of so many found."""
    return [torch.load(folder / f"{world}-{r}.pt", weights_only=False) for r in range(world)]
