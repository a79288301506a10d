"""A PostgreSQL server for tests, where its programs are installed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

PATIENCE = 60.0


class Server:
    """A PostgreSQL server of our own on loopback, which may be stopped and started again."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        # It refuses to run as root; pytest's own folders are closed to all others.
        self.user: dict[str, Any] = {"user": "nobody"} if os.geteuid() == 0 else {}
        self.folder = Path(tempfile.mkdtemp(prefix="manta-postgresql-"))
        if self.user:
            shutil.chown(self.folder, "nobody")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgresql://manta@127.0.0.1:{self.port}"
        command = [programs / "initdb", "-D", "data", "-U", "manta", "-A", "trust", "--no-sync"]
        subprocess.run(command, cwd=self.folder, capture_output=True, check=True, **self.user)

    def start(self) -> None:
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
        command = [self.programs / "postgres", "-D", "data", "-p", str(self.port)]
        command += [word for each in settings for word in ("-c", each)]
        path = self.folder / "log"
        with path.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, **self.user
            )
        deadline = time.monotonic() + PATIENCE
        while "ready to accept" not in path.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, path.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)  # its word for: now, whoever is connected
        self.process.wait(PATIENCE)

    def database(self, name: str) -> str:
        """The URL of a new, empty one."""
        from sqlalchemy import create_engine, text

        engine = create_engine(f"{self.url}/postgres", isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return f"{self.url}/{name}"
