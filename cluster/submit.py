"""`ray job submit` as people want it: what cannot run is refused here, logs are followed through lost connections, the exit code is the job's."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cluster.environment import commit_variable
from cluster.shipping import Cargo
from datasets.refusal import Refusal, nearest

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

logger = logging.getLogger(__name__)

RECONNECTS = 30  # of a client that lost the cluster, a few seconds apart, without a new line
PAUSE_SECONDS = 2.0
SILENT_SECONDS = 15.0  # of a log, before the cluster is asked whether it is there
STOP_SECONDS = 600  # that a job has to save and to write its report; Ray would kill it after 3
READY_SECONDS = 60.0  # that a new cluster gets before it must take a job
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


class Jobs:
    """The jobs of a cluster. Raises Refusal, with the address, where none answers."""

    def __init__(self, address: str | None = None) -> None:
        self.address = _address(address)
        self._client = self._connected()

    def submit(
        self,
        words: Sequence[str],
        shipped: Cargo,
        variables: Mapping[str, str],
        *,
        python: str | None = None,
    ) -> str:
        """Ship a checkout and start `launch.py words` there, words that are `planned`; the job's id.

        `python` is the head's interpreter; by default the one of the same path as ours, if it has one, else `python`.
        """
        ours = f'"$(command -v {shlex.quote(sys.executable)} || echo python)"'
        entry = f"{shlex.quote(python) if python else ours} launch.py {shlex.join(words)}"
        with tempfile.TemporaryDirectory(prefix="manta-submit-") as folder:
            archive = shipped.pack(Path(folder, "checkout.zip"))
            job = {
                "entrypoint": entry,
                "submission_id": f"manta-{words[0]}-{time.strftime('%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}",
                "runtime_env": {
                    "working_dir": str(archive),
                    "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
                    | commit_variable()  # git's own folder is not shipped
                    | dict(variables),
                },
            }
            until = time.monotonic() + READY_SECONDS
            while True:
                try:
                    return str(self._client.submit_job(**job))
                except (RuntimeError, OSError, ValueError) as error:
                    # A cluster that has just started answers before it can run anything.
                    if "try again later" not in str(error) or time.monotonic() > until:
                        raise self._refused("the job was not taken", error) from error
                time.sleep(PAUSE_SECONDS)

    def follow(self, job: str) -> Iterator[str]:
        """The job's output as it comes, from its beginning to its end, through lost connections."""
        self.known(job)
        shown, tries = 0, 0
        while True:
            seen = 0
            try:
                if tries:
                    _reach(self.address)
                    # Before its log is asked for: a new head writes what it refuses into a log of its own, token and all.
                    self._refuse_forgotten(job)
                for text in self._tail(job):
                    fresh = text[max(0, shown - seen) :]
                    seen += len(text)
                    if fresh:
                        shown, tries = seen, 0
                        yield fresh
                if self.status(job) in _ENDED:
                    return
            except Exception as error:
                if not _is_of_the_network(error):
                    raise
                tries += 1
                self._refuse_forgotten(job)
                if tries > RECONNECTS:
                    raise self._refused(
                        f"job {job} goes on, but its logs do not come", error
                    ) from error
                logger.info("job %s: %s, connecting again", job, error)
            time.sleep(PAUSE_SECONDS)

    def exit_code(self, job: str) -> int:
        """Of a job that has ended: its process's, as a shell would say it; 130 for one that was stopped."""
        found = self._client.get_job_info(job)
        if str(found.status) == "STOPPED":
            return 130
        code = found.driver_exit_code
        if code is None:
            return 0 if str(found.status) == "SUCCEEDED" else 1
        return code if code >= 0 else 128 - code

    def status(self, job: str) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
        return str(self._client.get_job_status(job))

    def why(self, job: str) -> str:
        """What Ray says of how it ended, in a line, without the log that was shown already."""
        said = str(self._client.get_job_info(job).message or "").partition(", last available logs")
        return " ".join(said[0].split())

    def stop(self, job: str) -> str:
        """Ask a job to end, and wait until it has: a run saves a checkpoint first. Its last status."""
        self.known(job)
        with suppress(RuntimeError):  # it may have ended meanwhile
            self._client.stop_job(job)
        until = time.monotonic() + STOP_SECONDS
        while (status := self.status(job)) not in _ENDED and time.monotonic() < until:
            time.sleep(PAUSE_SECONDS / 4)
        return status

    def known(self, job: str) -> None:
        """Raises Refusal, with the nearest name, where there is no such job."""
        try:
            self._client.get_job_status(job)
        except RuntimeError as error:
            ids = [each.submission_id or "" for each in self._client.list_jobs()]
            raise Refusal(
                "there is no such job",
                path=self.address,
                value=job,
                remedy=nearest(job, filter(None, ids)),
            ) from error

    def _refuse_forgotten(self, job: str) -> None:
        """Raises Refusal where a cluster answers, and does not know the job."""
        try:
            _reach(self.address)
            known = {each.submission_id for each in self._client.list_jobs()}
        except Exception as error:
            if not _is_of_the_network(error):
                raise
            return
        if job not in known:
            raise Refusal(
                "the cluster was started anew, and the job went with the old one",
                path=self.address,
                value=job,
                remedy="the same command goes on with its run, from the last checkpoint",
            )

    def _tail(self, job: str) -> Iterator[str]:
        """The job's log from its beginning, as long as the connection holds."""
        loop, lines = asyncio.new_event_loop(), self._client.tail_job_logs(job)
        try:
            while True:
                coming = asyncio.ensure_future(anext(lines), loop=loop)
                while not loop.run_until_complete(asyncio.wait({coming}, timeout=SILENT_SECONDS))[
                    0
                ]:
                    # A head without power closes no connection.
                    _reach(self.address)
                    self.status(job)
                yield coming.result()
        except StopAsyncIteration:
            return
        finally:
            coming.cancel()
            loop.run_until_complete(asyncio.wait({coming}))
            with suppress(RuntimeError):
                loop.run_until_complete(lines.aclose())
            loop.close()

    def _connected(self) -> JobSubmissionClient:
        _reach(self.address)
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        try:
            return JobSubmissionClient(self.address)
        except AuthenticationError:
            raise Refusal(
                "this cluster takes only who shows its token",
                path=self.address,
                remedy="export RAY_AUTH_MODE=token, with the token in ~/.ray/auth_token or RAY_AUTH_TOKEN",
            ) from None
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise self._refused("no Ray dashboard answers", error) from error

    def _refused(self, what: str, error: Exception) -> Refusal:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next(
            (line for line in reversed(lines) if "Error" in line), lines[-1] if lines else ""
        )
        return Refusal(
            f"{what}: {reason[:300]}",
            path=self.address,
            remedy="check the address, the cluster (`ray status`) and RAY_AUTH_TOKEN",
        )


