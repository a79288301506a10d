"""A generative adversarial network: critic and generator with an optimizer each (arXiv 1406.2661, hinge 1705.02894)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets import order
from datasets.batch import Batch
from trainers.task import Step, Task

NEEDS = ("image",)  # columns of the data
FEEDS = "noise"  # to the model: see TAKES there


class GAN(Task):
    """The model has `generator`, `critic` and `latent`, as trainers/models/dcgan.py."""

    couples_samples = True  # batch norm in the generator sees the batch, and the steps alternate

    def __init__(
        self, model: nn.Module, *, loss: Literal["hinge", "non_saturating"] = "non_saturating"
    ) -> None:
        super().__init__()
        self.generator = model.get_submodule("generator")
        self.critic = model.get_submodule("critic")
        self.latent: int = getattr(model, "latent")  # noqa: B009  any model with these three will do
        self.hinge = loss == "hinge"

    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "critic": self.critic}

    def training_step(self, batch: Batch) -> Iterator[Step]:
        real = batch["image"]
        fake = self.generator(self.noise(batch))
        real_B, fake_B = self.critic(real), self.critic(fake.detach())
        critic_loss = self._wrong(real_B, 1) + self._wrong(fake_B, -1)
        yield Step(critic_loss, optim="critic", logs={"gap": (real_B - fake_B).detach().mean()})
        # The critic has stepped: the generator meets the new one.
        logit_B = self.critic(fake)
        loss = -logit_B.mean() if self.hinge else F.softplus(-logit_B).mean()
        yield Step(loss, optim="generator")

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        return {"sample": self.generator(self.noise(batch)).float()}

    def noise(self, batch: Batch) -> Tensor:
        """(B, latent) normal noise, a function of (seed, step, sample id): the same on any number of workers."""
        ids = batch["id"]
        noise = order.normal(batch.key, ids.cpu().numpy(), self.latent)
        return torch.from_numpy(noise).to(ids.device)

    def _wrong(self, logit_B: Tensor, side: int) -> Tensor:
        if self.hinge:
            return F.relu(1 - side * logit_B).mean()
        return F.softplus(-side * logit_B).mean()


build = GAN
