"""Downloads from a server of our own: once, whole, with the right checksum, or one line that says what to do."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from datasets import store
from datasets.formats import downloads
from datasets.formats.downloads import Published
from datasets.refusal import Refusal

DATA = b"pictures" * 1000


class Handler(SimpleHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(DATA)))
            self.end_headers()
            self.wfile.write(DATA[:100])
            return
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "set.zip").write_bytes(DATA)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(Handler, "asked", [])
    handler = partial(Handler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def published(url: str, data: bytes = DATA, kind: str = "md5") -> Published:
    return Published(
        url=url, checksum=f"{kind}:{hashlib.new(kind, data).hexdigest()}", name="mine/set.zip"
    )


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_is_downloaded_once(
    server: str, cache: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = published(f"{server}/set.zip", kind=kind)
    with caplog.at_level(logging.INFO):
        assert (
            downloads.fetch(file) == downloads.fetch(file) == str(cache / "downloads/mine/set.zip")
        )
    assert Path(file.path).read_bytes() == DATA
    assert Handler.asked == ["/set.zip"] and caplog.text.count("downloading") == 1


def test_a_large_one_tells_how_far_it_is(
    server: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(downloads, "_BLOCK_BYTES", 2000)
    monkeypatch.setattr(downloads, "_PROGRESS_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        downloads.fetch(published(f"{server}/set.zip"))
    assert caplog.text.count("set.zip: 0 of 0 MB") == 4


@pytest.mark.parametrize("path", ["/absent.zip", "/cut"])
def test_what_fails_names_the_address_and_the_place(path: str, server: str, cache: Path) -> None:
    file = published(f"{server}{path}")
    with pytest.raises(Refusal) as caught:
        downloads.fetch(file)
    line = str(caught.value)
    assert (
        "\n" not in line
        and file.url in line
        and str(file.path) in line
        and "data.source.path" in line
    )
    assert store.names(str(file.path.parent)) == [] and not list(file.path.parent.iterdir())


def test_offline_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    file = published("http://127.0.0.1:9/set.zip")
    with pytest.raises(Refusal, match="cannot be downloaded") as caught:
        downloads.fetch(file)
    assert str(file.path) in caught.value.remedy and file.url in str(caught.value)


def test_another_file_is_not_kept(server: str) -> None:
    file = published(f"{server}/set.zip", b"other")
    with pytest.raises(Refusal, match="not the published file"):
        downloads.fetch(file)
    assert not list(file.path.parent.iterdir())


def test_a_file_put_there_by_hand_is_checked_too(server: str) -> None:
    file = published(f"{server}/set.zip")
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(DATA)
    assert downloads.fetch(file) == str(file.path) and Handler.asked == []
    file.path.write_bytes(DATA[:-1])
    with pytest.raises(Refusal, match="not the published file") as caught:
        downloads.fetch(file)
    assert file.url in str(caught.value) and file.path.exists()
