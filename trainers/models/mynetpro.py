"""MyNetPro: AlexNet (arXiv 1404.5997) with batch norm after every convolution."""

from __future__ import annotations

from torch import Tensor, nn

from datasets.ranges import Share

INPUT = (3, 224)  # channels, pixels a side; at least 63 pixels survive the poolings


class MyNetPro(nn.Module):
    """(B, channels, S, S), S >= 63 -> logits (B, num_classes)."""

    def __init__(self, num_classes: int, channels: int, *, dropout: Share = 0.3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(channels, 64, kernel=11, stride=4, padding=2),
            nn.MaxPool2d(kernel_size=3, stride=2),
            *_convolution(64, 192, kernel=5, padding=2),
            nn.MaxPool2d(kernel_size=3, stride=2),
            *_convolution(192, 384, kernel=3, padding=1),
            *_convolution(384, 256, kernel=3, padding=1),
            *_convolution(256, 256, kernel=3, padding=1),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.pool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes),
        )

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.pool(self.features(image)).flatten(1))
        return logits


def _convolution(
    inputs: int, outputs: int, *, kernel: int, stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


build = MyNetPro
