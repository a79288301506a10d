"""All that was found about a classifier's robustness, as scores and tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from trainers.robustness import errors
from trainers.robustness.checks import Check
from trainers.robustness.errors import Estimate, Floats
from trainers.robustness.shift import Occlusion, Shift
from trainers.robustness.siege import LIMIT, Siege
from trainers.task import Finding, Scalar, Table


@dataclass(frozen=True)
class Results:
    """What the split was put through, and the checks of the attacks' gradients."""

    shift: Shift
    occlusion: Occlusion
    siege: Siege
    checks: list[Check] = field(default_factory=list)

    @property
    def models(self) -> list[str]:
        """`run`, and `reference` where there is one."""
        return list(self.shift.clean)

    @cached_property
    def mean_error(self) -> dict[str, Estimate]:
        return {name: errors.mean_error(self.shift.errors(name)) for name in self.models}

    @cached_property
    def difference(self) -> Estimate:
        return errors.difference(self.shift.errors("run"), self.shift.errors("reference"))

    @cached_property
    def mce(self) -> tuple[Estimate, Floats]:
        return errors.mce(self.shift.errors("run"), self.shift.errors("reference"))

    @cached_property
    def relative_mce(self) -> tuple[Estimate, Floats]:
        return errors.relative_mce(self.shift.errors("run"), self.shift.errors("reference"))

    @property
    def compared(self) -> bool:
        return "reference" in self.models and bool(self.shift.corruptions)


def findings(found: Results) -> Iterator[Finding]:
    """Scores and tables."""
    yield from _of_models(found)
    if found.shift.corruptions:
        yield from _of_corruptions(found)
    if found.occlusion.shares:
        yield _of_occlusion(found)
    if found.siege.methods:
        yield from _of_attacks(found)


def _of_models(found: Results) -> Iterator[Finding]:
    clean = found.shift.clean["run"]
    yield Scalar("accuracy", clean.accuracy)
    yield Scalar("calibration_error", clean.calibration_error)
    if found.shift.corruptions:
        yield from _estimate("mean_corruption_error", found.mean_error["run"])
        shifted = found.shift.calibration_error("run", *found.shift.severities)
        yield Scalar("corrupted_calibration_error", shifted)
    if "reference" in found.models:
        yield Scalar("reference_accuracy", found.shift.clean["reference"].accuracy)
    if found.compared:
        yield Scalar("reference_mean_corruption_error", found.mean_error["reference"].value)
        yield from _estimate("mean_corruption_error_difference", found.difference)
        yield from _estimate("mce", found.mce[0])
        yield from _estimate("relative_mce", found.relative_mce[0])


def _estimate(name: str, estimate: Estimate) -> Iterator[Scalar]:
    yield Scalar(name, estimate.value)
    yield Scalar(f"{name}_low", estimate.low)
    yield Scalar(f"{name}_high", estimate.high)


def _of_corruptions(found: Results) -> Iterator[Table]:
    shift = found.shift
    rows: list[dict[str, object]] = []
    for corruption in shift.corruptions:
        for severity in shift.severities:
            tally = shift.tallies["run"][corruption, severity]
            row = {
                "corruption": corruption,
                "severity": severity,
                "accuracy": tally.accuracy,
                "confidence": tally.mean_confidence,
                "calibration_error": tally.calibration_error,
                "rows": tally.rows,
            }
            if "reference" in found.models:
                other = shift.tallies["reference"][corruption, severity]
                row["reference_accuracy"] = other.accuracy
            rows.append(row)
    yield _table("corruptions", rows)
    means: list[dict[str, object]] = []
    for place, corruption in enumerate(shift.corruptions):
        mean: dict[str, object] = {
            "corruption": corruption,
            "accuracy": shift.of_corruption("run", corruption),
        }
        if found.compared:
            mean["reference_accuracy"] = shift.of_corruption("reference", corruption)
            mean["ce"] = _known(found.mce[1][place])
            mean["relative_ce"] = _known(found.relative_mce[1][place])
        means.append(mean)
    yield _table("corruption_means", means)
    shifted: list[dict[str, object]] = []
    for model in found.models:
        for severity in (0, *shift.severities):
            tally = shift.of_severity(model, severity)
            shifted.append(
                {
                    "model": model,
                    "severity": severity,
                    "accuracy": tally.accuracy,
                    "confidence": tally.mean_confidence,
                    "calibration_error": shift.calibration_error(model, severity),
                    "rows": tally.rows,
                }
            )
    yield _table("calibration", shifted)


def _of_occlusion(found: Results) -> Table:
    rows: list[dict[str, object]] = []
    for share in found.occlusion.shares:
        row: dict[str, object] = {
            "share": share,
            "hidden": found.occlusion.hidden[share],
            "accuracy": found.occlusion.tallies["run"][share].accuracy,
            "rows": found.occlusion.tallies["run"][share].rows,
        }
        if "reference" in found.models:
            row["reference_accuracy"] = found.occlusion.tallies["reference"][share].accuracy
        rows.append(row)
    return _table("occlusion", rows)


def _of_attacks(found: Results) -> Iterator[Finding]:
    siege = found.siege
    yield Scalar("attacked_rows", siege.rows)
    for method, epsilon in sorted(siege.stood, key=lambda each: (each[1], each[0])):
        if method in siege.methods and epsilon in siege.epsilons:
            yield Scalar(f"{method}_{epsilon:g}_accuracy", siege.accuracy(method, epsilon))
    rows: list[dict[str, object]] = [
        {
            "attack": method,
            "epsilon": epsilon,
            "accuracy": siege.accuracy(method, epsilon),
            "rows": siege.rows,
        }
        for method, epsilon in siege.stood
        if epsilon != LIMIT or LIMIT in siege.epsilons
    ]
    yield _table("attacks", rows)
    if siege.losses:
        means = (np.array(siege.losses) / siege.rows).tolist()
        yield Table("attack_loss", {"step": list(range(len(means))), "loss": means})
    if found.checks:
        yield Scalar("gradients_sound", float(all(each.sound for each in found.checks)))
        checked: list[dict[str, object]] = [
            {"check": each.name, "sound": "yes" if each.sound else "no", "seen": each.seen}
            for each in found.checks
        ]
        yield _table("gradients", checked)


def _known(value: float) -> object:
    return "" if np.isnan(value) else float(value)


def _table(name: str, rows: list[dict[str, object]]) -> Table:
    return Table(name, {key: [row[key] for row in rows] for key in rows[0]})
