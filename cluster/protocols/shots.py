"""Few labels: linear classifiers on frozen features with 1, 2, 4, 8 and 16 labels a class, over several draws of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from cluster.backbone import Backbone
from cluster.protocol import Outcome
from cluster.saved import Saved
from cluster.tasks import Workers
from datasets import subsets
from datasets.progress import Shown
from datasets.refusal import Refusal
from trainers.probing import few, linear
from trainers.probing.few import Curve
from trainers.probing.known import Known
from trainers.task import Finding, Scalar, Table


def build(
    saved: Saved,
    split: str,
    shown: Shown,
    workers: Workers,
    *,
    data: str | None = None,
    shots: list[PositiveInt] = [1, 2, 4, 8, 16],
    draws: PositiveInt = 5,
    strength: PositiveFloat | None = None,
    reference: str | None = None,
    seed: NonNegativeInt = 0,
) -> Outcome:
    """Draw d is of `seed` + d; with more shots it holds those with fewer. `strength` is chosen for each number of shots."""
    listed = sorted(set(shots))
    if not listed:
        raise Refusal("is empty", path="shots", value="[]", remedy="say how many: shots=[1,4,16]")
    judges = {"run": Backbone.of(saved, split, data, workers)}
    subsets.check_shots(judges["run"].data, listed[-1], "shots")
    if reference is not None:
        judges["reference"] = judges["run"].beside(reference)
    curves = {}
    seeds = [seed + draw for draw in range(draws)]
    rows = judges["run"].data.manifest.split(split).rows  # that each classifier is asked about
    total = len(judges) * len(listed) * draws * rows
    with shown(f"few labels of {saved.run.name}") as progress:
        for place, (name, judge) in enumerate(judges.items()):
            done = place * len(listed) * draws

            def drawn(number: int, done: int = done) -> None:
                progress((done + number) * rows, total)

            by = None if strength else _choosing(judge, listed[-1], seeds)
            strengths = (strength,) if strength else linear.STRENGTHS
            train, judged = judge.known("train"), judge.known(split)
            curves[name] = few.curve(
                train, judged, listed, seeds, by=by, strengths=strengths, drawn=drawn
            )
    return Outcome(
        [*_findings(curves), *_tables(curves)],
        [*_sentences(judges, curves, listed), *_about(judges["run"], strength)],
    )


def _choosing(judge: Backbone, most: int, seeds: Sequence[int]) -> Known:
    """What regularisation is chosen by: val, or where that is judged the pictures of train that no draw has."""
    val = judge.data.manifest.splits.get("val")
    if judge.split != "val" and val and val.rows:
        return judge.known("val")
    train = judge.known("train")
    rest = train.without(np.unique(np.concatenate([train.shots(most, seed) for seed in seeds])))
    if len(np.unique(rest.labels)) < len(judge.classes):
        raise Refusal(
            "the draws leave no pictures of some class in train to choose the regularisation by",
            path="shots",
            value=most,
            remedy="use --on test, fewer shots or draws, or say strength=0.01",
        )
    return rest


def _findings(curves: dict[str, Curve]) -> Iterator[Finding]:
    for name, curve in curves.items():
        prefix = "" if name == "run" else f"{name}_"
        for place, count in enumerate(curve.shots):
            yield Scalar(f"{prefix}accuracy_{count}_shots", float(curve.means[place]))
    if "reference" in curves:
        gains = few.gains(curves["run"], curves["reference"])
        for count, gain in zip(curves["run"].shots, gains, strict=True):
            yield Scalar(f"accuracy_gain_{count}_shots", gain.value)


def _tables(curves: dict[str, Curve]) -> Iterator[Table]:
    columns: dict[str, list[object]] = {
        name: []
        for name in ("model", "shots", "draws", "accuracy", "sd", "low", "high", "strength")
    }
    for name, curve in curves.items():
        for place, count in enumerate(curve.shots):
            interval = curve.interval(place)
            row = (name, count, curve.accuracy.shape[1], interval.value, curve.sds[place])
            more = (interval.low, interval.high, curve.strengths[place])
            for column, value in zip(columns, (*row, *more), strict=True):
                columns[column].append(float(value) if isinstance(value, np.floating) else value)
    yield Table("shots", columns)
    if "reference" in curves:
        gains = few.gains(curves["run"], curves["reference"])
        yield Table(
            "gains",
            {
                "shots": list(curves["run"].shots),
                "gain": [gain.value for gain in gains],
                # Of one draw they are endless: no number, as its deviation is none.
                "low": [gain.low if math.isfinite(gain.low) else math.nan for gain in gains],
                "high": [gain.high if math.isfinite(gain.high) else math.nan for gain in gains],
            },
        )


def _sentences(
    judges: dict[str, Backbone], curves: dict[str, Curve], shots: Sequence[int]
) -> Iterator[str]:
    curve, rows = curves["run"], len(judges["run"].known(judges["run"].split))
    draws = curve.accuracy.shape[1]
    told = ", ".join(
        f"{100 * mean:.1f} %{f' ± {100 * sd:.1f}' if draws > 1 else ''} with {count}"
        for count, mean, sd in zip(shots, curve.means, curve.sds, strict=True)
    )
    over = f"mean ± sd over {draws} draws" if draws > 1 else "one draw"
    yield (
        f"Linear classifiers on the frozen features of {judges['run'].name} have {told} labels a class right "
        f"({over} of the labels, {rows:,} pictures)."
    )
    if "reference" in curves:
        gains = few.gains(curve, curves["reference"])
        ends = [f" ({100 * g.low:+.1f} to {100 * g.high:+.1f})" if draws > 1 else "" for g in gains]
        told = ", ".join(
            f"{100 * gain.value:+.1f}{interval} with {count}"
            for count, gain, interval in zip(shots, gains, ends, strict=True)
        )
        of = "points, and their 95 % intervals over draws" if draws > 1 else "points, of one draw"
        yield f"Beside {judges['reference'].name}, with the same labels, that is {told}: {of}."


def _about(judge: Backbone, strength: float | None) -> Iterator[str]:
    if strength is None:
        val = judge.split != "val" and "val" in judge.data.manifest.splits
        where = "val" if val else "the pictures of train that no draw has"
        yield (
            f"The regularisation was chosen by {where}: those are more labels than the classifiers learn from. "
            "strength=0.01 says it beforehand."
        )
