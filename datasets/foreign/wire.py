"""Messages between a process and the one that it serves: a head of JSON, then pixels as they lie in memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from datasets.transforms import Images

_LENGTH = struct.Struct("<I")


def send(stream: IO[bytes], head: Mapping[str, Any], images: Images | None = None) -> None:
    """Write a message. Raises OSError where nobody reads any more."""
    shape = None if images is None else images.shape
    words = json.dumps({**head, "shape": shape}).encode()
    stream.write(_LENGTH.pack(len(words)) + words)
    if images is not None:
        stream.write(np.ascontiguousarray(images).data.cast("B") if images.size else b"")
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], Images | None]:
    """The next message. Raises EOFError where there is none."""
    head: dict[str, Any] = json.loads(_read(stream, *_LENGTH.unpack(_read(stream, _LENGTH.size))))
    shape = head.pop("shape")
    if shape is None:
        return head, None
    images = np.empty(shape, np.uint8)
    if images.size and stream.readinto(images.data.cast("B")) != images.nbytes:  # type: ignore[attr-defined]
        raise EOFError
    return head, images


def _read(stream: IO[bytes], num_bytes: int) -> bytes:
    data = stream.read(num_bytes)
    if len(data) != num_bytes:
        raise EOFError
    return data
