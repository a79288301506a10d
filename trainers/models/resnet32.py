"""ResNet-32 in its CIFAR form (arXiv 1512.03385, section 4.2): option A shortcuts, 464,154 parameters at 10 classes."""

from __future__ import annotations

from torch import nn

from datasets.ranges import FirstWidth, Share
from trainers.models._cifar_resnet import CifarResNet

SIZED_BY = "width"  # what `match_params` changes


def build(
    num_classes: int, channels: int, *, width: FirstWidth = 16, dropout: Share = 0.0
) -> nn.Module:
    """(B, channels, S, S) -> logits (B, num_classes); `width` channels in the first stage, dropout before the head."""
    return CifarResNet(num_classes, channels, blocks=5, width=width, dropout=dropout)
