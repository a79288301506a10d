"""SimCLR: two views of a picture are to be told from all views of the batch's other pictures (arXiv 2002.05709).

A projection head on the features before the model's own; NT-Xent over the global batch. No label is read. What is kept of it
is the network up to its head, which a second phase, `model.pretrained` or `evaluate --protocol linear` builds on.
"""

# B pictures of the global batch, D features, P projected

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor, nn

from datasets.batch import Batch
from datasets.ranges import Width
from trainers import anatomy, parallel
from trainers.contrast import alignment, floor, nt_xent_of_views, uniformity
from trainers.task import Step, Task

NEEDS = ("image", "image_2")  # views: data.train.views=2
PAIRS = "view"
PREDICTS = "embedding"


class SimCLR(Task):
    """The network up to its head, and a projection that only the loss sees."""

    couples_samples = True

    def __init__(
        self,
        model: nn.Module,
        *,
        temperature: PositiveFloat = 0.5,
        projection: Width = 128,
        hidden: Width | None = None,
    ) -> None:
        """`projection` numbers are compared; `hidden` units lie before them, by default as many as there are features."""
        super().__init__()
        self.body = anatomy.headless(model)
        width = anatomy.width(model)
        inner = hidden or width
        # Batch norm after both layers and no bias before it, as in the paper's code.
        self.projector = nn.Sequential(
            nn.Linear(width, inner, bias=False),
            nn.BatchNorm1d(inner),
            nn.ReLU(inplace=True),
            nn.Linear(inner, projection, bias=False),
            nn.BatchNorm1d(projection),
        )
        self.temperature = temperature

    def training_step(self, batch: Batch) -> Iterator[Step]:
        # One pass of both views, so that batch norm sees 2B rows at once, as the paper's does.
        both = torch.cat([batch["image"], batch["image_2"]])
        one_BP, two_BP = self.projector(self.body(both).flatten(1)).float().chunk(2)
        # bf16 has three digits: similarities over a small temperature need float32.
        with torch.autocast(both.device.type, enabled=False):
            pairs_B2P = F.normalize(torch.stack([one_BP, two_BP], dim=1), dim=2)
            views_2BP = parallel.gather(pairs_B2P, counted=not batch.weightless).unbind(1)
            rows = torch.cat(views_2BP)
            num_pictures = len(views_2BP[0])
            loss, chance = nt_xent_of_views(rows @ rows.T / self.temperature)
        with torch.no_grad():
            logs = {
                "chance": chance,
                "floor": loss.new_full((), floor(num_pictures, self.temperature)),
                "alignment": alignment(*views_2BP),
                "uniformity": torch.stack([uniformity(view_BP) for view_BP in views_2BP]).mean(),
            }
        yield Step(loss, logs=logs)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """The features that are kept, not their projection: they serve other tasks better (section 4.2 of the paper)."""
        return {"embedding": self.body(batch["image"]).flatten(1).float()}


build = SimCLR
