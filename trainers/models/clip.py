"""CLIP (arXiv 2103.00020): an image tower and a text tower into one space; open_clip's architectures, or a tiny one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from datasets.ranges import Width
from trainers.models import _clip

INPUT = (3, None)  # colour; of open_clip's architectures the size is theirs
ARCHITECTURES = "open_clip"  # whose names `architecture` takes


def build(
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
    """(B, 3, S, S) -> features (B, D) of length 1; with tokens also the texts'. All but `architecture` is of the tiny one."""
    said = {
        "embed": embed,
        "width": width,
        "text_width": text_width,
        "layers": layers,
        "patch": patch,
        "context_length": context_length,
    }
    return _clip.pair(architecture, size, said)


def weights(name: Any, *, architecture: str = "tiny", **_: Any) -> dict[str, Tensor]:
    """Those that open_clip knows by this name."""
    return _clip.library_weights(architecture, name)
