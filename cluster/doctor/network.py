"""Which network the workers would meet on: gloo's and NCCL's choice of an interface, and the traps on the way to it."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Sequence
from typing import Literal

from cluster.doctor.check import Finding
from datasets.refusal import Refusal

Backend = Literal["gloo", "nccl"]
_SIOCGIFADDR = 0x8915  # Linux: an interface's IPv4 address


def network(backend: Backend, address: str = "", *, several: bool = False) -> Finding:
    """The interface that a worker would use; `address` is the one by which Ray knows the node ("": no Ray).

    `several` says that the cluster has other hosts, which must be able to reach this one. Raises Refusal where the
    environment names an interface that is absent, and where gloo would listen on the loopback.
    """
    names = [name for _, name in socket.if_nameindex()]
    own = _interface(address)
    ray = f", Ray on {own}" if own else ""
    variable = f"{backend.upper()}_SOCKET_IFNAME"
    said = os.environ.get(variable, "")
    if said:
        chosen = matching(said, names) if backend == "nccl" else _exactly(said, names)
        if not chosen:
            raise Refusal(
                f"there is no such interface, there are {', '.join(names)}",
                path=variable,
                value=said,
                remedy=f"set {variable}={own or 'eth0'} before `ray start`, or leave it out",
            )
        return Finding(f"{backend} on {', '.join(chosen)} ({variable})")
    if backend == "nccl":
        return Finding(f"nccl chooses by itself{ray}")
    return _of_the_hostname(ray, own, several=several)


def _of_the_hostname(ray: str, own: str, *, several: bool) -> Finding:
    """Without a variable gloo listens where the host's own name points."""
    host = socket.gethostname()
    remedy = f"set GLOO_SOCKET_IFNAME={own or 'eth0'} before `ray start`, or mend /etc/hosts"
    try:
        resolved = str(socket.getaddrinfo(host, None)[0][4][0])
    except OSError as error:
        if not several:
            return Finding(f"gloo on the loopback{ray}")
        raise Refusal(
            f"the host's own name '{host}' is not known to it ({error.strerror}), so gloo would listen on the loopback",
            path="hostname",
            value=host,
            remedy=remedy,
        ) from error
    if several and ipaddress.ip_address(resolved.partition("%")[0]).is_loopback:
        raise Refusal(
            f"the host's own name '{host}' points to {resolved}, where gloo would listen and no other node reaches it",
            path="hostname",
            value=host,
            remedy=remedy,
        )
    return Finding(f"gloo on {_interface(resolved)}{ray}")


def _interface(address: str) -> str:
    """The interface of an address, or the address where that is not known."""
    found = interfaces().items()
    loopback = address.startswith("127.") and "127.0.0.1"  # all of them are the same one's
    return next((name for name, ip in found if ip in (address, loopback)), address)


def interfaces() -> dict[str, str]:
    """IPv4 addresses of the interfaces that have one; empty where the system does not tell."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asked, _SIOCGIFADDR, struct.pack("256s", name[:15].encode()))
            except OSError:
                continue  # it has none
            found[name] = socket.inet_ntoa(answer[20:24])
    return found


def matching(said: str, names: Sequence[str]) -> list[str]:
    """Interfaces that NCCL_SOCKET_IFNAME leaves: prefixes, `=` exact names, `^` all but those."""
    outside, exact = said.startswith("^"), said.lstrip("^").startswith("=")
    words = [word for word in said.lstrip("^=").split(",") if word]

    def named(name: str) -> bool:
        return name in words if exact else any(name.startswith(word) for word in words)

    return [name for name in names if named(name) != outside]


def _exactly(said: str, names: Sequence[str]) -> list[str]:
    """Interfaces of GLOO_SOCKET_IFNAME, all of which must be there."""
    words = [word for word in said.split(",") if word]
    return words if all(word in names for word in words) else []
