"""base_model: four 3x3 convolutions, each with batch norm and pooling, and a linear head; 397,891 parameters at 112 pixels and 35 classes.

The layers of the report that it is named after are lost; these are ordinary ones (docs/models.md lists them).
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from datasets.ranges import FirstWidth

INPUT = (3, 112)  # channels, pixels a side; at least 16 pixels survive the poolings
SIZED_BY = "width"  # what `match_params` changes


class BaseModel(nn.Module):
    """(B, channels, S, S), S >= 16 -> logits (B, num_classes); `width` channels at first, twice as many each time."""

    def __init__(self, num_classes: int, channels: int, *, width: FirstWidth = 32) -> None:
        super().__init__()
        widths = [channels, *(width * 2**i for i in range(4))]
        self.features = nn.Sequential(*(_convolution(*pair) for pair in pairwise(widths)))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.features(image)))
        return logits


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


build = BaseModel
