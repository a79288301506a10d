"""Which network the workers would meet on: gloo's and NCCL's choice of an interface, and the traps on the way to it."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Literal

from cluster.doctor.check import Finding
from cluster.interfaces import interface_of
from datasets.refusal import Refusal

Backend = Literal["gloo", "nccl"]


def network(backend: Backend, address: str, *, several: bool = False) -> Finding:
    """The interface that a worker will use: the one of `address`, the node's in Ray, unless its environment names another.

    `several` says that the cluster has other hosts, which must be able to reach this one. Raises Refusal where the
    environment names an interface that is absent, and where workers would listen on the loopback.
    """
    names = [name for _, name in socket.if_nameindex()]
    own = interface_of(address)
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
    if several and address.startswith("127."):
        raise Refusal(
            f"Ray knows this node by {address}, where no other reaches it",
            path="network",
            value=address,
            remedy="start its Ray with --node-ip-address",
        )
    if own:
        return Finding(f"{backend} on {own}")
    return _of_the_hostname(backend, address, several=several)


def _of_the_hostname(backend: Backend, address: str, *, several: bool) -> Finding:
    """No interface has Ray's address (behind a translation of addresses): gloo then goes by the host's own name."""
    host = socket.gethostname()
    try:
        resolved = str(socket.getaddrinfo(host, None)[0][4][0])
    except OSError:
        resolved = "127.0.0.1"  # gloo's last resort
    if several and backend == "gloo" and resolved.startswith(("127.", "::1")):
        raise Refusal(
            f"no interface has {address}, and the host's own name '{host}' points to {resolved}, "
            "where gloo would listen and no other node reaches it",
            path="network",
            value=host,
            remedy="set GLOO_SOCKET_IFNAME before `ray start`, or mend /etc/hosts",
        )
    return Finding(
        f"{backend} by the host's own name, {resolved}", state="warn" if several else "ok"
    )


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
