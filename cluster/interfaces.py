"""The machine's network interfaces, asked without Ray and torch."""

from __future__ import annotations

import fcntl
import socket
import struct

_SIOCGIFADDR = 0x8915  # Linux's: the IPv4 address of an interface


def interface_of(address: str) -> str | None:
    """The interface that has this IPv4 address; None where none has, or where the system cannot tell."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            try:
                said = fcntl.ioctl(asked, _SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:
                continue  # it has no such address
            if socket.inet_ntoa(said[20:24]) == address:
                return name
    return None
