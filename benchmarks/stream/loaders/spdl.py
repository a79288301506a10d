"""SPDL: a pipeline of threads. Variants: torchvision (its decoder), own (FFmpeg: demux, decode with a filter, convert)."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import spdl.io  # type: ignore[import-not-found]
import torch
from spdl.pipeline import PipelineBuilder  # type: ignore[import-not-found]

from benchmarks.stream.decoding import cropped
from benchmarks.stream.measure import Given, main


def batches(given: Given) -> Iterator[Any]:
    files = [str(path) for path in given.photographs]
    random.Random(given.seed).shuffle(files)
    batched = [
        files[start : start + given.batch]
        for start in range(0, len(files) - given.batch + 1, given.batch)
    ]
    make = _by_torchvision if given.variant == "torchvision" else _by_ffmpeg
    pipeline = (
        PipelineBuilder()
        .add_source(batched)
        .pipe(
            partial(make, size=given.size),
            concurrency=given.workers,
            executor=ThreadPoolExecutor(given.workers),
        )
        .add_sink(2)
        .build(num_threads=given.workers)
    )
    with pipeline.auto_stop():
        yield from pipeline


def _by_torchvision(paths: list[str], size: int) -> torch.Tensor:
    return torch.stack([cropped(Path(path).read_bytes(), size) for path in paths])


def _by_ffmpeg(paths: list[str], size: int) -> np.ndarray[Any, Any]:
    frames = []
    for path in paths:
        packets = spdl.io.demux_image(path)
        frames.append(spdl.io.decode_packets(packets, filter_desc=_filter(packets, size)))
    pixels: np.ndarray[Any, Any] = spdl.io.to_numpy(spdl.io.convert_frames(frames))
    return pixels


def _filter(packets: Any, size: int) -> str:
    """RandomResizedCrop and a flip in FFmpeg's words."""
    height, width = packets.codec.height, packets.codec.width
    tall, wide = height, width
    for _ in range(10):
        area = height * width * random.uniform(0.08, 1.0)
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        tall, wide = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < tall <= height and 0 < wide <= width:
            break
        tall, wide = height, width
    top, left = random.randint(0, height - tall), random.randint(0, width - wide)
    steps = [
        f"crop={wide}:{tall}:{left}:{top}",
        f"scale={size}:{size}:flags=bilinear",
        *(["hflip"] if random.random() < 0.5 else []),
        "format=pix_fmts=rgb24",
    ]
    return ",".join(steps)


if __name__ == "__main__":
    main(batches, packages=("spdl", "torchvision"))
