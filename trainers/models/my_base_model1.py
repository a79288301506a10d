"""MyBaseModel1: basic residual blocks (two 3x3 convolutions), 2,766,915 parameters at 112 pixels and 35 classes.

The layers of the report that it is named after are lost; these are ordinary ones (docs/models.md lists them).
"""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import BasicBlock

from datasets.ranges import FirstWidth
from trainers.models._residual import SmallResNet

INPUT = (3, 112)  # channels, pixels a side
SIZED_BY = "width"  # what `match_params` changes


def build(num_classes: int, channels: int, *, width: FirstWidth = 64) -> nn.Module:
    """(B, channels, S, S) -> logits (B, num_classes); `width` channels in the first stage."""
    return SmallResNet(num_classes, channels, block=BasicBlock, blocks=2, width=width)
