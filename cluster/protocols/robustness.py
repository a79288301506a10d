"""Robustness: ImageNet-C's corruptions and mCE, occlusion, attacks with a check of their gradients, calibration under shift."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt

from cluster.judge import Judge
from cluster.protocol import Outcome
from cluster.saved import Saved
from datasets import order
from datasets.batch import Batch
from datasets.progress import Shown
from datasets.ranges import Levels, Severity, Share
from datasets.refusal import Refusal
from trainers import rooms
from trainers.robustness import results, sheets, words
from trainers.robustness.checks import checks
from trainers.robustness.shift import Occlusion, Shift
from trainers.robustness.siege import Siege
from trainers.task import Finding

AT_ONCE = 64  # pictures that are attacked together


def build(
    saved: Saved,
    split: str,
    shown: Shown,
    *,
    corruptions: list[str] = [
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "defocus_blur",
        "glass_blur",
        "motion_blur",
        "zoom_blur",
        "snow",
        "frost",
        "fog",
        "brightness",
        "contrast",
        "elastic_transform",
        "pixelate",
        "jpeg_compression",
    ],
    severities: list[Severity] = [1, 2, 3, 4, 5],
    occlusions: list[Share] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
    attacks: list[Literal["fgsm", "pgd"]] = ["fgsm", "pgd"],
    epsilons: list[Levels] = [1.0, 2.0, 4.0, 8.0, 16.0],
    steps: PositiveInt = 20,
    restarts: PositiveInt = 1,
    attacked: PositiveInt = 1000,
    reference: str | None = None,
    seed: NonNegativeInt = 0,
) -> Outcome:
    """`epsilons` are in 1/255 of the pixels' range; `attacked` is how many pictures of the split are, drawn by chance."""
    for place, name in enumerate(corruptions):
        rooms.door("corruptions", name, f"corruptions.{place}")
    _check_some(corruptions=severities, attacks=epsilons)
    judge = Judge.of(saved, split)
    judges = {"run": judge}
    if reference is not None:
        other = Saved.named(reference)
        if other.url == saved.url:
            raise Refusal(
                "a checkpoint beside itself says nothing",
                path="reference",
                value=reference,
                remedy="name another run, or leave it out",
            )
        judges["reference"] = judge.beside(other)
    shift = Shift(list(judges), _once(corruptions), _once(severities), seed=seed)
    occlusion = Occlusion(list(judges), _once(occlusions), seed=seed)
    siege = Siege(_once(attacks), _once(epsilons) if attacks else (), steps, restarts, seed)
    first = _pass(judges, shift, occlusion, siege, attacked=attacked, shown=shown)
    found = results.Results(shift, occlusion, siege, checks(siege, len(judge.shape.classes)))
    classes = judge.shape.classes
    return Outcome(
        [*results.findings(found), *_pictures(first, found, classes)],
        [*words.sentences(found), *_differing(judges)],
    )


def _once(values: list) -> list:  # type: ignore[type-arg]
    return list(dict.fromkeys(values))


def _check_some(*, corruptions: list[int], attacks: list[float]) -> None:
    for path, values in (("severities", corruptions), ("epsilons", attacks)):
        if not values:
            of = "corruptions" if path == "severities" else "attacks"
            raise Refusal(
                "is empty", path=path, value="[]", remedy=f"leave it out, or say {of}=[] for none"
            )


def _pass(
    judges: dict[str, Judge],
    shift: Shift,
    occlusion: Occlusion,
    siege: Siege,
    *,
    attacked: int,
    shown: Shown,
) -> Batch:
    """Read the split once and put each batch through everything; the first one, for the pictures."""
    judge = judges["run"]
    conditions = 1 + len(shift.corruptions) * len(shift.severities) + len(occlusion.shares)
    key = order.key("attacked", siege.seed)
    chosen = torch.zeros(judge.rows, dtype=torch.bool)
    if siege.methods:
        chosen[torch.from_numpy(order.permutation(judge.rows, key)[:attacked])] = True
    total = judge.rows * conditions + int(chosen.sum()) * siege.passes
    logits = {name: each.logits for name, each in judges.items()}
    done, start, first = 0, 0, None
    with shown(f"robustness of {judge.saved.run.name}") as progress:

        def passed(pictures: int) -> None:
            nonlocal done
            done += pictures
            progress(done, total)

        for batch in judge.batches():
            first = first or batch
            images, ids, label = batch["image"], batch["id"], batch["label"]
            shift.update(logits, images, ids, label, passed)
            occlusion.update(logits, images, ids, label, passed)
            _attack(judges, siege, batch, chosen[start : start + len(batch)], passed)
            start += len(batch)
    assert first is not None, "a split without rows is refused when it is opened"
    return first


def _attack(
    judges: dict[str, Judge],
    siege: Siege,
    batch: Batch,
    chosen: torch.Tensor,
    passed: Callable[[int], None],
) -> None:
    other = judges["reference"].slopes if "reference" in judges else None
    places = torch.nonzero(chosen).flatten().to(batch["id"].device)
    for part in torch.split(places, AT_ONCE):
        if len(part):
            pixels = batch["image"][part].permute(0, 3, 1, 2).float() / 255
            ids, label = batch["id"][part], batch["label"][part]
            siege.update(judges["run"].slopes, pixels, ids, label, passed, other)


def _pictures(first: Batch, found: results.Results, classes: tuple[str, ...]) -> Iterator[Finding]:
    if found.shift.corruptions:
        yield sheets.corruptions(first["image"][:1], first["id"][:1], found.shift)
    if found.siege.examples:
        yield sheets.attacked(found.siege, classes)


def _differing(judges: dict[str, Judge]) -> Iterator[str]:
    """What a reader must know of the reference."""
    if "reference" not in judges:
        return
    saved = judges["reference"].saved
    digests = [judge.saved.run.json("data.json").get("digest") for judge in judges.values()]
    if digests[0] != digests[1]:
        yield (
            f"The reference {saved.run.name} was trained on another packed set than this run: whether it has "
            "learnt from these very pictures is not known."
        )
