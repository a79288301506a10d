"""What the recipes must reach on real data, over three seeds: `python -m benchmarks.experiments [NAME ...] [--out RUNS]`.

Each is a study of studies/ at its small scale, or what another benchmark measures. Runs that are in RUNS already are taken as
they are, so the command goes on where it was left. Exits with 1 where something does not hold.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as Drawn

from benchmarks.retrieval import precisions
from cluster import protocol
from cluster.run import Run, run
from search.studies import comparing, drive, table
from search.studies.rows import Row, Table
from search.studies.study import Study
from trainers.recipe import Recipe
from trainers.rooms import ROOT

SEEDS = 3
NEIGHBOURS = ("efficientnet_lite0", "fashion_mnist", ["model.pretrained=true", "data.size=224"])


@dataclass(frozen=True)
class Bar:
    """What must hold, what was found, and whether it does."""

    says: str
    found: str
    holds: bool


def learning_rate(out: str) -> Iterator[Bar]:
    found = _study("digits_lr", out)
    yield _gap(found, "lr 0.1", "lr 0.001", least=0.10)
    lost = _row(found, "lr 50").told()
    yield Bar(
        "lr 50 is told as lost, not averaged",
        ", ".join(lost) or "nothing is told",
        _row(found, "lr 50").mean is None,
    )


def momentum(out: str) -> Iterator[Bar]:
    yield _gap(_study("digits_momentum", out), "momentum .9", "plain", least=0.10)


def losses(out: str) -> Iterator[Bar]:
    """The mean at a rate that undoes its scale is the sum: the same weights, the same predictions."""
    found = _study("digits_squared_error", out)
    apart, unequal = 0.0, 0
    for one, other in zip(_runs(found, "mean, lr x 256"), _runs(found, "sum"), strict=True):
        ours, theirs = one.last.model().state_dict(), other.last.model().state_dict()
        apart = max(apart, *(float((ours[name] - w).abs().max()) for name, w in theirs.items()))
        unequal += int((_predicted(one) != _predicted(other)).sum())
    yield Bar(
        "squared error, mean at lr x 256 and sum: weights within 1e-5, the same predictions",
        f"weights at most {apart:.1e} apart, {unequal} predictions of the test split differ",
        apart <= 1e-5 and not unequal,
    )


def noise(out: str) -> Iterator[Bar]:
    found = _study("digits_cleaning", out)
    plain, oracle = _mean(found, "plain"), _mean(found, "oracle")
    for arm in ("cleaned out of fold", "cleaned by loss"):
        cleaned = _mean(found, arm)
        share = (cleaned - plain) / (oracle - plain)
        yield Bar(
            f"{arm}: at least 60 % of what one wrong label in ten costs is back",
            f"{share:.0%} (plain {plain:.1%}, {cleaned:.1%}, no wrong labels {oracle:.1%})",
            share >= 0.6,
        )


def retrieval(out: str) -> Iterator[Bar]:
    """The same pictures as in docs/retrieval.md; one subset, so this one has no seeds."""
    found = precisions(*NEIGHBOURS, on="test", subset=600)
    (value, half, _), (spoilt, _, _) = found["eval"], found["train"]
    yield Bar(
        "five nearest of 600 pictures by ImageNet features: precision of at least .68",
        f"{value:.3f} ± {half:.3f} (in train mode it would be {spoilt:.3f})",
        value >= 0.68,
    )


def pretrained(out: str) -> Iterator[Bar]:
    yield _gap(_study("fashion_pretrained", out), "ImageNet", "random", least=0.05)


def clip(out: str) -> Iterator[Bar]:
    """The tiny CLIP on digits as it knows them; what few pictures add where they are shown at half the contrast."""
    found = _study("coop", out)
    begun = [Run.open(str(run.recipe.phases[0].init)) for run in _runs(found, "zero-shot")]
    known = [run.scores["test/accuracy"] for run in begun]
    yield Bar(
        "a tiny CLIP's zero-shot accuracy on held-out digits, at least .85 in the mean",
        f"{np.mean(known):.1%} ({', '.join(f'{each:.1%}' for each in known)})",
        float(np.mean(known)) >= 0.85,
    )
    yield _gap(found, "CoOp 16", "zero-shot", least=0.03)
    shots = [_mean(found, f"CoOp {count}") for count in (1, 2, 4, 8, 16)]
    yield Bar(
        "CoOp rises with every doubling of the shots, 1 to 16, in the mean",
        ", ".join(f"{each:.1%}" for each in shots),
        all(more > fewer for fewer, more in itertools.pairwise(shots)),
    )
    yield _gap(found, "Tip-Adapter 1", "zero-shot", least=0.0)


def simclr(out: str) -> Iterator[Bar]:
    """Linear classifiers on the features: over random features, over scratch with one label a class, by how many pictures."""
    gains = []
    for seed in range(SEEDS):
        learnt = _trained("simclr_digits", out, f"seed={seed}")
        folder = protocol.run(learnt, "linear", {"reference": "random"}, split="test")
        gains.append(protocol.read(folder)["scores"]["linear/accuracy_gain"])
    yield Bar(
        "SimCLR's features beat random ones by at least 1.5 points in the mean, all labels",
        f"{100 * np.mean(gains):+.1f} points ({', '.join(f'{100 * each:+.1f}' for each in gains)})",
        float(np.mean(gains)) >= 0.015,
    )
    few = _study("simclr_shots", out)
    yield _gap(few, "SimCLR linear, 1 label", "scratch, 1 label", least=0.08)
    yield _gap(_study("simclr_pretraining", out), "1347", "32", least=0.02)


def gan(out: str) -> Iterator[Bar]:
    """KID in the features of a classifier of ours, on validation pictures after the first epoch and at the end."""
    judge = _trained("digits", out)
    for seed in range(SEEDS):
        drawn = _trained("dcgan_digits", out, f"evals.fid_kid.features={judge.url}", f"seed={seed}")
        kid = drawn.metrics()["val/kid"].dropna()
        first, last = float(kid.iloc[0]), float(kid.iloc[-1])
        yield Bar(
            f"a GAN's KID falls by a factor of 5 from its first epoch, seed {seed}",
            f"{first:.3f} to {last:.4f}",
            last <= first / 5,
        )


def fit(out: str) -> Iterator[Bar]:
    errors = [_trained("curve", out, f"seed={seed}").scores["test/rmse"] for seed in range(SEEDS)]
    yield Bar(
        "x^2 + 2 cos x + 2 / e^x fitted at lr .01 to a test RMSE below .05, each seed",
        ", ".join(f"{error:.4f}" for error in errors),
        max(errors) < 0.05,
    )


EXPERIMENTS: dict[str, Callable[[str], Iterator[Bar]]] = {
    each.__name__: each
    for each in (
        *(learning_rate, momentum, losses, noise, retrieval, pretrained),
        *(simclr, clip, gan, fit),
    )
}


def _study(name: str, out: str) -> Table:
    """A shipped study at its small scale, run where it is missing."""
    study = Study.load(f"{ROOT}/studies/{name}.yaml", [f"seeds={SEEDS}"])
    return table.read(drive.run(study, out=out, quiet=False))


def _trained(name: str, out: str, *changes: str) -> Run:
    """A shipped recipe's run, made where it is missing."""
    return run(Recipe.load(f"{ROOT}/recipes/{name}.yaml", changes), out=out, quiet=True)


