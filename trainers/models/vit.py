"""A vision transformer of any size (arXiv 2010.11929), torchvision's: ViT-B/16 as it stands, `layers: 18` the extended one."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import nn

from datasets.ranges import Share, Width
from datasets.refusal import Refusal

INPUT = (3, None)  # channels; pixels a side: any that `patch` divides
SIZED_BY = "mlp"  # what `match_params` changes


def build(
    num_classes: int,
    size: int,
    *,
    patch: PositiveInt = 16,
    layers: PositiveInt = 12,
    width: Width = 768,
    heads: PositiveInt = 12,
    mlp: PositiveInt = 3072,
    dropout: Share = 0.0,
    attention_dropout: Share = 0.0,
) -> nn.Module:
    """(B, 3, size, size) -> logits (B, num_classes). Parameters have torchvision's names, so its weights fit."""
    from torchvision.models import VisionTransformer

    if size % patch:
        raise Refusal(
            f"pictures of {size} pixels a side are not cut into patches of {patch}",
            path="model.patch",
            value=patch,
            remedy="set model.patch, or data.size, so that one divides the other",
        )
    if width % heads:
        raise Refusal(
            f"a width of {width} is not shared by {heads} heads",
            path="model.heads",
            value=heads,
            remedy="set model.heads to a divisor of model.width",
        )
    network: nn.Module = VisionTransformer(
        image_size=size,
        patch_size=patch,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=width,
        mlp_dim=mlp,
        dropout=dropout,
        attention_dropout=attention_dropout,
        num_classes=num_classes,
    )
    return network
