"""Work spread over Ray tasks, so many at a time: what each gives as it ends, what flies cancelled when nobody wants more."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from cluster import capacity
from cluster.connection import connected
from cluster.session import say_once
from datasets.refusal import Refusal
from datasets.shards import Dataset
from trainers import feed
from trainers.data import Data
from trainers.scale import Scale

Found = TypeVar("Found")
Workers: TypeAlias = (
    int | Literal["auto"] | None
)  # Ray tasks at a time; None: none, but this process

RETRIES = 3  # of a task whose machine died; what the code raises is raised at once


class Work(Protocol):
    """What every machine is told once, however large; `ready`, called once a process, gives what does a piece of it."""

    def ready(self) -> Callable[..., Any]: ...


def spread(
    work: Work,
    pieces: Iterable[tuple[Any, ...]],
    *,
    most: int,
    resources: Mapping[str, float],
) -> Generator[tuple[int, Any]]:
    """(place among the pieces, what came of it) as each ends: `most` tasks at a time, with these resources of Ray's.

    What a task raises is raised here. Closing the generator cancels those that are on their way.
    """
    ray = connected(1)
    task = ray.remote(
        num_cpus=resources.get("CPU", 0), num_gpus=resources.get("GPU", 0), max_retries=RETRIES
    )(_done)
    held = ray.put(work)
    yield from _results(ray, task, (([held], *piece) for piece in pieces), most)


def room(scale: Scale, workers: int | Literal["auto"]) -> tuple[int, dict[str, float]]:
    """(tasks at a time, what each takes) of passes of a network, however many workers its training had, and on whatever."""
    alone = scale.model_copy(update={"workers": 1, "device": _kind(scale)})
    return capacity.processes(alone, None if workers == "auto" else workers)


def _kind(scale: Scale) -> str:
    """The recipe's device, where the cluster has any of that kind: Ray would wait for it for ever."""
    kind = scale.device.partition(":")[0]
    there = kind == "cpu" or (kind == "cuda" and capacity.num_gpus() > 0)
    if there or scale.device == "auto":
        return scale.device
    say_once(f"no {kind} device in this cluster: what there is computes in its place")
    return "auto"


def passes(
    work: Work, pieces: Iterable[tuple[Any, ...]], scale: Scale, workers: int | Literal["auto"]
) -> Generator[tuple[int, Any]]:
    """`spread` of passes of a network, with the room that there is."""
    most, resources = room(scale, workers)
    yield from spread(work, pieces, most=most, resources=resources)


def in_order(found: Iterable[tuple[int, Found]]) -> Iterator[Found]:
    """What came of pieces in their order, as soon as all before are there."""
    waiting: dict[int, Found] = {}
    following = 0
    for place, one in found:
        waiting[place] = one
        while following in waiting:
            yield waiting.pop(following)
            following += 1
    assert not waiting, "a piece was left out"


def same_data(data: Data, digest: str) -> Dataset:
    """The data that work is about, opened on this machine. Raises Refusal where it reads others."""
    found = feed.dataset(data)
    if digest not in ("", found.manifest.digest):
        raise Refusal(
            "a machine of the cluster reads other data by this name",
            path="data",
            value=found.manifest.digest[:12],
            remedy=f"pack it to a place that all machines reach; its digest is {digest[:12]}",
        )
    return found


def _results(
    ray: Any, task: Any, arguments: Iterable[tuple[Any, ...]], most: int
) -> Generator[tuple[int, Any]]:
    left, flying = iter(enumerate(arguments)), dict[Any, int]()
    try:
        while True:
            while len(flying) < most and (following := next(left, None)):
                place, given = following
                flying[task.remote(*given)] = place
            if not flying:
                return
            (done,), _ = ray.wait([*flying], num_returns=1)
            place = flying.pop(done)
            yield place, _got(ray, done)
    finally:
        for reference in flying:
            ray.cancel(reference)


def _got(ray: Any, reference: Any) -> Any:
    from ray.exceptions import RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise (error.cause or error) from None


def _done(held: list[Any], *piece: Any) -> Any:
    """What a Ray task runs; `held` is a list so that Ray hands over the reference, not what it refers to."""
    return _ready(held[0])(*piece)


@lru_cache(maxsize=1)
def _ready(reference: Any) -> Callable[..., Any]:
    """Read once a process: columns and names of a large set, or a network, are many megabytes."""
    import ray

    work: Work = ray.get(reference)
    return work.ready()
