"""A secret in the environment stays there, and one in a URL is refused without being repeated."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets import cached, shards, store
from datasets.fetching.cache import Cache
from datasets.fetching.ranges import Ranges
from datasets.order import Plan
from tests.commands import cli
from tests.datasets.streaming import shuffled

ROOT = Path(__file__).resolve().parent.parent
DIGITS = str(ROOT / "recipes" / "digits.yaml")
SECRET, TOKEN = "s3cr3t+of/the+tests", "t0ken/of+the+tests"
HIDDEN = {
    name: form.encode()
    for word, name in ((SECRET, "secret"), (TOKEN, "token"))
    for name, form in (
        (name, word),
        (f"{name}, quoted", word.replace("/", "%2F").replace("+", "%2B")),
    )
}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """digits, packed into a bucket whose keys are in the environment."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIDMANTATEST")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_SESSION_TOKEN", TOKEN)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        options = {"endpoint_url": f"http://{host}:{port}", "use_listings_cache": False}
        s3fs.S3FileSystem(**options).mkdir("secrets-of-manta")
        packed = cached.ensure("digits", {}, fractions={"val": 0.15, "test": 0.15}, seed=0)
        store.upload(packed, "s3://secrets-of-manta/digits")
        yield "s3://secrets-of-manta"
    server.stop()


def assert_hidden(said: str, data: bytes) -> None:
    found = [name for name, form in HIDDEN.items() if form in data]
    assert not found, f"the {found} stands in {said}"


def test_what_a_run_leaves_behind_holds_no_secret(bucket: str, tmp_path: Path) -> None:
    """As people type it, with all that it may write down."""
    environment = {**os.environ, "MANTA_CACHE": str(tmp_path / "cache")}
    words = [
        *("data.source=null", f"data.url={bucket}/digits", "model.width=8", "data.ledger=true"),
        *("phases.0.epochs=1", "scale.device=cpu", "log.tensorboard=true"),
    ]
    command = [sys.executable, str(ROOT / "launch.py"), "train", DIGITS, *words, "--debug"]
    done = subprocess.run(
        [*command, "--out", f"{tmp_path}/out"],
        env=environment,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert_hidden("what it said", done.stdout + done.stderr)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    suffixes = {path.suffix for path in files}
    assert {".batch", ".jsonl", ".json", ".yaml", ".html", ".parquet", ".safetensors"} <= suffixes
    for path in files:
        assert_hidden(str(path), path.read_bytes())
    for name in store.names(f"{bucket}/digits"):
        assert_hidden(name, store.read_bytes(f"{bucket}/digits/{name}"))


def test_what_travels_to_workers_holds_no_secret(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANTA_CACHE", str(tmp_path))
    dataset = shards.open_dataset(f"{bucket}/digits")
    rows = dataset.manifest.splits["train"].rows
    stream = shuffled(dataset, Plan(rows, 64, 64), seed=0)
    batch = next(stream.epoch(0, 0))
    ranges = Ranges(f"{bucket}/digits")
    ranges.read("manifest.json", 0, 10)
    for thing in (dataset.manifest, ranges, Cache(tmp_path / "batches", 2**20), batch):
        assert_hidden(repr(thing), pickle.dumps(thing) + repr(thing).encode())
    assert_hidden("the stream", repr(vars(stream)).encode() + repr(vars(dataset)).encode())


@pytest.mark.parametrize("json", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize(
    "words",
    [
        ("train", DIGITS, "data.source=null", "data.url={url}/digits"),
        ("train", DIGITS, "data.source=imagefolder:{url}/photographs"),
        ("train", DIGITS, "scale.device=cpu", "--out", "{url}/runs"),
        ("train", "{url}/runs/digits-12345678"),
        ("pack", "digits", "{url}/digits"),
        ("pack", "imagefolder:{url}/photographs", "{folder}/set"),
        ("data", "card", "{url}/digits"),
        ("data", "ledger", "{url}/runs/digits-12345678"),
        ("evaluate", "{url}/runs/digits-12345678"),
        ("report", "{url}/runs/digits-12345678"),
    ],
    ids=lambda words: " ".join(words[:2]).replace(DIGITS, "digits"),
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(
    words: tuple[str, ...], json: tuple[str, ...], tmp_path: Path
) -> None:
    url = f"s3://AKIDMANTATEST:{SECRET}@bucket"
    said = cli(*(word.format(url=url, folder=tmp_path) for word in words), *json)
    assert said.code == 2, said.err
    assert_hidden("what it said", (said.out + said.err).encode())
    assert "Traceback" not in said.err and len(said.err.splitlines()) == 1
    assert "credentials" in said.err
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or path.read_bytes().find(SECRET.encode()) < 0
