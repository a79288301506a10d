"""summary.json: where a run stands, in one small file that engine and place both write to."""

from __future__ import annotations

import datetime
import json
from typing import Any

from datasets import store
from datasets.refusal import Refusal

MOST_EVENTS = 1_000


def read(folder: str) -> dict[str, Any]:
    """What is known so far; empty before the run has begun."""
    return read_json(folder, "summary.json")


def amend(folder: str, **changes: Any) -> None:
    """Set some of its keys and leave the others; None removes one."""
    tree = {**read(folder), **changes}
    tree = {key: value for key, value in tree.items() if value is not None}
    store.write_bytes(store.join(folder, "summary.json"), json.dumps(tree, indent=1).encode())


def happened(folder: str, event: str, *, step: int, **facts: Any) -> None:
    """Add a line to what the report's timeline tells."""
    moment = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    told = {"time": moment, "event": event, "step": step, **facts}
    amend(folder, events=[*read(folder).get("events", []), told][-MOST_EVENTS:])


def count_opening(folder: str, split: str) -> None:
    """A split was looked at: said in the report, so that nobody chooses by the test in silence."""
    opened = read(folder).get("opened", {})
    amend(folder, opened={**opened, split: opened.get(split, 0) + 1})


def read_json(folder: str, name: str) -> dict[str, Any]:
    """A JSON file of a run folder, {} where it is not written yet."""
    url = store.join(folder, name)
    if not store.exists(url):
        return {}
    try:
        tree = json.loads(store.read_bytes(url))
    except ValueError as error:
        tree = str(error)
    if not isinstance(tree, dict):
        raise Refusal(
            f"is not a JSON object: {tree if isinstance(tree, str) else type(tree).__name__}",
            path=url,
            remedy="restore the file, or remove it",
        )
    return tree
