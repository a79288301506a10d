"""Tip-Adapter (arXiv 2111.03930): CLIP's prompts, and beside them the few labelled pictures that a picture is most like.

The first pass over the shots fills a cache with their features. Without `learn` nothing else happens: each further pass is judged
with the next pair of `alphas` x `betas`, so that `keep.metric` chooses one on the validation split; give the phase as many epochs
as there are pairs. With `learn` (Tip-Adapter-F) the cached features go on to learn, at the one pair.
"""

# B batch, C class, D embedding, K places of a class
from __future__ import annotations

import itertools
from collections.abc import Iterator

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from datasets.batch import Batch
from datasets.refusal import Refusal
from trainers import parallel
from trainers.language.cache import Cache, check_room
from trainers.language.prompted import Prompted
from trainers.task import Step

NEEDS = ("image", "label")  # columns of the data
PREDICTS = "classes"
KEEPS_MODEL = True  # only what the task adds to the model learns
CACHES = True  # `shots` of each class; each epoch is judged with the next pair


class TipAdapter(Prompted):
    couples_samples = True  # the cache is of the global batch

    def __init__(
        self,
        model: nn.Module,
        classes: list[str],
        counts: list[int],
        *,
        shots: PositiveInt = 16,
        alphas: list[NonNegativeFloat] = [1.0],
        betas: list[PositiveFloat] = [5.5],
        learn: bool = False,
        templates: list[str] = ["a photo of a {}."],
        names: list[str] = [],
    ) -> None:
        """`shots` pictures of a class at most are cached; `alphas` weigh the cache, `betas` say how near is near.

        Raises Refusal where a class has more pictures, or more than one pair is to be learnt with; a run is also refused
        where no class has as many as `shots` says, or there are fewer epochs than pairs.
        """
        super().__init__(model, classes, names=names, templates=templates)
        check_room(classes, counts, shots)
        self.pairs = list(itertools.product(alphas, betas))
        if not self.pairs or (learn and len(self.pairs) > 1):
            raise Refusal(
                f"there are {len(self.pairs)} pairs of alpha and beta",
                value=len(self.pairs),
                remedy="name one of each to learn with" if self.pairs else "name some",
            )
        self.learn = learn
        width = self._plain[0].embed_dim
        self.cache = Cache(len(self.names), shots, width)
        self._held = (self.cache,)  # as it is, whatever is wrapped around it for a step

    def training_step(self, batch: Batch) -> Iterator[Step]:
        counted, label_B = not batch.weightless, batch["label"]
        (cache,) = self._held
        known_B = cache.places(batch["id"], label_B)
        filling = bool(parallel.summed((known_B < 0).sum().float()))
        if filling or self.learn:
            image_BD = self.pictures(batch["image"])
        else:  # all are cached, and rest
            image_BD = cache.features(known_B)
        ids = parallel.gather(batch["id"], counted=counted)
        if filling:
            features = parallel.gather(image_BD, counted=counted)
            cache.fill(features, parallel.gather(label_B, counted=counted), ids)
        cache.passed(ids)
        step = self.learnt(self.logits(image_BD), label_B)
        if filling or not self.learn:  # nothing is learnt, yet there is a gradient to be reduced
            step = step._replace(loss=step.loss.detach() + 0 * step.loss)
        yield step._replace(logs={**step.logs, "cached": cache.filled.float()})

    def logits(self, image_BD: Tensor) -> Tensor:
        alpha, beta = self.pair
        cached_BC: Tensor = self.cache(image_BD, beta)
        return super().logits(image_BD) + alpha * cached_BC

    @property
    def pair(self) -> tuple[float, float]:
        """Alpha and beta that are in force: of the first pass the first pair, and so on; the last one stays."""
        number = int(self._held[0].passes.clamp(min=1, max=len(self.pairs))) - 1
        return self.pairs[number]


build = TipAdapter
