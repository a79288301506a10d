"""What the tests of this room share: a finished run, an S3 of their own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.run import Run
from tests.commands import cli

ROOT = Path(__file__).resolve().parent.parent.parent
DIGITS = str(ROOT / "recipes" / "digits.yaml")
# An epoch is 19 steps of 64 pictures.
SMALL = ["model.width=8", "scale.device=cpu", "scale.threads=1", "log.tensorboard=false"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
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

    # Of its own: servers of one process share what they hold.
    name = f"runs-of-manta-{uuid.uuid4().hex[:8]}"
    s3fs.S3FileSystem(endpoint_url=f"http://{host}:{port}", use_listings_cache=False).mkdir(name)
    yield f"s3://{name}"
    server.stop()
