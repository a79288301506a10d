"""NVIDIA DALI on the CPU: its reader, its decoder of a random crop, resize and mirror, in its own threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from nvidia.dali import fn, pipeline_def, types  # type: ignore[import-untyped,import-not-found,unused-ignore]

from benchmarks.stream.measure import Given, main


@pipeline_def  # type: ignore[untyped-decorator,unused-ignore]
def photographs(root: str, size: int) -> Any:
    """JPEGs of a folder of classes -> (B, size, size, 3) uint8."""
    files, labels = fn.readers.file(file_root=root, random_shuffle=True, name="reader")
    boxes = fn.decoders.image_random_crop(files, device="cpu", output_type=types.RGB)
    pixels = fn.resize(
        boxes, device="cpu", resize_x=size, resize_y=size, interp_type=types.INTERP_LINEAR
    )
    return fn.flip(pixels, horizontal=fn.random.coin_flip()), labels


def batches(given: Given) -> Iterator[Any]:
    pipeline = photographs(
        f"{given.folder}/photographs",
        given.size,
        batch_size=given.batch,
        num_threads=given.workers,
        device_id=None,
        seed=given.seed,
    )
    pipeline.build()
    for _ in range(given.pictures // given.batch):
        pictures, _ = pipeline.run()
        yield np.asarray(pictures.as_array())


if __name__ == "__main__":
    main(batches, packages=("nvidia-dali-cuda130",))
