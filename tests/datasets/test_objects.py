"""Whole objects of s3:// by obstore: as s3fs reads them, without importing it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from datasets import shards, store
from datasets.fetching import objects
from datasets.refusal import Refusal
from datasets.source import Source
from tests.datasets import faults as fault_server
from tests.datasets.faults import Faults

ROOT = Path(store.__file__).parent.parent
NAMES = ("a b", "ü", "a%20b", "a#b", "a+b?c", "[a]*", "deep/er/x", ".x", "tab\tx")


@pytest.fixture
def faults(bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    store.write_bytes(f"{bucket}/set/file", b"here")
    with fault_server.before(s3_server) as faults:
        monkeypatch.setenv("AWS_ENDPOINT_URL", faults.url)
        yield faults


@pytest.fixture(params=["obstore", "s3fs"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "s3fs":
        monkeypatch.setattr(objects, "find_spec", lambda _: None)
    return str(request.param)


def test_both_clients_see_the_same(bucket: str, client: str) -> None:
    assert (objects.place(f"{bucket}/x") is not None) == (client == "obstore")
    for name in NAMES:
        url = f"{bucket}/set/{name}"
        assert not store.exists(url)
        store.write_bytes(url, name.encode())
        assert store.exists(url) and store.read_bytes(url) == name.encode()
    assert store.exists(f"{bucket}/set") and store.exists(f"{bucket}/set/deep/")
    assert not store.exists(f"{bucket}/se") and not store.exists(f"{bucket}/set/dee")
    assert not store.exists("s3://no-such-bucket-of-ours/x")
    for absent in (f"{bucket}/none", f"{bucket}/set", "s3://no-such-bucket-of-ours/x"):
        with pytest.raises(Refusal, match="there is nothing here"):
            store.read_bytes(absent)


def test_a_busy_server_is_asked_again(faults: Faults, bucket: str) -> None:
    faults.plan = ["503 SlowDown", "500", "reset"]
    assert store.read_bytes(f"{bucket}/set/file") == b"here"
    assert len(faults.gets) == 4


def test_refused_credentials_are_one_line_without_them(faults: Faults, bucket: str) -> None:
    faults.always = "403 AccessDenied"
    with pytest.raises(Refusal, match=r"may not be read \(status 403 AccessDenied\)") as caught:
        store.read_bytes(f"{bucket}/set/file")
    assert "AWS_PROFILE" in str(caught.value.remedy) and "\n" not in str(caught.value)


def test_another_endpoint_is_another_client(faults: Faults, bucket: str) -> None:
    before = len(faults.gets)
    assert store.read_bytes(f"{bucket}/set/file") == b"here"
    assert len(faults.gets) == before + 1, "the fixture wrote past the server before the server"


def test_a_remote_set_is_read_without_s3fs_or_pandas(
    bucket: str, source: Source, tmp_path: Path
) -> None:
    """Both take about half a second to import, which would come before the first batch."""
    rows = np.arange(40)
    columns = {name: values[rows] for name, values in source.columns.items()}
    columns["path"] = np.array([f"{row}.png" for row in rows], object)
    url = str(tmp_path / "set")
    shards.write(
        url,
        {"train": columns},
        name="digits",
        kind="image",
        shape=source.shape,
        classes=source.classes,
        packed={},
    )
    store.upload(url, f"{bucket}/digits")
    code = (
        "import sys\nfrom datasets.shards import open_dataset\n"
        f"columns = open_dataset('{bucket}/digits').columns('train')\n"
        "assert sorted(columns['path'])[0] == '0.png', columns['path']\n"
        "slow = {'fsspec', 's3fs', 'botocore', 'pandas', 'ray'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
