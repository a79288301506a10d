"""Ray tasks, so many at a time: what each gives as it ends, what flies cancelled when nobody wants more."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from cluster.connection import connected

RETRIES = 3  # of a task whose machine died; what the code raises is raised at once


def results(
    task: Any, arguments: Iterable[tuple[Any, ...]], *, most: int
) -> Generator[tuple[int, Any]]:
    """(place among the arguments, result) of `task.remote(*arguments)`, `most` of them at a time, as each ends.

    What a task raises is raised here. Closing the generator cancels those that are on their way.
    """
    ray = connected(1)
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
