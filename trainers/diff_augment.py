"""DiffAugment (arXiv 2006.10738): changes of pictures that a gradient goes through, the same kind for real and generated.

What happens to a picture is a function of (key, id), so it is the same on any number of workers.
"""

# B batch, C channels, H height, W width; pixels lie in -1..1, so that 0 is gray

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets import order

SHIFT, CUT = 0.125, 0.5  # shares of a side, as in the paper
_DRAWS = np.arange(3)  # of each picture, for each of the changes


def augmented(x_BCHW: Tensor, ids_B: Tensor, key: int, names: Sequence[str]) -> Tensor:
    """The pictures after each of `color`, `translation`, `cutout` that is named, in that order of names."""
    policies = {"color": color, "translation": translation, "cutout": cutout}
    for name in names:
        draws = order.uniform(order.extended(key, name), ids_B.cpu().numpy()[:, None], _DRAWS)
        x_BCHW = policies[name](x_BCHW, torch.from_numpy(draws).float().to(x_BCHW.device))
    return x_BCHW


def color(x_BCHW: Tensor, draw_B3: Tensor) -> Tensor:
    """Brightness by -.5 to .5, then saturation by 0 to 2, then contrast by .5 to 1.5."""
    light, saturation, contrast = draw_B3.view(-1, 3, 1, 1, 1).unbind(1)
    x_BCHW = x_BCHW + (light - 0.5)
    gray = x_BCHW.mean(1, keepdim=True)
    x_BCHW = (x_BCHW - gray) * (2 * saturation) + gray
    mean = x_BCHW.mean((1, 2, 3), keepdim=True)
    return (x_BCHW - mean) * (contrast + 0.5) + mean


def translation(x_BCHW: Tensor, draw_B3: Tensor) -> Tensor:
    """Up to an eighth of a side each way, in whole pixels; gray comes in."""
    down_B, right_B = (
        _whole(draw, -_share(side, SHIFT), _share(side, SHIFT))
        for draw, side in zip(draw_B3.T, x_BCHW.shape[2:], strict=False)
    )
    padded = F.pad(x_BCHW, (1, 1, 1, 1))
    rows_BH = _moved(x_BCHW.shape[2], down_B)
    columns_BW = _moved(x_BCHW.shape[3], right_B)
    batch = torch.arange(len(x_BCHW), device=x_BCHW.device).view(-1, 1, 1)
    # Advanced indices apart from each other come first: (B, H, W, C).
    moved = padded[batch, :, rows_BH[:, :, None], columns_BW[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def cutout(x_BCHW: Tensor, draw_B3: Tensor) -> Tensor:
    """A square of half a side is gray; its middle lies anywhere in the picture."""
    inside = []
    for draw, side in zip(draw_B3.T, x_BCHW.shape[2:], strict=False):
        cut = _share(side, CUT)
        first = _whole(draw, 0, side - cut % 2) - cut // 2
        place = torch.arange(side, device=x_BCHW.device) - first[:, None]
        inside.append((place >= 0) & (place < cut))
    hole_BHW = inside[0][:, :, None] & inside[1][:, None, :]
    return x_BCHW * ~hole_BHW[:, None]


def _share(side: int, of: float) -> int:
    return int(side * of + 0.5)


def _whole(draw_B: Tensor, low: int, high: int) -> Tensor:
    """Whole numbers from low to high, each as likely as the others."""
    return (draw_B * (high - low + 1)).floor().long() + low


def _moved(side: int, by_B: Tensor) -> Tensor:
    """(B, side): where each line of the picture is taken from in one that is padded by a gray line on both sides."""
    lines = torch.arange(side, device=by_B.device)
    return (lines - by_B[:, None] + 1).clamp(0, side + 1)
