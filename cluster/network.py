"""The interface over which workers meet: the one with the address that their node has in Ray."""

from __future__ import annotations

import os
from typing import Any

import ray
from ray.train.torch import TorchConfig

from cluster.interfaces import interface_of


class Wired(TorchConfig):
    """Ray's set-up of torch.distributed, with the interface chosen first.

    Left alone, gloo takes what the host's name resolves to, which on Debian and in many containers is 127.0.1.1.
    """

    @property
    def backend_cls(self) -> type[Any]:
        return _Wired


class _Wired(TorchConfig().backend_cls):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(choose_interface)
        super().on_start(worker_group, backend_config)


def choose_interface() -> None:
    """Name it to gloo and NCCL, unless the environment of the node does so."""
    name = interface_of(ray.util.get_node_ip_address())
    if name:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={name}")  # exactly; else a prefix
