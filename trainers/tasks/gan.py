"""A generative adversarial network: critic and generator with an optimizer each (arXiv 1406.2661, hinge 1705.02894).

`critic_steps` critic steps go before each step of the generator. All of them see the same real pictures, each with new
noise: parts of a batch would be other pictures on another number of workers. The last one's pictures are the
generator's too. `augment` shows the critic everything through DiffAugment (arXiv 2006.10738).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from datasets import order
from datasets.batch import Batch
from trainers import diff_augment, parallel
from trainers.task import Step, Task

NEEDS = ("image",)  # columns of the data
FEEDS = "noise"  # to the model: see TAKES there
_JUDGED = order.key("gan", "judged")  # the same samples at every evaluation


class GAN(Task):
    """The model has `generator`, `critic` and `latent`, as trainers/models/dcgan.py."""

    couples_samples = True  # batch norm in the generator sees the batch, and the steps alternate

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Literal["hinge", "non_saturating"] = "non_saturating",
        critic_steps: PositiveInt = 1,
        augment: list[Literal["color", "translation", "cutout"]] = [],
    ) -> None:
        super().__init__()
        self.generator = model.get_submodule("generator")
        self.critic = model.get_submodule("critic")
        self.latent: int = getattr(model, "latent")  # noqa: B009  any model with these three will do
        self.hinge = loss == "hinge"
        self.critic_steps, self.augment = critic_steps, augment

    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "critic": self.critic}

    def training_step(self, batch: Batch) -> Iterator[Step]:
        for turn in reversed(range(self.critic_steps)):
            # Only the last pictures, of turn 0, are asked for a gradient: the generator's step is taken with them.
            with torch.set_grad_enabled(turn == 0):
                fake = self.generator(self.noise(batch, turn))
            real_B = self._judged(batch["image"], batch, "real", turn)
            fake_B = self._judged(fake.detach(), batch, "fake", turn)
            critic_loss = self._wrong(real_B, 1) + self._wrong(fake_B, -1)
            yield Step(critic_loss, optim="critic", logs=_balance(real_B.detach(), fake_B.detach()))
        # The critic has stepped: the generator meets the new one, which learns nothing from it.
        with parallel.fixed(self.critic):
            logit_B = self._judged(fake, batch, "generator", 0)
        loss = -logit_B.mean() if self.hinge else F.softplus(-logit_B).mean()
        yield Step(loss, optim="generator")

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        # A batch's own key tells where in a rank's share it begins: what is judged must not hang on that.
        return {"sample": self.generator(self.noise(replace(batch, key=_JUDGED))).float()}

    def noise(self, batch: Batch, turn: int = 0) -> Tensor:
        """(B, latent) normal noise, a function of (seed, step, turn, sample id): the same on any number of workers."""
        ids = batch["id"]
        key = order.extended(batch.key, "turn", turn) if turn else batch.key
        noise = order.normal(key, ids.cpu().numpy(), self.latent)
        return torch.from_numpy(noise).to(ids.device)

    def _judged(self, picture_BCHW: Tensor, batch: Batch, of: str, turn: int) -> Tensor:
        """(B,) logits of pictures as the critic is shown them."""
        if self.augment:
            key = order.extended(batch.key, of, turn)
            picture_BCHW = diff_augment.augmented(picture_BCHW, batch["id"], key, self.augment)
        logit_B: Tensor = self.critic(picture_BCHW)
        return logit_B

    def _wrong(self, logit_B: Tensor, side: int) -> Tensor:
        if self.hinge:
            return F.relu(1 - side * logit_B).mean()
        return F.softplus(-side * logit_B).mean()


def _balance(real_B: Tensor, fake_B: Tensor) -> dict[str, Tensor]:
    """Who is winning: the critic's mean outputs, and the share of both kinds that it tells rightly by their signs."""
    real, fake = real_B.mean(), fake_B.mean()
    right = torch.stack([real_B > 0, fake_B < 0]).float().mean()
    return {"real": real, "fake": fake, "gap": real - fake, "accuracy": right}


build = GAN
