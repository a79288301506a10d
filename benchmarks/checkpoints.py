"""What a checkpoint costs the training: ResNet-50 on synthetic pictures in this process, with one a block and with none.

Both sides are the engine, driven step by step in alternating blocks; one of them begins a checkpoint (weights and momentum,
about 190 MB) at the first step of each block, which a thread then writes to the disk while the block goes on. What the block
takes more is the checkpoint's cost, the copy into memory and the disturbance by the writing thread together.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import fair, workloads
from benchmarks.clock import Times, interleaved
from benchmarks.reading import Reading, summed_up
from trainers import summary
from trainers.recipe import Recipe

BATCH, BLOCK, ROUNDS = 32, 12, 15
A_MINUTE = 60.0


def run(rounds: int | None = None) -> list[Reading]:
    """Seconds a checkpoint, and their share of a minute."""
    rounds = rounds or ROUNDS
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="manta-bench-") as name:
            kept, plain, told = _timed(Path(name), rounds)
    finally:
        torch.set_num_threads(threads)
    costs = [(a - b) * BLOCK for a, b in zip(kept.wall, plain.wall, strict=True)]
    note = f"paired blocks of {BLOCK} steps, {told['bytes'] / 1e6:.0f} MB a checkpoint"
    snapshots = told["snapshot_seconds"] / told["written"]
    shares = [100 * cost / A_MINUTE for cost in costs]
    return [
        summed_up("checkpoints", "a checkpoint, in all", costs, unit="s", note=note),
        summed_up(
            "checkpoints", "at one a minute", shares, unit="% of the time", target="< 1", note=note
        ),
        summed_up("checkpoints", "the copy that a step waits for", [snapshots], unit="s"),
        summed_up(
            "checkpoints",
            "its writing, beside the training",
            [told["write_seconds"] / told["written"]],
            unit="s",
        ),
        summed_up("checkpoints", "a step", list(plain.wall), unit="s", note="without"),
    ]


def _timed(folder: Path, rounds: int) -> tuple[Times, Times, dict[str, Any]]:
    steps = BLOCK * (rounds + 2)
    recipe = workloads.resnet20(folder, batch=BATCH, steps=steps).override("model=resnet50")
    saving = recipe.override({"keep.every_steps": BLOCK})
    place = fair.local(saving, folder / "kept")
    with fair.engine(saving, place) as ours, fair.engine(*_beside(recipe, folder)) as theirs:
        next(ours)  # so that each block has its checkpoint near its beginning
        interleaved(ours.__next__, theirs.__next__, steps=BLOCK, rounds=1)
        found = interleaved(ours.__next__, theirs.__next__, steps=BLOCK, rounds=rounds)
        for _ in ours:  # to the end, where it says what its checkpoints cost
            pass
    return *found, summary.read(place.folder)["checkpoints"]


def _beside(recipe: Recipe, folder: Path) -> Any:
    return recipe, fair.local(recipe, folder / "plain")
