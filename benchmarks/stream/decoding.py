"""The decoding that peers without one of their own are given: torchvision's, the fastest that their users would write."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.io import decode_jpeg
from torchvision.transforms import v2

_crops: dict[int, v2.Compose] = {}


def cropped(data: bytes | memoryview, size: int) -> Tensor:
    """(3, size, size) uint8: RandomResizedCrop with antialiasing, then a flip."""
    if size not in _crops:
        torch.set_num_threads(1)
        _crops[size] = v2.Compose(
            [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
        )
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels: Tensor = _crops[size](decode_jpeg(encoded))
    return pixels
