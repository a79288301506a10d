"""Ray Data: files as binary rows, decoded by map over two CPUs, then batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import ray

from benchmarks.stream.measure import Given, main


def batches(given: Given) -> Iterator[Any]:
    ray.init(num_cpus=given.workers, include_dashboard=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    size = given.size

    def show(row: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
        from benchmarks.stream.decoding import cropped

        return {"image": cropped(row["bytes"], size).numpy()}

    pictures = ray.data.read_binary_files(f"{given.folder}/photographs", shuffle="files")
    rows = pictures.map(show).iter_batches(batch_size=given.batch, drop_last=True)
    for batch in rows:
        yield batch["image"]


if __name__ == "__main__":
    main(batches, packages=("ray", "torchvision"))
