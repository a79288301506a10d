"""The interface over which workers meet."""

from __future__ import annotations

import os

import pytest
import ray

from cluster import network

NAMES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def test_an_address_has_an_interface() -> None:
    assert network.interface_of("127.0.0.1") == "lo"
    assert network.interface_of("192.0.2.177") is None, "nobody's: it is for documentation"
    assert network.interface_of("::1") is None


def test_it_is_the_one_of_the_nodes_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    network.choose_interface()
    assert [os.environ[name] for name in NAMES] == ["lo", "=lo"]


def test_what_the_node_itself_names_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    network.choose_interface()
    assert [os.environ[name] for name in NAMES] == ["ib0", "=lo"]


def test_an_address_of_no_interface_leaves_the_choice_to_the_libraries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "192.0.2.177")
    network.choose_interface()
    assert not {*NAMES} & {*os.environ}
