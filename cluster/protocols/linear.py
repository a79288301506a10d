"""Linear probe: logistic regression on the frozen features of a checkpoint, its strength of regularisation chosen apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import PositiveFloat

from cluster.backbone import Backbone
from cluster.protocol import Outcome
from cluster.saved import Saved
from cluster.tasks import Workers
from datasets.progress import Shown
from trainers.probing import linear
from trainers.probing.known import Share, difference, share
from trainers.probing.linear import Probe
from trainers.task import Finding, Scalar, Table


def build(
    saved: Saved,
    split: str,
    shown: Shown,
    workers: Workers,
    *,
    data: str | None = None,
    strength: PositiveFloat | None = None,
    reference: str | None = None,
) -> Outcome:
    """`strength` is chosen unless told; `reference` is another run, or `random`: the same network before it learnt."""
    judges = {"run": Backbone.of(saved, split, data, workers)}
    if reference is not None:
        judges["reference"] = judges["run"].beside(reference)
    findings: list[Finding] = []
    sentences: list[str] = []
    right = {}
    rows = sum(each.rows for each in judges["run"].data.manifest.splits.values())
    with shown(f"linear probe of {saved.run.name}") as progress:
        for place, (name, judge) in enumerate(judges.items()):
            probe, table, by = _fitted(judge, strength)
            known = judge.known(split)
            right[name] = probe.right(known)
            findings += _findings(name, probe, share(right[name]), table)
            sentences += _sentences(judge, probe, share(right[name]), len(known), by)
            if name == "run":
                findings.append(_classes(judge, right[name]))
            progress((place + 1) * rows, len(judges) * rows)
    if reference is not None:
        apart = difference(right["run"], right["reference"])
        findings += _difference(apart)
        sentences.insert(1, beside(apart, judges["reference"].name))
    return Outcome(findings, sentences)


def _fitted(judge: Backbone, strength: float | None) -> tuple[Probe, Table | None, str]:
    """(the classifier of all of train, what was tried, by which split it was chosen)."""
    table, by = None, ""
    if strength is None:
        learn, choose, by = judge.chosen_by()
        found = linear.tried(learn, choose)
        strength = linear.best(found)
        columns = {"strength": [each for each, _ in found], "accuracy": [a for _, a in found]}
        table = Table("strengths", columns)
    return linear.fit(judge.known("train"), strength), table, by


def _findings(name: str, probe: Probe, found: Share, table: Table | None) -> Iterator[Finding]:
    prefix = "" if name == "run" else f"{name}_"
    yield Scalar(f"{prefix}accuracy", found.value)
    yield Scalar(f"{prefix}accuracy_low", found.low)
    yield Scalar(f"{prefix}accuracy_high", found.high)
    yield Scalar(f"{prefix}strength", probe.strength)
    if table:
        yield Table(f"{prefix}strengths", table.columns)


def _sentences(judge: Backbone, probe: Probe, found: Share, rows: int, by: str) -> Iterator[str]:
    chosen = f"chosen by {by}" if by else "as it was said"
    yield (
        f"A linear classifier on the frozen features of {judge.name} has {found} of {rows:,} pictures right; its "
        f"regularisation, {probe.strength:g}, was {chosen}."
    )
    ends = (min(linear.STRENGTHS), max(linear.STRENGTHS))
    if by and probe.strength in ends:
        yield f"A regularisation of {probe.strength:g} is the end of what was tried: a further one may be better."
    if not probe.converged:
        yield f"L-BFGS ran out of {linear.MOST_STEPS:,} steps: a stronger regularisation needs fewer."


def _classes(judge: Backbone, right: np.ndarray) -> Table:
    labels = judge.known(judge.split).labels
    there = np.unique(labels)
    return Table(
        "classes",
        {
            "class": [judge.classes[label] for label in there],
            "rows": [int((labels == label).sum()) for label in there],
            "recall": [float(right[labels == label].mean()) for label in there],
        },
    )


def _difference(apart: Share) -> Iterator[Finding]:
    yield Scalar("accuracy_gain", apart.value)
    yield Scalar("accuracy_gain_low", apart.low)
    yield Scalar("accuracy_gain_high", apart.high)


def beside(apart: Share, name: str) -> str:
    """A difference of accuracies on the same rows, in words."""
    ends = f"95 % interval over rows {100 * apart.low:+.1f} to {100 * apart.high:+.1f}"
    if apart.low <= 0 <= apart.high:
        return f"That cannot be told from {name}: {100 * apart.value:+.1f} points ({ends})."
    return f"That is {100 * apart.value:+.1f} points beside {name} ({ends})."
