"""Hosts on this machine with addresses, process tables and disks of their own, for faults that hit whole hosts.

Each is a network, mount, uts and pid namespace on a bridge; its first process runs `ray start`. Needs root and iproute2.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

DISK = "/srv"  # where a host sees its own folder: one path on all, since Ray's session is called the same everywhere
HEAD = 2  # its number
JOIN_SECONDS, LEAVE_SECONDS = 120.0, 120.0
# How soon Ray calls a silent host dead. Shorter, and a busy machine's hosts die without a fault.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "3",
}
# A shell stays the first process: it takes up the orphans of the others, and the host is gone when Ray is.
_BOOT = """
mount --bind "$1" {disk} && mount -t tmpfs -o size=512m tmpfs /dev/shm && hostname "$2" && mkdir -p {disk}/tmp || exit 1
shift 2
"$@" &
wait $!
"""


def missing() -> str:
    """What this machine lacks to have hosts; empty where it can."""
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    tools = [name for name in ("ip", "unshare", "setpriv", "mount") if not shutil.which(name)]
    if tools:
        return f"needs {', '.join(tools)} (Debian: iproute2, util-linux)"
    if not Path(DISK).is_dir():
        return f"needs a folder {DISK}, which hosts mount their own over"
    probe = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "ip", "link"]
    tried = subprocess.run([*probe, "add", "probe", "type", "bridge"], capture_output=True)
    return f"may make no namespaces: {tried.stderr.decode().strip()}" if tried.returncode else ""


class Host:
    """One host with its Ray node, from its making to its power cut."""

    def __init__(self, hosts: Hosts, number: int, ray: list[str]) -> None:
        # As pods are called: what comes after a host has another name.
        self.number, self.name = number, f"host-{number}-{secrets.token_hex(2)}"
        self.address = f"{hosts.subnet}.{number}"
        self.space, self._port = f"{hosts.bridge}-{number}", f"{hosts.bridge}p{number}"
        self.folder, self._cut = hosts.folder / self.name, False
        self.folder.mkdir()
        _ip("netns", "add", self.space)
        _ip("link", "add", self._port, "type", "veth", "peer", "eth0", "netns", self.space)
        _ip("link", "set", self._port, "master", hosts.bridge, "up")
        _ip("-n", self.space, "addr", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self.space, "link", "set", "eth0", "up")
        _ip("-n", self.space, "link", "set", "lo", "up")
        with (self.folder / "host.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.space),
                    *("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"),
                    *("--mount-proc", "sh", "-c", _BOOT.format(disk=DISK), "sh"),
                    *(str(self.folder), self.name, *ray, "--node-ip-address", self.address),
                ],
                env=hosts.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self) -> Iterator[Path]:
        """/proc/PID of what runs on it."""
        ours = f"/proc/{self._process.pid}/ns/pid_for_children"
        with suppress(OSError):
            space = os.readlink(ours)
            for path in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    if os.readlink(path / "ns" / "pid") == space:
                        yield path

    def writes(self, name: str) -> bool:
        """Whether one of its processes has a file of this name open."""
        for process in self.processes():
            for opened in process.glob("fd/*"):
                with suppress(OSError):
                    if os.readlink(opened).endswith(f"/{name}"):
                        return True
        return False

    def kill(self, words: str) -> int:
        """SIGKILL for those of its processes whose command line has these words; how many."""
        killed = 0
        for process in list(self.processes()):
            with suppress(OSError):
                said = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if words in said:
                    os.kill(int(process.name), signal.SIGKILL)
                    killed += 1
        return killed

    def unplug(self) -> None:
        """Pull its cable: no packet comes or goes, and nobody is told."""
        _ip("link", "set", self._port, "down")

    def plug(self) -> None:
        _ip("link", "set", self._port, "up")

    @property
    def on(self) -> bool:
        return self._process.poll() is None

    def power_cut(self) -> None:
        """All its processes end at once, and say no word of farewell to the network. Twice is fine."""
        if self._cut:
            return
        self._cut = True
        self.unplug()
        self._process.kill()  # its first process goes with it, and with that the kernel ends the others
        self._process.wait(LEAVE_SECONDS)
        _ip("netns", "del", self.space)  # and its end of the cable, a moment later
        _ip("link", "del", self._port, check=False)


class Hosts:
    """A head without CPUs and hosts of one CPU each, as a Ray cluster with token authentication.

    `gateway` is this machine's own address on their bridge: what listens there is reached by all of them.
    """

    def __init__(self, folder: Path, ray: str) -> None:
        self.folder, self.ray, self.members = folder, ray, list[Host]()
        self.bridge, self.subnet, self._last = "", "", HEAD
        self.token = secrets.token_hex(32)
        path = folder / "token"
        path.touch(mode=0o600)
        path.write_text(self.token)
        self.credentials = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": DISK,
            "TMPDIR": f"{DISK}/tmp",
            "MANTA_CACHE": f"{DISK}/cache",
            "OMP_NUM_THREADS": "1",
            **HEALTH,
            **self.credentials,
        }

    def __enter__(self) -> Self:
        for number in range(1, 255):
            self.bridge, self.subnet = f"manta{number}", f"10.77.{number}"
            if _ip("link", "add", self.bridge, "type", "bridge", check=False):
                break
        _ip("addr", "add", f"{self.gateway}/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        return self

    @property
    def gateway(self) -> str:
        return f"{self.subnet}.1"

    @property
    def dashboard(self) -> str:
        return f"http://{self.subnet}.{HEAD}:8265"

    def start(self) -> Host:
        """The head joins, at the same address each time."""
        return self._booted(HEAD, ["--head", "--num-cpus=0", "--dashboard-host=0.0.0.0"])

    def add(self, number: int | None = None) -> Host:
        """A host joins: a new one, or the one of this number again, with an empty disk."""
        if number is None:
            self._last = number = self._last + 1
        return self._booted(number, ["--num-cpus=1", f"--address={self.subnet}.{HEAD}:6379"])

    @property
    def head(self) -> Host:
        return next(host for host in self.members if host.on and host.number == HEAD)

    @property
    def workers(self) -> list[Host]:
        return [host for host in self.members if host.on and host.number != HEAD]

    def with_workers(self, count: int) -> list[Host]:
        """As many hosts with a CPU, once Ray knows of these and of no other: fresh ones are added."""
        found = self.workers
        found += [self.add() for _ in range(count - len(found))]
        until = time.monotonic() + JOIN_SECONDS
        while self.alive() != {self.head.address, *(host.address for host in found)}:
            assert time.monotonic() < until, f"Ray knows of {self.alive()}"
            time.sleep(0.5)
        return found

    def _booted(self, number: int, words: list[str]) -> Host:
        for former in self.members:
            if former.number == number:
                former.power_cut()  # what its Ray left of it
        words += ["--block", "--temp-dir", f"{DISK}/ray", "--object-store-memory=100000000"]
        host = Host(self, number, [self.ray, "start", *words, "--disable-usage-stats"])
        self.members.append(host)
        until = time.monotonic() + JOIN_SECONDS
        while host.address not in self.alive():
            assert host.on, f"{host.name} did not start: {(host.folder / 'host.log').read_text()}"
            assert time.monotonic() < until, f"{host.name} did not join the cluster"
            time.sleep(0.5)
        return host

    def alive(self) -> set[str]:
        """The addresses of the hosts that Ray holds to be alive; none while the head does not answer."""
        asked = urllib.request.Request(
            f"{self.dashboard}/nodes?view=summary",
            headers={"Authorization": f"Bearer {self.token}"},
        )
        with suppress(OSError, ValueError):
            found = json.load(urllib.request.urlopen(asked, timeout=5))["data"]["summary"]
            # One that has just joined has told no address yet.
            return {one.get("ip") for one in found if one["raylet"]["state"] == "ALIVE"} - {None}
        return set()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for host in self.members:
            host.power_cut()
        for space in self._spaces():  # of hosts that were never quite there
            _ip("netns", "del", space)
        _ip("link", "del", self.bridge)
        assert not self._spaces(), "namespaces are left"

    def _spaces(self) -> list[str]:
        names = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
        return [name for name in names if name.startswith(f"{self.bridge}-")]


def _ip(*words: str, check: bool = True) -> bool:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert not (check and done.returncode), f"ip {' '.join(words)}: {done.stderr}"
    return done.returncode == 0
