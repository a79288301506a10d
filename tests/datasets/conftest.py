"""What the tests of this room share: a cache of their own, an S3 of their own, packed digits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from datasets import shards
from datasets.shards import Dataset
from datasets.source import Source
from datasets.sources import digits


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MANTA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def source() -> Source:
    return digits.build()


@pytest.fixture
def packed(tmp_path: Path, source: Source) -> Dataset:
    """All digits as "train" and the first hundred as "test", in a folder the test may damage."""
    url = str(tmp_path / "digits")
    first = {name: values[:100] for name, values in source.columns.items()}
    shards.write(
        url,
        {"train": source.columns, "test": first},
        name="digits",
        kind="image",
        shape=source.shape,
        classes=source.classes,
        packed={"source": "digits"},
    )
    return shards.open_dataset(url)


@pytest.fixture
def table(tmp_path: Path) -> Dataset:
    """Ten rows of a table: x counts, y is its square."""
    x = np.arange(10, dtype=np.float32)
    columns = {"id": np.arange(10, dtype=np.int64), "x": x, "y": x * x}
    url = str(tmp_path / "table")
    shards.write(url, {"train": columns}, name="squares", kind="table", packed={})
    return shards.open_dataset(url)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The URL of an empty bucket on a server of our own."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    import s3fs

    name = f"bucket-{abs(hash(request.node.nodeid))}"
    s3fs.S3FileSystem(endpoint_url=s3_server, use_listings_cache=False).mkdir(name)
    return f"s3://{name}"
