"""What a user might write: imported by name, in the processes of datasets.foreign."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import numpy as np

calls = 0


def noisy(image: np.ndarray, *, strength: int = 2) -> np.ndarray:
    """Draws from two of the global generators, and changes its picture in place."""
    drawn = np.random.randint(0, strength + 1, image.shape, np.uint8)
    image //= 2
    image += drawn + random.randrange(7)
    return image


def narrow(image: np.ndarray) -> np.ndarray:
    return image[:, 1:]


def floating(image: np.ndarray) -> np.ndarray:
    return image / 255


def nothing(image: np.ndarray) -> None:
    return None


def failing(image: np.ndarray) -> np.ndarray:
    if image.max() > 0:
        raise KeyError("no such colour")
    return image


def printing(image: np.ndarray) -> np.ndarray:
    print("a line", flush=True)
    assert input_is_empty()
    return image


def input_is_empty() -> bool:
    return os.read(0, 10) == b""


def late(image: np.ndarray) -> np.ndarray:
    """Imports torch in its first call."""
    import torch

    return torch.randint(0, 256, image.shape, dtype=torch.uint8).numpy()


def dying(image: np.ndarray) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGKILL)
    return image


def dying_once(image: np.ndarray, *, marker: str) -> np.ndarray:
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return image


def waiting(image: np.ndarray, *, after: int = 0) -> np.ndarray:
    """Answers `after` times a process, then waits for a signal that nobody sends."""
    global calls
    calls += 1
    if calls > after:
        signal.pause()
    return image
