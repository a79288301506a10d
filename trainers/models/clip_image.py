"""The image tower of a CLIP under a linear head: to probe it, or to go on with it as a classifier."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from datasets.ranges import Width
from trainers.models import _clip

INPUT = (3, None)
ARCHITECTURES = "open_clip"


def build(
    num_classes: int,
    size: int,
    *,
    architecture: str = "tiny",
    embed: Width | None = None,
    width: Width | None = None,
    text_width: Width | None = None,
    layers: Width | None = None,
    patch: Width | None = None,
    context_length: Width | None = None,
) -> nn.Module:
    """(B, 3, S, S) -> logits (B, num_classes); arguments as of `clip`, whose runs `pretrained` may name."""
    said = {
        "embed": embed,
        "width": width,
        "text_width": text_width,
        "layers": layers,
        "patch": patch,
        "context_length": context_length,
    }
    pair: Any = _clip.pair(architecture, size, said)
    return nn.Sequential(pair.visual, nn.Linear(pair.embed_dim, num_classes))


def weights(name: Any, *, architecture: str = "tiny", **_: Any) -> dict[str, Tensor]:
    """Those of the whole CLIP that open_clip knows by this name; the text tower is left out."""
    return _clip.library_weights(architecture, name)
