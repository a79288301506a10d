"""Attacks on a sample of the split, and what they tell of the gradients that they follow."""

# B batch, C channel, H height, W width

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from datasets import order
from datasets.corrupting.draws import Draws
from trainers import attacks
from trainers.attacks import Attacked, Logits

TRIALS = 10  # of noise
LIMIT = 128.0  # 1/255: any picture can be made gray, so nothing is left to see
SHOWN = 6  # pictures of the sheet


@dataclass(frozen=True)
class Example:
    """One picture and what a PGD made of it, (C, H, W) in [0, 1]."""

    before: Tensor
    after: Tensor
    label: int
    prediction: int


@dataclass
class Siege:
    """What is tried, and how many pictures stood it. Epsilons are in 1/255."""

    methods: Sequence[str]
    epsilons: Sequence[float]
    steps: int
    restarts: int
    seed: int
    rows: int = 0
    flat: int = 0  # pictures without any gradient
    stood: dict[tuple[str, float], int] = field(default_factory=dict)
    losses: list[float] = field(
        default_factory=list
    )  # sums over pictures, by step of the largest PGD
    examples: list[Example] = field(default_factory=list)

    @property
    def passes(self) -> int:
        """How often a picture goes through the model, about: for the progress bar."""
        one = {"fgsm": 3, "pgd": 2 * self.steps * self.restarts}
        each = sum(one[method] for method in self.methods) + TRIALS
        return len(self.epsilons) * each + one["pgd"] * ("pgd" in self.methods)

    def update(
        self,
        logits_of: Logits,
        pixels: Tensor,
        ids: Tensor,
        label: Tensor,
        passed: Callable[[int], None],
        other: Logits | None = None,
    ) -> None:
        """Attack a batch, pixels in [0, 1]; pictures that fool the `other` model are tried on this one as well."""
        draws = Draws(order.key("attack", self.seed), ids)
        slope, _, wrong = attacks.gradient(logits_of, pixels, label)
        self.rows += len(pixels)
        self.flat += int((slope.flatten(1).abs().amax(1) == 0).sum())
        self._count("none", 0.0, wrong)
        largest = max(self.epsilons)
        for epsilon in self.epsilons:
            noisy = attacks.noise(
                logits_of, pixels, label, epsilon / 255, trials=TRIALS, draws=draws.of("noise")
            )
            self._count("noise", epsilon, noisy.fooled)
            if "fgsm" in self.methods:
                self._count(
                    "fgsm", epsilon, attacks.fgsm(logits_of, pixels, label, epsilon / 255).fooled
                )
            if "pgd" in self.methods:
                found = self._pgd(logits_of, pixels, label, epsilon, draws)
                self._count("pgd", epsilon, found.fooled)
                if epsilon == largest:
                    self._remember(logits_of, pixels, label, found)
            if other and "pgd" in self.methods:
                carried = self._pgd(other, pixels, label, epsilon, draws).pixels
                _, fooled = attacks.judged(logits_of, carried, label)
                self._count("transfer", epsilon, fooled | wrong)
        if "pgd" in self.methods:
            self._count("pgd", LIMIT, self._pgd(logits_of, pixels, label, LIMIT, draws).fooled)
        passed(self.passes * len(pixels))

    def _pgd(
        self, logits_of: Logits, pixels: Tensor, label: Tensor, epsilon: float, draws: Draws
    ) -> Attacked:
        return attacks.pgd(
            logits_of,
            pixels,
            label,
            epsilon / 255,
            steps=self.steps,
            restarts=self.restarts,
            draws=draws.of("pgd"),
        )

    def _count(self, method: str, epsilon: float, fooled: Tensor) -> None:
        key = (method, epsilon)
        self.stood[key] = self.stood.get(key, 0) + int((~fooled).sum())

    def _remember(self, logits_of: Logits, pixels: Tensor, label: Tensor, found: Attacked) -> None:
        sums = [float(loss.sum()) for loss in found.losses]
        self.losses = list(np.add(self.losses, sums)) if self.losses else sums
        if len(self.examples) < SHOWN:
            with torch.no_grad():
                predictions = logits_of(found.pixels[:SHOWN]).argmax(1).tolist()
            shown = zip(pixels.cpu(), found.pixels.cpu(), label.tolist(), predictions, strict=False)
            self.examples += [Example(*each) for each in shown]
            del self.examples[SHOWN:]

    def accuracy(self, method: str, epsilon: float) -> float:
        """The share of pictures that stood an attack."""
        return self.stood[method, epsilon] / max(1, self.rows)
