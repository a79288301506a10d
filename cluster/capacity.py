"""What a cluster has room for, which of its nodes are about to go, and what a worker asks for."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from cluster.connection import MOST_SHARING_CORES, connected, on_cluster
from datasets.refusal import Refusal
from trainers.scale import Scale

logger = logging.getLogger(__name__)

# Nodes that died are missed at once, what they held is given back a little later.
SETTLE_SECONDS = 5.0
_POLL_SECONDS = 0.5
_CLAIMS = "manta"  # a namespace of Ray's key-value store


def num_gpus() -> int:
    """GPUs of the cluster that this process would use, or of this machine."""
    if on_cluster():
        return int(connected(1).cluster_resources().get("GPU", 0))
    return torch.cuda.device_count()


def device_type(scale: Scale) -> torch.device:
    """What the workers compute on."""
    if scale.device == "auto":
        return torch.device("cuda" if num_gpus() else "cpu")
    kind = torch.device(scale.device).type
    if kind == "mps":
        raise Refusal(
            "MPS runs in one process only",
            path="scale.workers",
            value=scale.workers,
            remedy="set scale.workers=1, or scale.device=cpu",
        )
    return torch.device(kind)


def check(fewest: int, device: torch.device) -> None:
    """Refuse a group that can never be met, before anything is written; Ray would wait for it for ever."""
    kind, cores = _kind(device), os.cpu_count() or 1
    if on_cluster():
        most = int(connected(1).cluster_resources().get(kind, 0))
    else:
        most = torch.cuda.device_count() if kind == "GPU" else max(MOST_SHARING_CORES, cores)
    if fewest > most:
        kinds = "GPUs" if kind == "GPU" else "CPU workers"
        raise Refusal(
            f"{fewest} workers are more than the {most} {kinds} that there are",
            path="scale.workers",
            value=fewest,
            remedy="use fewer workers"
            + (", or scale.device=cpu" if kind == "GPU" else "")
            + (
                ", or scale.wait_seconds=900 where an autoscaler brings more"
                if on_cluster()
                else ""
            ),
        )
    if kind == "CPU" and not on_cluster() and fewest > cores:
        logger.warning("%d workers share %d cores: right, but slow", fewest, cores)


def room(device: torch.device) -> int:
    """Workers that could be started now, on nodes that nobody is about to take away."""
    ray, kind, leaving = connected(1), _kind(device), draining()
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    free = ray._private.state.available_resources_per_node()
    return sum(int(free.get(node, {}).get(kind, 0)) for node in alive - leaving)


def awaited(
    fewest: int,
    most: int,
    device: torch.device,
    *,
    seconds: float,
    say: Callable[[str], None],
    stopping: Callable[[], bool],
) -> int:
    """How many workers to start, once there is room for the fewest; 0 when asked to stop before.

    Raises Refusal where there is no room in time.
    """
    if not on_cluster():
        here = torch.cuda.device_count() if device.type == "cuda" else os.cpu_count() or 1
        return max(fewest, min(most, here))
    begun, told = time.monotonic(), False
    while (found := room(device)) < most:
        waited = time.monotonic() - begun
        if stopping():
            return 0
        if found >= fewest and waited > SETTLE_SECONDS:
            break
        if waited > SETTLE_SECONDS and not told:
            say(f"waiting for {_named(fewest, device)}, there is room for {found}")
            told = True
        if waited > max(seconds, SETTLE_SECONDS):
            raise Refusal(
                f"{_named(fewest, device)} are needed and {found} are free, {waited:.0f} s later",
                path="scale.workers",
                value=fewest,
                remedy="add nodes, or lower scale.workers (2..8 takes what there is); "
                "the same command goes on from the last checkpoint",
            )
        time.sleep(_POLL_SECONDS)
    return min(most, found)


def processes(
    scale: Scale, parallel: int | None = None, gpus: float = 1.0
) -> tuple[int, dict[str, float]]:
    """(runs at a time, what is reserved for each) of runs that are driven in processes of Ray: trials, cells.

    `parallel` is what a person said, `gpus` the share of a GPU that a run of one worker takes.
    """
    total = connected(1).cluster_resources()
    kind, most = _kind(device_type(scale)), scale.group[1]
    if most > 1:
        fits = max(1, int(total.get(kind, 0)) // most)
        # The group's own workers take the resources; its driver may have no core to itself.
        return parallel or fits, {"memory": 64 * 2**20}
    each = gpus if kind == "GPU" else 1.0
    fits = max(1, int(total.get(kind, 0) / each))
    if kind == "GPU":
        return parallel or fits, {"GPU": each, "CPU": min(1.0, total.get("CPU", 1.0) / (2 * fits))}
    return parallel or fits, {"CPU": 1.0}


def share(num_workers: int, device: torch.device) -> dict[str, float]:
    """What one worker asks for."""
    cpus = connected(1).cluster_resources().get("CPU", 0.0)
    if device.type == "cuda":
        return {"GPU": 1, "CPU": min(1.0, cpus / (2 * num_workers))}
    # The driver and Ray's own actors want a little too, so never all of it.
    return {"CPU": min(1.0, round(0.9 * cpus / num_workers, 3))}


@contextmanager
def wanted(num_workers: int, device: torch.device) -> Iterator[None]:
    """Within it a cluster's autoscaler, if it has one, knows how many workers are wished for."""
    if not on_cluster():
        yield
        return
    from ray.autoscaler.sdk import request_resources

    bundle = {"GPU": 1} if device.type == "cuda" else {"CPU": 1}
    request_resources(bundles=[bundle] * num_workers)
    try:
        yield
    finally:
        request_resources(bundles=[])


