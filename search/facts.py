"""Label and value pairs of a report: what the data are, what the model is, where it ran."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from search import evidence, numbers, sheets

Pairs = list[tuple[str, str]]


def data(card: Mapping[str, Any]) -> Pairs:
    """The data card but for its counts."""
    rows: Any = card.get("rows")
    counted = ""
    if evidence.fits(rows, evidence.COUNTS):
        counted = ", ".join(f"{split} {numbers.count(n)}" for split, n in sheets.by_split(rows))
    elif evidence.fits(rows, evidence.NUMBER):
        counted = numbers.count(rows)
    classes = card.get("classes")
    listed = [
        ("Name", str(card.get("name") or "")),
        ("Kind", str(card.get("kind") or "")),
        ("Shape", sheets.size(card.get("shape"))),
        ("Rows", counted),
        ("Classes", numbers.count(len(classes)) if isinstance(classes, list) and classes else ""),
        ("Mean", _values(card.get("mean"))),
        ("Standard deviation", _values(card.get("std"))),
        ("Packed", _said(card.get("packed"))),
        ("Digest", str(card.get("digest") or "")),
    ]
    return [(label, value) for label, value in listed if value]


def fetched(summary: Mapping[str, Any]) -> Pairs:
    """What came from afar, over all ranks and restarts; nothing of a local set."""
    if "fetched_bytes" not in summary:
        return []
    requests, retries, hits = (
        numbers.count(summary.get(name, 0))
        for name in ("fetch_requests", "fetch_retries", "cache_hits")
    )
    words = (
        f"{numbers.short(summary['fetched_bytes'])} bytes in {requests} requests, {retries} retried"
    )
    return [("Fetched", f"{words}; {hits} record batches were in the cache")]


def model(model: Mapping[str, Any]) -> Pairs:
    """How large the model is and what it takes."""
    listed = []
    for label, key in (("Parameters", "parameters"), ("Trainable", "trainable")):
        if isinstance(model.get(key), (int, float)):
            listed.append((label, numbers.count(model[key])))
    if isinstance(adds := model.get("multiply_adds"), (int, float)):
        listed.append(("Multiply-adds a sample", numbers.short(adds)))
    given = model.get("input")
    if isinstance(given, Mapping) and given:
        side = given.get("size")
        side = side if isinstance(side, list) else [side, side] if side else []
        listed.append(("Input", sheets.size([given.get("channels"), *side])))
    return listed


def environment(env: Mapping[str, Any]) -> Pairs:
    """Commit, command, machine and versions."""
    commit = str(env.get("commit") or "")[:12]
    dirty = " with uncommitted changes" if commit and env.get("dirty") else ""
    listed = [
        ("Commit", commit + dirty),
        ("Command", str(env.get("command") or "")),
        ("Started", date(env.get("started"))),
        ("Platform", str(env.get("platform") or "")),
        ("Host", str(env.get("hostname") or "")),
        ("CPUs", str(env.get("cpu_count") or "")),
    ]
    said = {"commit", "dirty", "command", "started", "platform", "hostname", "cpu_count"}
    versions = {key: value for key, value in env.items() if key not in said}
    listed += [(str(name), str(value)) for name, value in versions.items()]
    return [(label, value) for label, value in listed if value and value != "None"]


def date(text: Any) -> str:
    """An ISO date in words, nothing where it is none."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _said(tree: Any) -> str:
    """A small tree in words: 'source digits, seed 0'."""
    if isinstance(tree, Mapping):
        pairs = ((str(key).replace("_", " "), _said(value)) for key, value in tree.items())
        return ", ".join(f"{key} {value}" for key, value in pairs if value)
    if isinstance(tree, list):
        return " and ".join(_said(value) for value in tree)
    return "" if tree is None else str(tree)


def _values(values: Any) -> str:
    values = values if isinstance(values, list) else [values]
    return ", ".join(numbers.number(float(v)) for v in values if isinstance(v, (int, float)))
