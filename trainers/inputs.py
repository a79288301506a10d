"""From stored pixels to what a network eats, on the device: float, normalised, resized, gray to RGB."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.batch import Batch
from datasets.refusal import Refusal


class Inputs:
    """`image` uint8 (B, H, W, C) -> float32 (B, C', S, S), (pixel / 255 - mean) / std, on a device.

    A plain object, not a module: it runs in every step, where a module's machinery costs more than the arithmetic.
    """

    def __init__(
        self,
        *,
        stored_channels: int,
        channels: int,
        size: int | None,
        mean: list[float],
        std: list[float],
        device: torch.device | str = "cpu",
    ) -> None:
        if stored_channels != channels and stored_channels != 1:
            raise Refusal(
                f"the model takes {channels} channels, the pictures have {stored_channels}",
                path="model",
                remedy="choose a model that takes them",
            )
        if len(mean) not in (1, channels) or len(mean) != len(std):
            raise Refusal(
                f"mean and std need one value or {channels}, not {len(mean)} and {len(std)}",
                path="data.mean" if len(mean) not in (1, channels) else "data.std",
                value=mean if len(mean) not in (1, channels) else std,
                remedy="give as many of each",
            )
        self.channels, self.size, self.device = channels, size, torch.device(device)
        mean_C, std_C = torch.tensor(mean), torch.tensor(std)
        self.scale = (1 / (255 * std_C)).view(1, -1, 1, 1).to(self.device)
        self.shift = (-mean_C / std_C).view(1, -1, 1, 1).to(self.device)

    def __call__(self, image_BHWC: Tensor) -> Tensor:
        # A permuted NHWC tensor is channels-last already: no copy beyond the cast.
        x = image_BHWC.permute(0, 3, 1, 2).float()
        if self.size is not None and x.shape[-2:] != (self.size, self.size):
            size = (self.size, self.size)
            x = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
            x = x.clamp_(0, 255)
        if x.shape[1] != self.channels:
            x = x.expand(-1, self.channels, -1, -1)
            return x * self.scale + self.shift
        return x.mul_(self.scale).add_(self.shift)

    def ready(self, batch: Batch) -> Batch:
        """The batch on the device, all views of its pictures made floats."""
        batch = batch.to(self.device)
        views = {name: self(image) for name, image in batch.pictures.items()}
        return replace(batch, columns={**batch.columns, **views})
