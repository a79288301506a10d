"""Signs that a finished run is not what it seems, as sentences: what its losses, gradients, features and scores say together.

Read from its metrics and scores alone, so a resumed run is judged as a whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from torch import nn

from datasets import subsets
from datasets.shards import Dataset
from trainers import rooms
from trainers.recipe import Recipe

FEWEST = 20  # rows of a phase below which nothing is concluded
TAIL = 0.1  # of a phase's rows: its end, and its beginning
AT_CHANCE = 0.97  # of the loss at chance
LEARNT = 0.05  # of accuracy, which no run at chance gains
EXPLODED, LIFTED = 100.0, 10.0  # times the first gradient, times the first loss
NARROW = 1.5  # an effective rank
DEAD = 0.5  # of the units
SIGMAS, BEYOND = 3.0, 0.02  # of validation above training
WON, VANISHED = 0.98, 0.1  # of what the critic is shown; of the generator's first gradient
SLACK = 0.05  # of what a generator spans
ONE_POINT = -0.1  # a uniformity; of evenly spread features it is near -4
_KEPT = ("phase", "epoch", "loss", "chance", "floor", "accuracy", "active_triplets", "uniformity")
_CRITIC = ("critic_accuracy", "critic_gap")
_DISTANCES = ("positive_distance", "negative_distance")

Row = Mapping[str, Any]


def read(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, with what is looked at here alone."""
    found = []
    for line in lines:
        row = json.loads(line)
        kept = {name: row[name] for name in (*_KEPT, *_DISTANCES, *_CRITIC) if name in row}
        kept |= {n: row[n] for n in row if n.endswith(("gradient_norm", "_loss"))}
        found.append({"split": row["split"], "val": row.get("val/accuracy"), **kept})
    return found


def found(
    recipe: Recipe,
    model: nn.Module,
    dataset: Dataset,
    rows: Sequence[Row],
    scores: Mapping[str, float],
) -> list[str]:
    """Everything that a reader should doubt, phase by phase, then of the scores."""
    told: list[str] = []
    for index in range(len(recipe.phases)):
        own = [row for row in rows if row["split"] == "train" and row["phase"] == index]
        if len(own) >= FEWEST:
            told += [*_at_chance(index, own), *_exploded(index, own), *_won(index, own)]
    return [
        *told,
        *_better_on_val(recipe, model, dataset, rows),
        *_above_ceiling(recipe, scores),
        *_features(scores),
        *_no_fit(scores),
        *foreseen(recipe, dataset),
    ]


def foreseen(recipe: Recipe, dataset: Dataset) -> list[str]:
    """What is known before the first step."""
    return [*unjudged(recipe, dataset), *_out_of_reach(recipe, dataset)]


def unjudged(recipe: Recipe, dataset: Dataset) -> list[str]:
    """Classes that are learnt and have no validation sample."""
    missing = subsets.unjudged(dataset) if recipe.evals else []
    if not missing:
        return []
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return [
        f"No validation sample of {', '.join(missing[:3])}{more}: "
        "no score here says how well they are told, and means over classes count them as 0."
    ]


def _out_of_reach(recipe: Recipe, dataset: Dataset) -> list[str]:
    """Pixels that a generator with bounds cannot make, as the data's mean and deviation leave them."""
    door = rooms.doors("models").get(recipe.model.name)
    spans = door.constants.get("SPANS") if door else None
    if not spans or dataset.manifest.kind != "image":
        return []
    mean, std = recipe.data.mean or dataset.manifest.mean, recipe.data.std or dataset.manifest.std
    channels = list(zip(mean, std, strict=False))
    low, high = (
        min(-m / (s or 1) for m, s in channels),
        max((1 - m) / (s or 1) for m, s in channels),
    )
    if low >= spans[0] - SLACK and high <= spans[1] + SLACK:
        return []
    return [
        f"The generator's pixels span {spans[0]:g} to {spans[1]:g}, the data's {low:.2g} to {high:.2g}: it cannot make "
        "them all, and the critic knows them by that. Set data.mean=[0.5] and data.std=[0.5]."
    ]


