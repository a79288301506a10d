"""What `launch.py results FOLDER` gives of a search: a table, files of it, the winner as a recipe."""

from __future__ import annotations

import io
import json
import textwrap
from typing import TYPE_CHECKING, Any

from datasets import store
from datasets.refusal import Refusal
from search.terminal import table
from search.trials import doubt, words
from search.trials.found import Found
from search.tune.records import CHANGES
from search.tune.winner import recipe_of

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType
    from rich.table import Table

KINDS = ("csv", "parquet", "json")


def listed(found: Found, *, width: int) -> tuple[dict[str, Any], list[RenderableType]]:
    """The trials, the best first, and what may be said of them: as a plain tree, and drawn."""
    frame, said = _sorted(found), words.sentences(found, doubt.of(found))
    tree = {
        "search": found.folder.url,
        "status": found.state.get("status"),
        "said": said,
        "best": found.state.get("best"),
        "scores": found.state.get("scores", {}),
        "trials": _records(frame),
    }
    return tree, [_drawn(found, frame, width), "", *said, *words.failures(found)]


def save(found: Found, path: str) -> str:
    """Write the table of trials to a .csv, .parquet or .json file, local or s3://; where it is."""
    kind = path.rpartition(".")[2].lower()
    if kind not in KINDS:
        raise Refusal(
            f"a table is written as {', '.join(f'.{each}' for each in KINDS)}",
            path="--save",
            value=path,
            remedy="name a file such as trials.csv",
        )
    frame = _sorted(found)
    if kind == "csv":
        data = _storable(frame).to_csv().encode()
    elif kind == "json":
        data = json.dumps(_records(frame), indent=1).encode()
    else:
        buffer = io.BytesIO()
        _storable(frame).to_parquet(buffer)
        data = buffer.getvalue()
    store.write_bytes(path, data)
    return path


def write_winner(found: Found, path: str) -> str:
    """Write the best trial's recipe, which runs by itself; where it is. Raises Refusal where none has ended."""
    complete = found.complete
    if not len(complete):
        over = found.state.get("status") == "finished"
        raise Refusal(
            "no trial ran to its end" if over else "no trial has run to its end yet",
            path=found.folder.url,
            value=found.folder.name,
            remedy="`results` says why they failed" if over else "look again when one has",
        )
    number = int(complete.index[0])
    told = next(each for each in found.trials if each.number == number)
    recipe = recipe_of(found.recipe, json.loads(told.user_attrs[CHANGES]))
    head = [
        f"The winner of {found.folder.name}: trial {number:04d}, chosen on the validation split."
    ]
    head += words.sentences(found, doubt.of(found))[1:]
    lines = textwrap.wrap(" ".join(head), 118)
    text = "".join(f"# {line}\n" for line in lines) + recipe.yaml()
    store.write_bytes(path, text.encode())
    return path


def _sorted(found: Found) -> pd.DataFrame:
    """The finished trials, the best first, then all others by their number."""
    done, frame = found.complete.index, found.table
    return frame.loc[[*done, *(number for number in frame.index if number not in done)]]


def _drawn(found: Found, frame: pd.DataFrame, width: int) -> Table:
    """The table as a terminal shows it; settings go last to first where the line is too short."""
    shown = frame.drop(columns=["why", "same_as"])
    for dimension in found.space.dimensions:
        if shown[dimension.path].dtype == object:
            shown[dimension.path] = shown[dimension.path].map(words.setting)
    shown = shown.rename(columns=found.labels)
    shown.insert(0, "trial", [f"{number:04d}" for number in shown.index])
    keep = ["trial", "state", *(goal.metric for goal in found.goals)]
    spare = ["evaluations", "seconds", "reached", *reversed(found.labels.values())]
    return table(shown.reset_index(drop=True), width=width, keep=keep, spare=spare)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A plain dict a trial, to the last digit; None where there is no value."""
    plain = frame.reset_index().astype(object)
    rows = plain.where(plain.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _storable(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of one type each: what was chosen among values of several kinds, or whole parts, becomes text."""
    stored = frame.copy()
    for name in frame.columns:
        there = frame[name].dropna()
        kinds = {*there.map(type)}
        if len(kinds) > 1 or kinds & {dict, list}:
            text = there.map(lambda value: value if isinstance(value, str) else json.dumps(value))
            stored[name] = text.reindex(frame.index)
    return stored