def draining() -> set[str]:
    """Ids of the nodes that are about to be taken away: a cloud's notice, or an operator's `ray drain-node`."""
    nodes: dict[str, int] = connected(1)._private.state.state.get_draining_nodes()
    return {*nodes}


def reserved() -> set[str]:
    """Ids of the placement groups that this job has: what its training groups run in."""
    ray = connected(1)
    job = ray.get_runtime_context().get_job_id()
    table: dict[str, Any] = ray.util.placement_group_table()
    # An id ends with that of the job.
    return {n for n, group in table.items() if n.endswith(job) and group["state"] != "REMOVED"}


def claim(group: str) -> None:
    """A worker's word in which placement group `group` runs: several groups of a search share one job."""
    from ray.experimental import internal_kv
    from ray.util import get_current_placement_group

    if placed := get_current_placement_group():
        internal_kv._internal_kv_put(placed.id.hex(), group, namespace=_CLAIMS)


def release(group: str, before: set[str]) -> None:
    """Give back what a training group that ended held, if it still does; `before` are what was reserved before it began.

    When Ray's controller dies, another actor should, by the dashboard's help: where there is none, or two Rays on a
    machine, the resources would be held for ever.
    """
    from ray.experimental import internal_kv
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    ray = connected(1)
    for each in reserved() - before:
        claimed = internal_kv._internal_kv_get(each, namespace=_CLAIMS)
        # One that nobody claimed may be another's that has just begun: it starts again, as after any loss.
        if claimed is None or claimed.decode() == group:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(each))))


def workers_on(nodes: set[str] | None = None) -> int:
    """How many of this job's training workers live, on these nodes or anywhere."""
    ray = connected(1)
    job = ray.get_runtime_context().get_job_id()
    actors: Any = ray._private.state.actors(actor_state_name="ALIVE")
    return sum(
        actor["JobID"] == job
        and actor["ActorClassName"].endswith("RayTrainWorker")
        and (nodes is None or actor["Address"]["NodeID"] in nodes)
        for actor in actors.values()
    )


def _kind(device: torch.device) -> str:
    return "GPU" if device.type == "cuda" else "CPU"


def _named(num_workers: int, device: torch.device) -> str:
    what = "GPU" if device.type == "cuda" else "core"
    return f"{num_workers} {what}{'s' if num_workers > 1 else ''}"
