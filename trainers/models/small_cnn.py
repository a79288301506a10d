"""A small conv net for small pictures: three 3x3 convolutions with batch norm, one pooling, a linear head."""

from __future__ import annotations

from torch import Tensor, nn

from datasets.ranges import Share, Width

SIZED_BY = "width"  # what `match_params` changes


class SmallCNN(nn.Module):
    """(B, channels, S, S), S >= 2 -> logits (B, num_classes); `width` channels in the middle, half before, double after."""

    def __init__(
        self, num_classes: int, channels: int, *, width: Width = 32, dropout: Share = 0.0
    ) -> None:
        super().__init__()
        narrow = max(1, width // 2)
        self.features = nn.Sequential(
            *_convolution(channels, narrow),
            *_convolution(narrow, width),
            nn.MaxPool2d(2),
            *_convolution(width, 2 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.features(image)))
        return logits


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


build = SmallCNN
