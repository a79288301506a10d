"""A server before the server: it forwards every request, and spoils those it is told to."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# What may be done to a GET: an HTTP status, "<status> <code of S3>", or one of these.
WAYS = ("reset", "truncate", "stall", "silence", "corrupt")


@dataclass
class Faults:
    """`plan` holds what happens to the next GETs, "" being nothing; then `always`, while it is set.

    `gets` lists the Range headers of all GETs, `keys` the access keys that signed them; a fault is applied where `chosen(path)` says so.
    Keys that are `expired` are told so. The plan corrupts what ends at one byte twice at most: thrice is a damaged shard.
    """

    url: str = ""
    plan: list[str] = field(default_factory=list)
    always: str = ""
    chosen: Callable[[str], bool] = lambda path: True
    gets: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    expired: set[str] = field(default_factory=set)
    corrupted: Counter[tuple[str, str]] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def next(self, path: str, wanted: str, signed: str) -> str:
        with self.lock:
            self.gets.append(wanted)
            self.keys.append(signed.partition("Credential=")[2].partition("/")[0])
            if not self.chosen(path):
                return ""
            if self.keys[-1] in self.expired:
                return "400 ExpiredToken"
            if not self.plan:
                return self.always
            place = path, wanted.rpartition("-")[2]
            if self.plan[0] == "corrupt" and self.corrupted[place] == 2:
                return ""
            self.corrupted[place] += self.plan[0] == "corrupt"
            return self.plan.pop(0)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    faults: Faults
    upstream: str

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        fault = ""
        if self.command == "GET":
            headers = (self.headers.get(name, "") for name in ("Range", "Authorization"))
            fault = self.faults.next(self.path, *headers)
        if fault == "silence":
            self.faults.closing.wait()
            self.close_connection = True
        elif fault == "reset":
            self.reset()
        elif fault and fault not in WAYS:
            status, _, code = fault.partition(" ")
            text = f"<Error><Code>{code or 'Fault'}</Code><Message>planned</Message></Error>"
            self.say(int(status), {"Content-Type": "application/xml"}, text.encode())
        else:
            self.forward(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def forward(self, body: bytes, fault: str) -> None:
        connection = http.client.HTTPConnection(self.upstream, timeout=30)
        try:
            # The Host that the client signed goes along.
            connection.request(self.command, self.path, body or None, dict(self.headers.items()))
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if fault == "corrupt":
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
        kept = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in ("connection", "transfer-encoding", "content-length")
        }
        size = answer.getheader("Content-Length") if self.command == "HEAD" else None
        cut = len(data) // 2 if fault in ("truncate", "stall") else None
        self.say(answer.status, kept, data, size=size, cut=cut)
        if fault == "stall":
            self.faults.closing.wait()
        self.close_connection |= cut is not None

    def say(
        self,
        status: int,
        headers: dict[str, str],
        data: bytes,
        *,
        size: str | None = None,
        cut: int | None = None,
    ) -> None:
        """Promises all of the data, or `size`, and sends it up to `cut`."""
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", size or str(len(data)))
        self.end_headers()
        self.wfile.write(data[:cut])
        self.wfile.flush()

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients go away: that is what is tested


@contextmanager
def before(upstream: str, faults: Faults | None = None) -> Iterator[Faults]:
    """Faults on a free port before the server at the URL `upstream`."""
    faults = faults or Faults()
    members = {"faults": faults, "upstream": urlsplit(upstream).netloc}
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), members))
    faults.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield faults
    finally:
        faults.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