def _address(given: str | None) -> str:
    # RAY_ADDRESS may also name the head's own port, which knows nothing of jobs.
    named = [os.environ.get("RAY_API_SERVER_ADDRESS", ""), os.environ.get("RAY_ADDRESS", "")]
    address = given or next(
        (one for one in named if one.startswith("http")), "http://127.0.0.1:8265"
    )
    if "://" not in address:
        address = f"http://{address}" if ":" in address else f"http://{address}:8265"
    parts: Any = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refusal(
            "is not the address of a Ray dashboard",
            path="--address",
            value=address,
            remedy="name it as http://head-node:8265 (a forwarded port is best)",
        )
    return address


def _is_of_the_network(error: Exception) -> bool:
    """Ray raises RuntimeErrors of its own for what a server answers, requests OSErrors, aiohttp both and others; we, Refusals."""
    return isinstance(error, RuntimeError | OSError | Refusal) or type(error).__module__.startswith(
        "aiohttp"
    )


def _reach(address: str) -> None:
    """Refuse an address where nobody listens, in seconds; Ray's client would try for a minute."""
    import socket

    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=5).close()
    except OSError as error:
        raise Refusal(
            f"nobody listens there ({error.strerror or error})",
            path=address,
            value=address,
            remedy="name the cluster's dashboard: --address http://head-node:8265, or RAY_API_SERVER_ADDRESS",
        ) from error
