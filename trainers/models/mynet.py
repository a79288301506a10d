"""MyNet: two 5x5 convolutions and two linear layers, 28,105,799 parameters at 224 pixels and 19 classes."""

from __future__ import annotations

from torch import nn

INPUT = (3, 224)  # channels, pixels a side: the first linear layer is cut to them


def build(num_classes: int, channels: int, size: int) -> nn.Module:
    """(B, channels, size, size), size >= 16 -> logits (B, num_classes)."""
    left = ((size - 4) // 2 - 4) // 2  # pixels a side after the second pooling
    return nn.Sequential(
        nn.Conv2d(channels, 10, kernel_size=5),
        nn.MaxPool2d(2),
        nn.Conv2d(10, 20, kernel_size=5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20 * left * left, 500),
        nn.ReLU(),
        nn.Linear(500, num_classes),
    )