def _row(found: Table, arm: str) -> Row:
    return next(row for row in found.rows if row.arm == arm)


def _mean(found: Table, arm: str) -> float:
    mean = _row(found, arm).mean
    return mean.mean if mean else math.nan


def _runs(found: Table, arm: str) -> list[Run]:
    return [Run.open(found.folder.run_url(each.entry)) for each in _row(found, arm).results]


def _predicted(run: Run) -> NDArray[np.int64]:
    """What the run says of its test split, in order of the samples."""
    import pandas as pd

    frame = pd.read_parquet(f"{run.url}/predictions.parquet")
    ordered = frame[frame["split"] == "test"].sort_values("id")
    said: NDArray[np.int64] = ordered["prediction"].to_numpy()
    return said


def _gap(found: Table, arm: str, other: str, *, least: float) -> Bar:
    gap = comparing.difference(found, arm, other).gap
    span = "" if gap.low is None else f" ({100 * gap.low:.1f} to {100 * (gap.high or 0):.1f})"
    return Bar(
        f"{arm} beats {other} by at least {100 * least:.0f} points",
        f"{100 * gap.mean:+.1f} points{span}, {gap.n} seeds: "
        f"{_mean(found, arm):.1%} and {_mean(found, other):.1%}",
        gap.mean >= least,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(EXPERIMENTS)} [all]")
    parser.add_argument("--out", default="runs", help="where runs are, and go")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(EXPERIMENTS)):
        parser.error(f"no experiment is called '{unknown[0]}': {', '.join(EXPERIMENTS)}")
    drawn = Drawn("experiment", "must hold", "found", "holds")
    failed = 0
    for name in dict.fromkeys(given.names or EXPERIMENTS):
        for bar in EXPERIMENTS[name](given.out):
            failed += not bar.holds
            drawn.add_row(name.replace("_", " "), bar.says, bar.found, "yes" if bar.holds else "NO")
    Console(width=None if sys.stdout.isatty() else 200).print(drawn)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
