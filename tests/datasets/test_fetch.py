"""Byte ranges over a bad network: the right bytes, or one refusal that says what went wrong."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import xxhash

from datasets import store
from datasets.fetching.cache import Cache
from datasets.fetching.clients import CAREFUL_BYTES
from datasets.fetching.ranges import Ranges
from datasets.refusal import Refusal
from tests.datasets import faults as fault_server
from tests.datasets.faults import Faults

DATA = bytes(range(256)) * 8192  # two MiB
NAME = "a shard/00+é%20.arrow"
SECRET = "s3cr3t-of-the-tests"


@pytest.fixture
def faults(bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    store.write_bytes(store.join(bucket, "set", NAME), DATA)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with fault_server.before(s3_server) as faults:
        monkeypatch.setenv("AWS_ENDPOINT_URL", faults.url)
        yield faults


class Clock:
    """Time that passes in pauses alone."""

    def __init__(self) -> None:
        self.now, self.pauses = 0.0, 0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        self.pauses += 1
        return False


def ranges(
    bucket: str, client: str = "obstore", deadline: float = 60.0, stall: float = 30.0
) -> Ranges:
    clock, url = Clock(), store.join(bucket, "set")
    return Ranges(url, deadline=deadline, stall=stall, client=client, clock=clock, wait=clock.wait)


@pytest.mark.parametrize("client", ["obstore", "fsspec"])
def test_both_clients_read_the_same_bytes(bucket: str, faults: Faults, client: str) -> None:
    remote = ranges(bucket, client)
    cuts = [(0, 1), (5, 1000), (1_000_000, 1_097_152), (0, len(DATA)), (len(DATA) - 1, 1)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda cut: remote.read(NAME, *cut), cuts * 8))
    assert found == [DATA[start : start + length] for start, length in cuts * 8]
    assert remote.stats.requests == 40 and remote.stats.retries == 0
    assert remote.stats.bytes == 8 * sum(length for _, length in cuts)
    assert remote.read(NAME, 7, 0) == b""


def test_another_scheme_is_read_by_fsspec() -> None:
    store.write_bytes("memory://ranges/shard", DATA)
    try:
        assert Ranges("memory://ranges").read("shard", 100, 2000) == DATA[100:2100]
        with pytest.raises(Refusal, match=r"memory://ranges/shard: .* ends before byte 2097162"):
            Ranges("memory://ranges").read("shard", len(DATA) - 10, 20)
        with pytest.raises(Refusal, match="shard is missing"):
            Ranges("memory://ranges").read("other", 0, 1)
    finally:
        store.remove("memory://ranges/shard")


@pytest.mark.parametrize(
    "status", ["503 SlowDown", "500 InternalError", "429", "400 RequestTimeout"]
)
def test_a_storm_is_waited_out(bucket: str, faults: Faults, status: str) -> None:
    remote = ranges(bucket)
    faults.plan = [status] * 12  # together the longest pauses are shorter than the deadline
    assert remote.read(NAME, 10, 100_000) == DATA[10:100_010]
    assert (remote.stats.requests, remote.stats.retries) == (13, 12)


def test_what_came_before_a_cut_is_kept(bucket: str, faults: Faults) -> None:
    remote = ranges(bucket, stall=1.0)
    faults.plan = ["reset", "truncate", "truncate", "stall", "silence", "truncate", "reset"]
    assert remote.read(NAME, 0, len(DATA)) == DATA
    starts = [int(wanted.removeprefix("bytes=").partition("-")[0]) for wanted in faults.gets]
    # Half of what was missing came four times; less than a small piece of it may be lost.
    resumed = sorted(set(starts))
    assert starts[:2] == [0, 0] and starts == sorted(starts)
    assert len(resumed) == 5 and resumed[1] > len(DATA) // 2 - CAREFUL_BYTES
    assert resumed[-1] > len(DATA) * 0.9
    # A busy machine may be silent for a second by itself, so at least these.
    assert remote.stats.retries == len(starts) - 1 >= 7
    assert remote.stats.bytes == len(DATA)


def test_fsspec_is_retried_in_small_pieces(
    bucket: str, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    remote = ranges(bucket, "fsspec")
    faults.plan = ["truncate"]
    assert remote.read(NAME, 0, len(DATA)) == DATA
    assert remote.stats.retries == 1
    assert faults.gets == ["bytes=0-2097151", "bytes=0-1048575", "bytes=1048576-2097151"]


def test_a_person_hears_of_silence_and_not_of_a_hiccup(
    bucket: str, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    faults.plan = ["503 SlowDown"] * 2
    remote = ranges(bucket)
    assert remote.read(NAME, 0, 10) == DATA[:10] and "nothing has come" not in caplog.text
    faults.always = "503 SlowDown"
    with pytest.raises(Refusal):
        remote.read(NAME, 0, 10)
    heard = [line for line in caplog.messages if "nothing has come" in line]
    assert 3 <= len(heard) <= 6 and "503 SlowDown), giving up at 60" in heard[-1]


def test_the_deadline_counts_from_the_last_progress(bucket: str, faults: Faults) -> None:
    remote = ranges(bucket, deadline=30.0)
    faults.always = "503 SlowDown"
    with pytest.raises(Refusal) as refused:
        remote.read(NAME, 0, 1000)
    said = str(refused.value)
    assert said.startswith(f"{bucket}/set/{NAME}: cannot be read: status 503 SlowDown, ")
    assert "in 30 s" in said and "check the network" in said
    faults.always = ""
    assert remote.read(NAME, 0, 1000) == DATA[:1000]


def test_nobody_listens(bucket: str, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(Refusal, match=r"no connection, \d+ times in 5 s"):
        ranges(bucket, deadline=5.0).read(NAME, 0, 10)


@pytest.mark.parametrize("client", ["obstore", "fsspec"])
def test_what_no_retry_mends(bucket: str, faults: Faults, client: str) -> None:
    remote = ranges(bucket, client)
    with pytest.raises(Refusal, match="set/other: shard is missing"):
        remote.read("other", 0, 10)
    with pytest.raises(Refusal, match="the file ends before"):
        remote.read(NAME, len(DATA), 10)
    with pytest.raises(Refusal, match="not a name inside"):
        remote.read("../set/x", 0, 10)
    assert remote.stats.retries == 0
    with pytest.raises(Refusal, match="the file ends before"):
        remote.read(NAME, len(DATA) - 5, 10)
    with pytest.raises(TypeError):
        remote.read(NAME, "0", 10)  # type: ignore[arg-type]


def test_wrong_bytes_are_fetched_again(
    bucket: str, faults: Faults, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remote, here = ranges(bucket), Cache(tmp_path / "here", 1 << 30)
    faults.plan = ["corrupt"]
    wanted = xxhash.xxh3_64_hexdigest(DATA[5:5005])
    file = here.path("a", 5000, wanted, lambda: remote.pieces(NAME, 5, 5000))
    assert file.read_bytes() == DATA[5:5005]
    assert "a arrived as 5000 bytes of checksum" in caplog.text and len(faults.gets) == 2


def test_an_object_that_goes_away(bucket: str, faults: Faults) -> None:
    remote = ranges(bucket)
    faults.plan = ["", "404 NoSuchKey"]
    assert remote.read(NAME, 0, 10) == DATA[:10]
    with pytest.raises(Refusal, match="shard is missing"):
        remote.read(NAME, 10, 10)
    assert remote.stats.retries == 0


@pytest.mark.parametrize("client", ["obstore", "fsspec"])
@pytest.mark.parametrize("answer", ["403 AccessDenied", "400 ExpiredToken", "401"])
def test_credentials_that_were_renewed(
    bucket: str,
    faults: Faults,
    client: str,
    answer: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remote = ranges(bucket, client)
    assert remote.read(NAME, 0, 10) == DATA[:10]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDRENEWED")
    faults.plan = [answer]
    assert remote.read(NAME, 10, 10) == DATA[10:20]
    assert faults.keys == ["testing", "testing", "AKIDRENEWED"]
    assert "credentials were refused, reading them again" in caplog.text
    assert remote.stats.retries == 1
    faults.always = answer
    with pytest.raises(Refusal, match="may not be read: .*check the credentials") as refused:
        remote.read(NAME, 0, 10)
    assert answer.split()[0] in str(refused.value) or client == "fsspec"
    assert remote.stats.retries == 2


def test_a_profile_gives_credentials(
    bucket: str, faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    file.write_text(f"[other]\naws_access_key_id = AKIDOTHER\naws_secret_access_key = {SECRET}\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert ranges(bucket).read(NAME, 0, 10) == DATA[:10]
    assert faults.keys == ["AKIDOTHER"]


@pytest.mark.parametrize("client", ["obstore", "fsspec"])
def test_secrets_are_nowhere(
    bucket: str, faults: Faults, client: str, caplog: pytest.LogCaptureFixture
) -> None:
    remote = ranges(bucket, client)
    with caplog.at_level(logging.DEBUG, logger="datasets"):
        faults.plan = ["503 SlowDown"]
        remote.read(NAME, 0, 10)
        faults.always = "403 SignatureDoesNotMatch"
        with pytest.raises(Refusal) as refused:
            remote.read(NAME, 0, 10)
    error = refused.value
    told = [
        caplog.text,
        repr(remote),
        repr(error),
        str(error.as_dict()),
        "".join(traceback.format_exception(error)),
        str(pickle.dumps(remote)),
        str(pickle.dumps(error)),
    ]
    assert error.__context__ is None and error.__cause__ is None
    assert not any(SECRET in text or "AWS4-HMAC" in text for text in told)
    for url in (f"s3://key:{SECRET}@bucket/x", f"s3://key:{SECRET}/x"):
        with pytest.raises(Refusal, match="must not carry credentials") as refused:
            Ranges(url)
        assert SECRET not in str(refused.value.as_dict())


def _child(remote: Ranges, says: Connection) -> None:
    says.send((remote.read(NAME, 3, 1000), remote.stats.requests))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_read_too(bucket: str, faults: Faults, method: str) -> None:
    remote = Ranges(store.join(bucket, "set"))
    assert remote.read(NAME, 0, 10) == DATA[:10]
    context = multiprocessing.get_context(method)
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(remote, there))  # type: ignore[attr-defined]
    child.start()
    try:
        assert here.poll(60), "the child is silent"
        assert here.recv() == (DATA[3:1003], 1)
    finally:
        child.kill()
        child.join()
    assert remote.stats.requests == 1


def test_closing_ends_a_pause(bucket: str, faults: Faults) -> None:
    remote = Ranges(store.join(bucket, "set"))
    faults.always = "503 SlowDown"
    raised: list[BaseException] = []

    def read() -> None:
        try:
            remote.read(NAME, 0, 10)
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    remote.close()
    thread.join(timeout=30)
    assert not thread.is_alive() and "was closed" in str(raised[0])


def test_a_local_path_and_an_unknown_client_are_mistakes() -> None:
    with pytest.raises(ValueError, match="local path"):
        Ranges(os.sep + "tmp")
    with pytest.raises(ValueError, match="neither"):
        Ranges("s3://bucket", client="curl")
