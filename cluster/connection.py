"""Ray, as Manta wants it: started here, or the cluster that RAY_ADDRESS names."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from datasets.refusal import Refusal
from trainers.rooms import ROOT

logger = logging.getLogger(__name__)

REACH_SECONDS = 5.0
MOST_SHARING_CORES = 8  # CPU workers on fewer cores: fine for tests and laptops, a mistake beyond

# Read by Ray when its modules are imported. Its own poll of 2 s would be paid at every report.
_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3",
    # Groups are started where there is room: what is not placed by then has lost it again.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def on_cluster() -> bool:
    """Whether a cluster is named; otherwise Ray is this machine's alone."""
    return bool(os.environ.get("RAY_ADDRESS"))


def connected(num_workers: int) -> Any:
    """Ray, started here unless a cluster is named by RAY_ADDRESS or a session is open already.

    Raises Refusal, in seconds, where that cluster does not answer, or not to us.
    """
    os.environ.update({k: os.environ.get(k, v) for k, v in _SETTINGS.items()})
    # Workers import Manta from the checkout, whatever directory they are put into.
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    import ray

    if ray.is_initialized():
        return ray
    # All is said and done by then: Ctrl-C while Ray ends its processes would only show its stack.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with _handlers_kept():
        if on_cluster():
            _reached(ray, options)
        else:
            cores = os.cpu_count() or 1
            ray.init(
                address="local",
                num_cpus=max(cores, min(num_workers, MOST_SHARING_CORES) + 1),
                include_dashboard=False,
                **options,
            )
    # Ray's own stories of lost nodes, with stacks of its C++, go to stdout; ours is a line on stderr.
    ray._private.worker._worker_logs_enabled = False
    return ray


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray answers SIGTERM with the stack of its C++ and ends: whoever listened before it came listens on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: set by C, which Python cannot set again
                signal.signal(number, handler)


def _reached(ray: Any, options: dict[str, Any]) -> None:
    address = os.environ["RAY_ADDRESS"]
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        if host and port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
        ray.init(**options)
    except (OSError, RuntimeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        token = "InvalidAuthToken" in str(error) or "AuthenticationError" in str(error)
        said = "it takes only who shows its token" if token else (lines or [""])[0][:200]
        raise Refusal(
            f"no Ray cluster answers: {said}",
            path="RAY_ADDRESS",
            value=address,
            remedy="check RAY_AUTH_MODE=token and the token"
            if token
            else "check the address and `ray status`",
        ) from error


# Too late for what Ray reads at import: say so instead of being slow in silence.
if "ray.train" in sys.modules and (missing := sorted(_SETTINGS.keys() - os.environ.keys())):
    logger.info("ray was imported before Manta: %s not in force", ", ".join(missing))
