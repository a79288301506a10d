"""LitData: optimized chunks of 64 MB, its own shuffle, decoding in StreamingDataLoader workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from litdata import (  # type: ignore[import-not-found]
    StreamingDataLoader,
    StreamingDataset,
    optimize,
)
from litdata.streaming import downloader  # type: ignore[import-not-found]
from torch import Tensor

from benchmarks.stream.decoding import cropped
from benchmarks.stream.measure import Given, main


def sample(path: str) -> dict[str, Any]:
    """What is stored of one file."""
    with open(path, "rb") as file:
        return {"image": file.read(), "label": int(path.split("/")[-2])}


def prepare(given: Given) -> None:
    optimize(
        fn=sample,
        inputs=[str(path) for path in given.photographs],
        output_dir=given.own,
        chunk_bytes="64MB",
        num_workers=given.workers,
    )


class Photographs(StreamingDataset):  # type: ignore[misc]
    def __init__(self, size: int, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.pixels = size

    def __getitem__(self, at: Any) -> Tensor:
        return cropped(super().__getitem__(at)["image"], self.pixels)


def _storage() -> dict[str, str]:
    return {
        "endpoint_url": os.environ["AWS_ENDPOINT_URL"],
        "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
    }


def batches(given: Given) -> Iterator[Any]:
    # It gives obstore no way to speak plain http, which a local server does.
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = "true"
    remote = {"cache_dir": given.cache, "storage_options": _storage()} if given.url else {}
    dataset = Photographs(
        given.size,
        given.url or given.own,
        shuffle=True,
        drop_last=True,
        seed=given.seed,
        **remote,
    )
    yield from StreamingDataLoader(
        dataset, batch_size=given.batch, num_workers=given.workers, drop_last=True
    )


if __name__ == "__main__":
    main(batches, prepare, packages=("litdata", "torch", "torchvision"))
