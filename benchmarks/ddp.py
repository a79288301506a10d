"""Two Ray workers: the engine against a plain DDP loop, alternating in the same two processes.

Both sides: gloo, one thread a worker, the same batches by rank, plain batch norm (`scale.sync_bn=false`), no broadcast of
buffers, no evaluation and no checkpoint. The engine writes every step down; the plain loop reads its sums about once a second.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

from benchmarks import fair, plain, workloads
from benchmarks.clock import interleaved, ratios
from benchmarks.reading import Reading, summed_up, total_ratio
from trainers.recipe import Recipe

WORKERS, BLOCK = 2, 50
# title, workload, global batch, steps between the plain loop's logs, rounds
CASES = (
    ("digits, small_cnn, 32 a rank", "digits", 64, 400, 60),
    ("synthetic 32x32x3, ResNet-20, 64 a rank", "resnet20", 128, 10, 10),
)


def run(rounds: int | None = None) -> list[Reading]:
    """Median of the paired ratios with its 95 % bootstrap interval, and sum over sum."""
    readings = []
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as name:
        for title, workload, batch, log_every, most in CASES:
            config = {
                "workload": workload,
                "batch": batch,
                "log_every": log_every,
                "rounds": rounds or most,
                "folder": name,
            }
            _recipe(config, steps=1)  # packs what there is to pack, once
            times = _timed(config)
            (ours, theirs), (our_cpu, their_cpu) = times["wall"], times["cpu"]
            note = f"95 % interval of paired blocks of {BLOCK} steps; losses agree to {times['worst']:.0e}"
            readings += [
                summed_up(
                    "ddp",
                    f"{title}: step, wall",
                    ratios(ours, theirs),
                    target="lower bound <= 1.03",
                    note=note,
                ),
                total_ratio("ddp", f"{title}: step, wall, sum over sum", ours, theirs),
                summed_up("ddp", f"{title}: step, CPU time of rank 0", ratios(our_cpu, their_cpu)),
                summed_up(
                    "ddp", f"{title}: step of plain DDP, wall", [s * 1e6 for s in theirs], unit="µs"
                ),
            ]
    return readings


def _timed(config: dict[str, Any]) -> dict[str, Any]:
    """Run `worker` on two Ray Train workers; what rank 0 measured."""
    from cluster import connection

    ray = connection.connected(WORKERS)
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    cpus = min(1.0, round(0.9 * ray.cluster_resources()["CPU"] / WORKERS, 3))
    TorchTrainer(
        worker,
        train_loop_config=config,
        torch_config=TorchConfig(backend="gloo", timeout_s=600),
        scaling_config=ScalingConfig(num_workers=WORKERS, resources_per_worker={"CPU": cpus}),
        run_config=RunConfig(name=uuid.uuid4().hex, storage_path=f"{config['folder']}/ray"),
    ).fit()
    times: dict[str, Any] = json.loads(Path(config["folder"], "times.json").read_bytes())
    return times


def worker(config: dict[str, Any]) -> None:
    """What each Ray worker runs: the fairness check, a warm-up, then alternating blocks."""
    from cluster.session import RayWorker
    from trainers import parallel

    first = _recipe(config, steps=fair.STEPS)
    here = RayWorker.here("", first.scale, token="")
    rank, world, log_every = here.rank, here.world, config["log_every"]
    recipe = fair.shortened(first)
    losses = fair.logged_losses(recipe, _session(config, first, "fair"))
    advance = plain.loop(recipe, rank=rank, world=world)
    means = [float(parallel.summed(advance().detach())) / world for _ in range(fair.STEPS)]
    worst = fair.check(losses, means)
    recipe = _recipe(config, steps=BLOCK * (config["rounds"] + 2))
    theirs = plain.loop(recipe, rank=rank, world=world, log_every=log_every)
    with fair.engine(recipe, _session(config, recipe, "timed")) as reports:
        fence = parallel.barrier
        interleaved(reports.__next__, theirs, steps=BLOCK, rounds=1, fence=fence)  # warm-up
        a, b = interleaved(
            reports.__next__, theirs, steps=BLOCK, rounds=config["rounds"], fence=fence
        )
    if rank == 0:
        text = json.dumps({"wall": [a.wall, b.wall], "cpu": [a.cpu, b.cpu], "worst": worst})
        Path(config["folder"], "times.json").write_text(text, encoding="utf-8")


def _recipe(config: dict[str, Any], *, steps: int) -> Recipe:
    if config["workload"] == "digits":
        return workloads.digits(batch=config["batch"], steps=steps)
    return workloads.resnet20(Path(config["folder"]), batch=config["batch"], steps=steps)


def _session(config: dict[str, Any], recipe: Recipe, name: str) -> Any:
    """This worker's place in a run folder of its own, there before any rank goes on."""
    from cluster.session import RayWorker
    from trainers import parallel

    folder = Path(config["folder"], config["workload"], name)
    folder.mkdir(parents=True, exist_ok=True)
    parallel.barrier()
    # As if a driver held the folder: a worker writes no checkpoint into one that nobody holds.
    (folder / "lock.json").write_text('{"token": "benchmark"}', encoding="utf-8")
    return RayWorker.here(str(folder), recipe.scale, token="benchmark")
