"""Pictures and texts drawn together, those of the batch's other pairs apart (arXiv 2103.00020).

Pairs that say the same are all positives of one another (arXiv 2204.03610): with ten classes most batches have several.
"""

# B pairs of the global batch, D embedding
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from datasets.batch import Batch
from trainers import parallel
from trainers.task import Step

STEEPEST = math.log(100)  # of the products: beyond it training is unstable


def loss(products_BB: Tensor, same_BB: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, its value at chance) of pictures by texts, scaled: the mean over both directions of KL(equals ‖ softmax).

    That is the symmetric cross entropy, less what no network can get below where several pairs are equal; so 0 is best.
    """
    equal_BB = same_BB / same_BB.sum(1, keepdim=True)
    least = -torch.xlogy(equal_BB, equal_BB).sum(1).mean()
    found = products_BB.new_zeros(())
    for direction in (products_BB, products_BB.T):
        found = found - (equal_BB * direction.log_softmax(1)).sum(1).mean() / 2
    return found - least, math.log(len(products_BB)) - least


def losses(
    network: nn.Module, batch: Batch, tokens_BL: Tensor, said_B: Tensor, plain: Any
) -> Iterator[Step]:
    """The training step of a batch of pairs; equal rows of `said_B` (B,) or (B, L) say the same.

    `network` is called once, with all that needs a gradient; `plain` is the same without a wrapper.
    """
    counted = not batch.weightless
    image_BD, text_BD, scale = network(batch["image"], tokens_BL)
    # Both at once: the way back meets the other ranks once, before DDP does.
    pair_BD = torch.cat([image_BD.float(), text_BD.float()], dim=1)
    image_BD, text_BD = parallel.gather(pair_BD, counted=counted).chunk(2, dim=1)
    said_B = parallel.gather(said_B, counted=counted)
    rows = said_B.flatten(1) if said_B.ndim > 1 else said_B[:, None]
    same_BB = (rows[:, None] == rows[None]).all(2)
    with torch.autocast(image_BD.device.type, enabled=False):
        products_BB = scale.float() * image_BD @ text_BD.T
        found, chance = loss(products_BB, same_BB.float())
        right = same_BB.gather(1, products_BB.argmax(1, keepdim=True)).float().mean()
    yield Step(found, logs={"chance": chance, "right_text": right, "scale": scale.detach()})
    # The optimizer has stepped.
    with torch.no_grad():
        plain.logit_scale.clamp_(0, STEEPEST)
