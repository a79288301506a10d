"""Many runs at once: processes of Ray that serve one run after another, so that torch is imported once each.

With one at a time on this machine, this very process serves them, and Ray is not started.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cluster import capacity
from cluster.connection import connected, on_cluster
from cluster.environment import commit_variable
from cluster.session import STOP
from cluster.train import in_a_job
from cluster.trial import Trial, failed
from datasets import store
from trainers.recipe import Recipe
from trainers.scale import Scale

MOST_DEATHS = 3  # of the process that serves a run, before the run fails
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Wanted:
    """A run that is to be done, at its folder."""

    key: Any
    recipe: Recipe
    folder: str
    opens_test: bool = True


@dataclass(frozen=True)
class Served:
    """One that is over: `status` as in its summary (finished, stopped, failed), and why where it failed."""

    wanted: Wanted
    status: str
    why: str = ""


class Pool:
    """Serves runs of one `scale`, `parallel` at a time (default what fits); `here`: in this process whatever it is."""

    def __init__(self, scale: Scale, parallel: int | None = None, *, here: bool = False) -> None:
        self.live: dict[Any, tuple[Wanted, Any, int]] = {}  # reference -> run, server, deaths
        self.here = here or (parallel == 1 and not on_cluster() and not in_a_job())
        if not self.here:
            os.environ.update(commit_variable())
            self.parallel, self.resources = capacity.processes(scale, parallel)
        else:
            self.parallel = 1

    def serve(
        self, wanted: Callable[[], Wanted | None], stopping: Callable[[], bool]
    ) -> Iterator[Served]:
        """What `wanted` gives until it gives None, as each ends. Once `stopping`, those that run save and end."""
        if self.here:
            while not stopping() and (next_one := wanted()):
                yield Served(next_one, *_run(next_one, stopping))
            return
        yield from self._spread(wanted, stopping)

    def _spread(
        self, wanted: Callable[[], Wanted | None], stopping: Callable[[], bool]
    ) -> Iterator[Served]:
        ray = connected(1)
        idle: list[Any] = []
        more, asked = True, 0.0
        while True:
            while more and not stopping() and len(self.live) < self.parallel:
                found = wanted()
                if found is None:
                    more = False
                    break
                self._begin(idle.pop() if idle else self._server(), found)
            if not self.live:
                break
            ready, _ = ray.wait([*self.live], timeout=POLL_SECONDS)
            for reference in ready:
                run, server, deaths = self.live.pop(reference)
                try:
                    status, why = ray.get(reference)
                except ray.exceptions.RayError as error:
                    if deaths < MOST_DEATHS and not stopping():
                        self._begin(self._server(), run, deaths + 1)
                        continue
                    status, why = "failed", f"its process died: {str(error).splitlines()[0]}"
                else:
                    idle.append(server)
                yield Served(run, status, why)
                more = True  # what it was before may run now
            # Again and again: a run may have been on its way when it was asked.
            if stopping() and time.monotonic() - asked > 5 * POLL_SECONDS:
                asked = time.monotonic()
                for run, _, _ in self.live.values():
                    if store.exists(store.join(run.folder, "recipe.yaml")):
                        store.write_bytes(store.join(run.folder, STOP), b"")

    def _begin(self, server: Any, run: Wanted, deaths: int = 0) -> None:
        reference = server.serve.remote(run.recipe.plain(), run.folder, run.opens_test)
        self.live[reference] = (run, server, deaths)

    def _server(self) -> Any:
        ray = connected(1)
        kind = ray.remote(_Server)
        resources = dict(self.resources)
        options = {"num_cpus": resources.pop("CPU", 0), "num_gpus": resources.pop("GPU", 0)}
        return kind.options(**options, **resources).remote(commit_variable())


class _Server:
    """A process that serves one run after another."""

    def __init__(self, variables: dict[str, str]) -> None:
        os.environ.update(variables)

    def serve(self, tree: dict[str, Any], folder: str, opens_test: bool) -> tuple[str, str]:
        return _run(Wanted(None, Recipe.check(tree), folder, opens_test), lambda: False)


def alone(scale: Scale) -> int | None:
    """One, on a machine with one device and no cluster: there is room for one run, in this process."""
    if on_cluster() or in_a_job() or scale.group[1] > 1:
        return None
    import torch

    devices = torch.cuda.device_count() if torch.cuda.is_available() else os.cpu_count() or 1
    return 1 if devices == 1 else None


def _run(wanted: Wanted, stopping: Callable[[], bool]) -> tuple[str, str]:
    """(status, why it failed)."""
    trial: Trial | None = None
    try:
        trial = Trial(wanted.recipe, wanted.folder, opens_test=wanted.opens_test, stopping=stopping)
        while trial.advance():
            pass
        status = trial.status
        trial.close(status)
        return status, ""
    except Exception as error:  # noqa: BLE001  one run's mistake is its own result
        why = failed(wanted.folder, error, ours=trial is not None)
        if trial:
            trial.close("failed", why)
        return "failed", why
