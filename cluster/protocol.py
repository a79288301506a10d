"""Protocols: what else a checkpoint can be put through than its recipe's evaluators, and where what they find is kept.

A protocol is a file of cluster/protocols. Its door takes an opened checkpoint, a split and where progress is shown; its
keyword-only arguments are what `evaluate --protocol` may say. It returns an `Outcome`.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cluster.run import Run
from datasets import figures, progress, store
from datasets.progress import Shown
from datasets.refusal import Refusal
from trainers import rooms
from trainers.grammar import pairs, refusal

if TYPE_CHECKING:
    from cluster.tasks import Workers
    from trainers.task import Finding

SCORES = "scores.json"


@dataclass(frozen=True)
class Outcome:
    """What a protocol found; `sentences` say what it comes to, the most important first."""

    findings: Sequence[Finding]
    sentences: Sequence[str]


def checked(name: str, changes: Iterable[str]) -> dict[str, Any]:
    """The arguments of a protocol from `key=value`s, as its door has them; a `Refusal` for what it does not know.

    Nothing is imported for it, so a mistake costs no more than a look at the file.
    """
    door = rooms.door("protocols", name, "--protocol")
    given = dict(pairs(changes))
    try:
        return door.check(given)
    except ValidationError as error:
        mistake = refusal(error, door.schema)
        if "should be a list" in mistake.error:
            mistake.remedy = f"write {mistake.path}=[{mistake.value}]"
        raise mistake from None


def run(
    run: Run,
    name: str,
    arguments: Mapping[str, Any],
    *,
    checkpoint: str = "best",
    split: str = "val",
    workers: Workers = None,
    shown: Shown = progress.silent,
) -> str:
    """Put a checkpoint through a protocol; the folder of what was found, in `evaluations/` of the run's (`place`).

    With `workers`, pictures and texts are encoded by Ray tasks. Raises Refusal where the protocol works in one process.
    """
    check_workers(name, workers)
    started = time.perf_counter()
    saved = run.best if checkpoint == "best" else run.last
    context = {"saved": saved, "split": split, "shown": shown, "workers": workers}
    outcome: Outcome = rooms.door("protocols", name).build(context, arguments)
    told = {
        "protocol": name,
        "run": run.name,
        "split": split,
        "checkpoint": saved.url.rsplit("/", 1)[-1],
        "which": checkpoint,
        "arguments": _all_of(name, arguments),
        "said": said(name, arguments),
        "sentences": list(outcome.sentences),
        "seconds": round(time.perf_counter() - started, 3),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    folder = store.join(run.url, "evaluations", place(name, split, arguments, checkpoint))
    _write(folder, name, told, outcome.findings)
    return folder


def check_workers(name: str, workers: Workers) -> None:
    """Refuse workers for a protocol that does not spread its work."""
    spread = [
        each for each, door in rooms.doors("protocols").items() if "workers" in door.positional
    ]
    if workers is not None and name not in spread:
        raise Refusal(
            f"protocol '{name}' works in one process",
            path="--workers",
            value=workers,
            remedy=f"leave it out; {', '.join(spread)} take it",
        )


def said(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are not the defaults."""
    usual = _all_of(name, {})
    return {key: value for key, value in _all_of(name, arguments).items() if value != usual[key]}


def place(name: str, split: str, arguments: Mapping[str, Any], checkpoint: str = "best") -> str:
    """`<name>-<split>`; where more was said also of what it was said, and a hash of it: what it found has a folder of its own."""
    other = {**said(name, arguments), **({} if checkpoint == "best" else {checkpoint: True})}
    if not other:
        return f"{name}-{split}"
    whole = json.dumps(other, sort_keys=True).encode()
    return "-".join([name, split, *sorted(other), hashlib.sha256(whole).hexdigest()[:6]])


def read(folder: str) -> dict[str, Any]:
    """What scores.json of a protocol's folder says."""
    url = store.join(folder, SCORES)
    if not store.exists(url):
        raise Refusal(
            "no protocol was run here (no scores.json)",
            path=folder,
            remedy="`python launch.py evaluate RUN --protocol robustness`",
        )
    found: dict[str, Any] = json.loads(store.read_bytes(url))
    return found


def _all_of(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What was said, and the defaults of the rest."""
    return rooms.door("protocols", name).schema(**arguments).model_dump()


def _write(folder: str, name: str, told: dict[str, Any], findings: Iterable[Finding]) -> None:
    """scores.json last: what has it is whole."""
    from trainers.task import Figure, Scalar, Table

    # What was found with other arguments must not lie beside what is.
    store.remove(folder)
    scores: dict[str, float | None] = {}
    for finding in findings:
        if isinstance(finding, Scalar):
            known = math.isfinite(finding.value)
            scores[f"{name}/{finding.name}"] = finding.value if known else None
        elif isinstance(finding, Table):
            url = store.join(folder, "tables", f"{finding.name}.csv")
            store.write_bytes(url, _csv(finding).encode())
        elif isinstance(finding, Figure):
            url = store.join(folder, "figures", f"{finding.name}.png")
            store.write_bytes(url, figures.png(finding.draw()))
    whole = json.dumps({**told, "scores": scores}, indent=1)
    store.write_bytes(store.join(folder, SCORES), whole.encode())


def _csv(table: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table.columns)
    writer.writerows(zip(*table.columns.values(), strict=True))
    return text.getvalue()
