"""A local S3 server in a process of its own, on two ports: one answers at once, one after a pause, as from afar.

Prints both ports; ends with its standard input.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

PAUSE_SECONDS = 0.02
BUCKET = "pictures"
ENDPOINTS = ("AWS_ENDPOINT_URL", "S3_ENDPOINT_URL")
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def served(folders: Sequence[Path]) -> Iterator[dict[str, dict[str, str]]]:
    """Environment variables of `s3` and `s3slow`, which hold the files of each folder in s3://pictures/NAME/."""
    command = [sys.executable, "-m", "benchmarks.stream.server", *map(str, folders)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        ports = json.loads(process.stdout.readline())
        yield {
            name: {
                **CREDENTIALS,
                **dict.fromkeys(ENDPOINTS, f"http://127.0.0.1:{port}"),
            }
            for name, port in ports.items()
        }
        process.stdin.close()


def main() -> None:
    import logging

    import boto3  # type: ignore[import-untyped]
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = DomainDispatcherApplication(create_backend_app)

    def slowly(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        time.sleep(PAUSE_SECONDS)
        answer: Iterable[bytes] = app(environment, start)
        return answer

    servers = {
        "s3": make_server("127.0.0.1", 0, app, threaded=True),
        "s3slow": make_server("127.0.0.1", 0, slowly, threaded=True),
    }
    for server in servers.values():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{servers['s3'].port}",
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
    )
    client.create_bucket(Bucket=BUCKET)
    for folder in map(Path, sys.argv[1:]):
        for path in sorted(folder.iterdir()):
            key = f"{folder.name}/{path.name}"
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    print(json.dumps({name: server.port for name, server in servers.items()}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
