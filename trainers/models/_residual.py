"""The frame of the small residual networks: a stem, three stages of torchvision's blocks, a linear head."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

STAGES = 3


class SmallResNet(nn.Module):
    """(B, channels, S, S), S >= 16 -> logits (B, num_classes).

    The blocks of the stages are `width`, twice and four times as wide (bottlenecks give four times that); each stage
    halves the picture.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        *,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: int,
        width: int,
    ) -> None:
        super().__init__()
        inputs = max(1, width // 2)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, inputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        stages = []
        for stage in range(STAGES):
            planes = width * 2**stage
            chain = []
            for number in range(blocks):
                chain.append(_block(block, inputs, planes, stride=1 if number else 2))
                inputs = planes * block.expansion
            stages.append(nn.Sequential(*chain))
        self.layer1, self.layer2, self.layer3 = stages
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(image))))
        logits: Tensor = self.head(self.pool(x))
        return logits


def _block(
    kind: type[BasicBlock] | type[Bottleneck], inputs: int, planes: int, *, stride: int
) -> nn.Module:
    """A block whose shortcut is a 1x1 convolution where its shape changes (option B)."""
    outputs, shortcut = planes * kind.expansion, None
    if stride != 1 or inputs != outputs:
        convolution = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))
    block: nn.Module = kind(inputs, planes, stride, shortcut)
    return block
