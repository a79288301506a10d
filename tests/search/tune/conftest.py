"""Databases that several drivers share: SQLite everywhere, PostgreSQL where its server is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.search.tune.postgresql import Server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A server that runs, wherever one is installed."""
    found = shutil.which("postgres")
    if not found:
        pytest.skip("no PostgreSQL server (postgres, initdb) on PATH")
    server = Server(Path(found).resolve().parent)  # initdb finds its files beside itself
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, of each kind that searches are known to share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/search.db"
    name = f"search_{abs(hash(request.node.nodeid)):x}"
    return str(request.getfixturevalue("postgresql").database(name))
