"""SimSiam: of each view of a picture the other one's projection is predicted, which itself gets no gradient (arXiv 2011.10566).

Nothing is told from other pictures, so batches may be small; that the projections do not fall into one point is what the
stopped gradient does. No label is read. What is kept is the network up to its head, as after SimCLR.
"""

# B pictures, P projected

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.batch import Batch
from datasets.ranges import Width
from trainers import anatomy, parallel
from trainers.contrast import alignment, uniformity
from trainers.task import Step, Task

NEEDS = ("image", "image_2")  # views: data.train.views=2
PAIRS = "view"
PREDICTS = "embedding"


class SimSiam(Task):
    """The network up to its head, and a projection and a prediction of it that only the loss sees."""

    couples_samples = True  # by batch norm alone

    def __init__(
        self, model: nn.Module, *, projection: Width = 2048, hidden: Width | None = None
    ) -> None:
        """`projection` numbers are predicted, through `hidden` units, by default a quarter of them."""
        super().__init__()
        self.body = anatomy.headless(model)
        width = anatomy.width(model)
        inner = hidden or max(1, projection // 4)
        # Batch norm after each layer but the prediction's last, without scale and shift after the projection's: section 4.4.
        self.projector = nn.Sequential(
            *_normed(width, width),
            *_normed(width, width),
            nn.Linear(width, projection, bias=False),
            nn.BatchNorm1d(projection, affine=False),
        )
        self.predictor = nn.Sequential(*_normed(projection, inner), nn.Linear(inner, projection))

    def training_step(self, batch: Batch) -> Iterator[Step]:
        # A pass each: batch norm sees the views apart, as the paper's does.
        one_BP, two_BP = (
            self.projector(self.body(batch[name]).flatten(1)) for name in ("image", "image_2")
        )
        cosines = [
            F.cosine_similarity(self.predictor(seen).float(), other.detach().float())
            for seen, other in ((one_BP, two_BP), (two_BP, one_BP))
        ]
        # The paper's plus 1: the same gradient, and 0 is where nothing is left to do.
        loss = 1 - torch.stack(cosines).mean()
        with torch.no_grad():
            pairs_B2P = F.normalize(torch.stack([one_BP, two_BP], dim=1).float(), dim=2)
            views = parallel.gather(pairs_B2P, counted=not batch.weightless).unbind(1)
            logs = {
                "chance": loss.new_ones(()),  # of vectors that have nothing in common
                "alignment": alignment(*views),
                "uniformity": torch.stack([uniformity(view) for view in views]).mean(),
            }
        yield Step(loss, logs=logs)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """The features that are kept, not their projection."""
        return {"embedding": self.body(batch["image"]).flatten(1).float()}


def _normed(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]


build = SimSiam
