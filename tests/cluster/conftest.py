"""What the tests of this room share: the command line in process, a finished run, an S3 of their own."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.run import Run

ROOT = Path(__file__).resolve().parent.parent.parent
DIGITS = str(ROOT / "recipes" / "digits.yaml")
# An epoch is 19 steps of 64 pictures.
SMALL = ["model.width=8", "scale.device=cpu", "scale.threads=1", "log.tensorboard=false"]


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Said]


@pytest.fixture(scope="session")
def cli() -> Cli:
    """`cli("train", ...)`: launch.py in this process."""
    import launch

    def call(*words: object) -> Said:
        out, err = io.StringIO(), io.StringIO()
        code: object = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                launch.app([str(word) for word in words])
            except SystemExit as exit_:
                code = exit_.code
        return Said(int(str(code or 0)), out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="module")
def finished(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs of digits, to the end."""
    out = tmp_path_factory.mktemp("finished")
    said = cli("train", DIGITS, *SMALL, "phases.0.epochs=2", "--out", out, "--quiet")
    assert said.code == 0, said.err
    (folder,) = out.iterdir()
    return Run.open(str(folder))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket on a server of our own, whose secret key is `SECRET`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDMANTATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-the-tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    import s3fs

    s3fs.S3FileSystem(endpoint_url=f"http://{host}:{port}", use_listings_cache=False).mkdir(
        "runs-of-manta"
    )
    yield "s3://runs-of-manta"
    server.stop()
