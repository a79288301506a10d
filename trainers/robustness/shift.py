"""Predictions under every corruption and severity, and with a growing share of the picture hidden."""

# N sample, C corruption, S severity, B batch

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from datasets import order
from datasets.corrupting.draws import Draws
from datasets.corrupting.scene import corrupted
from trainers.robustness.errors import Errors
from trainers.robustness.tally import Tally

# Pictures (B, H, W, C) uint8 -> logits (B, classes), of one model.
Judges = Mapping[str, Callable[[Tensor], Tensor]]
GRAY = 128


class Shift:
    """Models on the same corrupted pictures, batch by batch."""

    def __init__(
        self,
        names: Sequence[str],
        corruptions: Sequence[str],
        severities: Sequence[int],
        *,
        seed: int,
    ) -> None:
        """`names` are the models'."""
        self.corruptions, self.severities, self.seed = list(corruptions), list(severities), seed
        conditions = [(c, s) for c in self.corruptions for s in self.severities]
        self.clean = {name: Tally() for name in names}
        self.tallies = {name: {each: Tally() for each in conditions} for name in names}
        self._clean_wrong: dict[str, list[Tensor]] = {name: [] for name in names}
        self._wrong: dict[str, list[Tensor]] = {name: [] for name in names}

    def update(
        self,
        judges: Judges,
        images: Tensor,
        ids: Tensor,
        label: Tensor,
        passed: Callable[[int], None],
    ) -> None:
        """Take in a batch; `passed` is told the pictures of each condition."""
        for name, logits_of in judges.items():
            self._clean_wrong[name].append(self.clean[name].update(logits_of(images), label))
        passed(len(images))
        wrong: dict[str, list[Tensor]] = {name: [] for name in judges}
        for corruption in self.corruptions:
            for severity in self.severities:
                pictures = corrupted(images, ids, corruption, severity, seed=self.seed)
                for name, logits_of in judges.items():
                    tally = self.tallies[name][corruption, severity]
                    wrong[name].append(tally.update(logits_of(pictures), label))
                passed(len(images))
        for name, columns in wrong.items():
            if columns:
                self._wrong[name].append(torch.stack(columns, dim=1))

    def errors(self, name: str) -> Errors:
        """What a model got wrong, in the order of the samples."""
        wrong = torch.cat(self._wrong[name]).numpy()
        shape = len(wrong), len(self.corruptions), len(self.severities)
        return Errors(torch.cat(self._clean_wrong[name]).numpy(), wrong.reshape(shape))

    def of_severity(self, name: str, severity: int) -> Tally:
        """All corruptions of a severity together; of severity 0 the pictures as they are."""
        found = Tally()
        for (_, each), tally in self.tallies[name].items():
            if each == severity:
                found.add(tally)
        return found if severity else self.clean[name]

    def calibration_error(self, name: str, *severities: int) -> float:
        """The mean over conditions of each one's own error, as arXiv 1906.02530 has it; of severity 0 as they are.

        Of samples pooled over conditions, too much trust under one would be made up for by too little under another.
        """
        if severities == (0,):
            return self.clean[name].calibration_error
        chosen = [t for (_, each), t in self.tallies[name].items() if each in severities]
        return float(np.mean([tally.calibration_error for tally in chosen]))

    def of_corruption(self, name: str, corruption: str) -> float:
        """The mean accuracy over severities."""
        return float(
            np.mean([self.tallies[name][corruption, each].accuracy for each in self.severities])
        )


class Occlusion:
    """Models on pictures of which a gray square hides a share, at a place that is the picture's own."""

    def __init__(self, names: Sequence[str], shares: Sequence[float], *, seed: int) -> None:
        self.shares, self.key = list(shares), order.key("occlusion", seed)
        self.tallies = {name: {share: Tally() for share in self.shares} for name in names}
        self.hidden = dict.fromkeys(self.shares, 0.0)  # as whole pixels have it

    def update(
        self,
        judges: Judges,
        images: Tensor,
        ids: Tensor,
        label: Tensor,
        passed: Callable[[int], None],
    ) -> None:
        """Take in a batch."""
        for share in self.shares:
            mask = squares(ids, tuple(images.shape[1:3]), share, self.key)
            self.hidden[share] = float(mask[0].float().mean())
            pictures = torch.where(mask[..., None], GRAY, images)
            for name, logits_of in judges.items():
                self.tallies[name][share].update(logits_of(pictures), label)
            passed(len(images))


def squares(ids: Tensor, size: tuple[int, ...], share: float, key: int) -> Tensor:
    """(B, H, W): the pixels that are hidden, a rectangle of sqrt(share) of each side, anywhere within the picture."""
    places = Draws(key, ids).uniform(2)
    covered = []
    for axis, whole in enumerate(size):
        length = round(share**0.5 * whole)
        start = (places[:, axis] * (whole - length + 1)).floor()[:, None]
        pixels = torch.arange(whole, device=ids.device)
        covered.append((pixels >= start) & (pixels < start + length))
    down, right = covered
    return torch.logical_and(down[:, :, None], right[:, None, :])