def _ends(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """The beginning and the end of a series."""
    size = max(2, math.ceil(TAIL * len(values)))
    return values[:size], values[-size:]


def _series(rows: Sequence[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows if name in row]


def _at_chance(index: int, rows: Sequence[Row]) -> Iterator[str]:
    chances = _series(rows, "chance")
    if not chances:
        return
    loss, chance = fmean(_ends(_series(rows, "loss"))[1]), fmean(_ends(chances)[1])
    least = fmean(_ends(_series(rows, "floor") or [0.0])[1])
    spread = _series(rows, "uniformity")
    if spread and (uniformity := fmean(_ends(spread)[1])) > ONE_POINT:
        # Whatever the loss: without negatives, one point is where it is least.
        yield (
            f"Phase {index} collapsed: projections are all alike, their uniformity is {uniformity:.3g}, where 0 is one "
            f"point (its loss was {loss:.4g}, at chance {chance:.4g}). Look at the learning rate, and at the temperature "
            "where there is one."
        )
        return
    # A bounded loss may come to as much when many labels are wrong and the right ones are told: see the accuracy.
    first, last = _ends(_series(rows, "accuracy") or [0.0])
    near_chance = least + AT_CHANCE * (chance - least)
    if loss < near_chance or fmean(last) - fmean(first) > LEARNT:
        return
    if spread:
        yield (
            f"Phase {index} ended at chance: its loss was {loss:.4g}, and that of projections which are all alike is "
            f"{chance:.4g}; views of a picture are not known again among the others. Look at the learning rate, and "
            "whether the views have anything in common."
        )
        return
    near, far = (_series(rows, name) for name in _DISTANCES)
    if not near:
        yield (
            f"Phase {index} ended at chance: its loss was {loss:.4g}, and that of outputs which say the same of every "
            f"class is {chance:.4g}."
        )
        return
    apart = (
        f"{fmean(_ends(far)[1]):.3g} from other classes, {fmean(_ends(near)[1]):.3g} from their own"
    )
    active = _series(rows, "active_triplets")
    if active:
        share = fmean(_ends(active)[1])
        yield (
            f"Phase {index} collapsed: its triplet loss stays at the margin ({loss:.4g}, at chance {chance:.4g}; "
            f"{100 * share:.0f} % of the triplets are active), and samples lie {apart}."
        )
    else:
        yield (
            f"Phase {index} collapsed: its loss was {loss:.4g}, and that of embeddings which are all alike is "
            f"{chance:.4g}; samples lie {apart}."
        )


def _exploded(index: int, rows: Sequence[Row]) -> Iterator[str]:
    """A gradient that grew and took the loss with it: one that grows from almost nothing alone is no harm."""
    for name in sorted({name for row in rows for name in row if name.endswith("gradient_norm")}):
        prefix = name.removesuffix("gradient_norm")
        (begun, peak), (low, high) = (
            _grown(_series(rows, each)) for each in (name, f"{prefix}loss")
        )
        if peak > EXPLODED * begun > 0 and high > LIFTED * low > 0:
            whose = f" of {prefix.strip('_')}" if prefix else ""
            yield (
                f"The gradient{whose} exploded in phase {index}: its norm went from {begun:.3g} to {peak:.3g}, "
                f"the loss from {low:.3g} to {high:.3g}."
            )


def _won(index: int, rows: Sequence[Row]) -> Iterator[str]:
    """A critic that is nearly always right; whether it still tells the generator anything, its gradient says."""
    right = _series(rows, "critic_accuracy")
    if not right or fmean(_ends(right)[1]) < WON:
        return
    share, gap = fmean(_ends(right)[1]), fmean(_ends(_series(rows, "critic_gap"))[1])
    told = (
        f"The critic has won in phase {index}: at its end it tells {100 * share:.0f} % of the pictures rightly, its "
        f"outputs for real and generated ones lie {gap:.3g} apart"
    )
    norms = _series(rows, "generator_gradient_norm")
    before, after = (fmean(end) for end in _ends(norms)) if norms else (0.0, 0.0)
    if after < VANISHED * before:
        told += f", and the generator's gradient vanishes: its norm went from {before:.3g} to {after:.3g}"
    yield f"{told}. Lower the critic's learning rate, or raise the generator's."


def _grown(values: Sequence[float]) -> tuple[float, float]:
    """(the first, the largest) of a series; what is no number is larger than all."""
    finite = [value if math.isfinite(value) else math.inf for value in values]
    return (finite[0], max(finite)) if finite else (0.0, 0.0)


def _better_on_val(
    recipe: Recipe, model: nn.Module, dataset: Dataset, rows: Sequence[Row]
) -> Iterator[str]:
    """Only where both saw the same: augmented, mixed or wrongly labelled samples are harder, and so is dropout."""
    index = len(recipe.phases) - 1
    data, val = recipe.phase_data(index), dataset.manifest.splits.get("val")
    seen_alike = not (data.train.transforms or data.train.mix or data.train.frame or data.noise)
    if not (seen_alike and val and not data.order and not data.mixture) or _drops(model):
        return
    own = [row for row in rows if row["phase"] == index]
    judged = [row["val"] for row in own if row["val"] is not None]
    learnt = [row for row in own if row["split"] == "train" and "accuracy" in row]
    last = max((row["epoch"] for row in learnt), default=0)
    before, end = (
        _series([r for r in learnt if r["epoch"] == n], "accuracy") for n in (last - 1, last)
    )
    if not judged or not before or not end:
        return
    train, better, samples = fmean(end), judged[-1], len(end) * data.batch
    # The mean over an epoch lags behind what is judged at its end, about as much as it rises from one to the next.
    lag = max(0.0, train - fmean(before))
    share = (train * samples + better * val.rows) / (samples + val.rows)
    error = math.sqrt(share * (1 - share) * (1 / samples + 1 / val.rows))
    if better - train - lag > max(BEYOND, SIGMAS * error):
        yield (
            f"Validation is better than training by more than noise (accuracy {better:.3f} and {train:.3f}, on samples "
            "shown alike): look for a leak, for wrong labels in training, or for a validation split that is easier."
        )


def _drops(model: nn.Module) -> bool:
    """Whether anything in it is left out at random while it learns."""
    rates = (
        getattr(m, "p", getattr(m, "drop_prob", 0.0))
        for m in model.modules()
        if "Drop" in type(m).__name__
    )
    return any(rates)


def _above_ceiling(recipe: Recipe, scores: Mapping[str, float]) -> Iterator[str]:
    kept, ceiling = recipe.keep.metric, recipe.keep.ceiling
    if kept is None or ceiling is None:
        return
    sign = 1 if recipe.keep.mode == "max" else -1
    name = kept.partition("/")[2]
    for score, value in scores.items():
        if score.partition("/")[2] == name and sign * value > sign * ceiling:
            yield (
                f"{score} is {value:.4f}, beyond the ceiling that the recipe declares ({ceiling:g}): "
                "look for a leak before believing it."
            )


def _no_fit(scores: Mapping[str, float]) -> Iterator[str]:
    """A regression from which nothing was learnt."""
    for split in ("test", "val"):
        explained, error = scores.get(f"{split}/r2"), scores.get(f"{split}/rmse")
        if explained is None or error is None:
            continue
        if not explained > 0:
            yield (
                f"The fit is no better than predicting the mean: on the {split} split its RMSE is {error:.4g}, "
                f"R² {explained:.3g}. Look at the learning rate."
            )
        return


def _features(scores: Mapping[str, float]) -> Iterator[str]:
    for split in ("test", "val"):
        rank, dead = (scores.get(f"{split}/{name}") for name in ("effective_rank", "dead_units"))
        if rank is not None and not rank >= NARROW:
            yield (
                f"Features collapsed: on the {split} split their effective rank is {rank:.2f}, so to the network nearly "
                "all samples look the same."
            )
        if dead is not None and dead > DEAD:
            yield f"{100 * dead:.0f} % of the units are dead: they are 0 for every sample of the {split} split."
        if rank is not None or dead is not None:
            return
