"""A multilayer perceptron over a few numbers: 1-64-64-1 has 4,353 parameters."""

from __future__ import annotations

from typing import Literal

from torch import nn

from datasets.ranges import Width

SIZED_BY = "hidden"  # what `match_params` changes
_ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}


def build(
    num_classes: int,
    channels: int,
    *,
    hidden: list[Width] = [64, 64],
    activation: Literal["sigmoid", "tanh", "relu", "gelu"] = "sigmoid",
) -> nn.Module:
    """(B, channels) -> (B, num_classes)."""
    layers: list[nn.Module] = []
    inputs = channels
    for outputs in hidden:
        layers += [nn.Linear(inputs, outputs), _ACTIVATIONS[activation]()]
        inputs = outputs
    return nn.Sequential(*layers, nn.Linear(inputs, num_classes))
