"""What a model costs, as objectives beside its scores: weights, multiply-adds, the time of one picture."""

from __future__ import annotations

import time

from cluster.run import Run
from cluster.session import choose_device

WARM_UP, ROUNDS = 3, 50


def of(run: Run, name: str) -> float:
    """`parameters`, `multiply_adds` (of one row), or `latency`: seconds of a forward pass of one row, here.

    Other trials run beside it, which can only slow it down: the fastest of many counts.
    """
    if name == "latency":
        return _latency(run)
    return float(run.json("model.json")[name])


def _latency(run: Run) -> float:
    import torch

    device = choose_device(run.recipe.scale)
    saved = run.best
    model, row = saved.model().to(device), saved.shape.example(1, "cpu").to(device)
    times = []
    with torch.inference_mode():
        for _ in range(WARM_UP + ROUNDS):
            begun = time.perf_counter()
            model(row)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begun)
    return min(times[WARM_UP:])
