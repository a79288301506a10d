"""card.html: the whole card on one page that needs no network and no other file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.card import pictures
from datasets.card.findings import FEW
from datasets.card.pictures import Shown
from datasets.packed import folds
from datasets.page import Tile, render
from datasets.pictures.likeness import SIDE
from datasets.shards import Dataset

MOST_GROUPS = 12  # of a kind
MOST_MEMBERS = 6
MOST_LINES = 200  # of names
ORDER = ("train", "val", "test")


@dataclass(frozen=True)
class Cluster:
    """Pictures that are one; `more` are not shown."""

    title: str
    disputed: bool  # of several classes
    members: list[Shown]
    more: int


@dataclass(frozen=True)
class Clusters:
    """What was found of a kind."""

    title: str
    shown: list[Cluster]
    more: int


def html(dataset: Dataset, found: dict[str, Any]) -> str:
    """The page of what `findings.whole` found."""
    said = {
        "card": found,
        "splits": sorted(found["rows"], key=_place),
        "leaking": leaking(found),
        "verdict": verdict(found),
        "warnings": warnings(found),
        "tiles": tiles(found),
        "clusters": [*_clusters(dataset, found)],
        "examples": pictures.examples(dataset, found),
        "facts": facts(found),
        "side": SIDE,
        "most_lines": MOST_LINES,
    }
    return render(Path(__file__).with_name("page.html.j2"), said, {"count": count})


def leaking(found: dict[str, Any]) -> bool:
    """Whether a picture is in two splits, pixel for pixel."""
    return any(leak["exact"] for leak in (found["duplicates"] or {}).get("leaks", ()))


def verdict(found: dict[str, Any]) -> list[str]:
    """Whether splits share pictures: a sentence for each two that do."""
    alike = found["duplicates"]
    if alike is None:
        return ["A table: its rows are not searched for duplicates."]
    if len(found["rows"]) < 2:
        return ["There is one split, so nothing can leak."]
    if not alike["leaks"]:
        near = (
            "" if alike["compared"] else " They are too small, or too plain, to look for near ones."
        )
        return [f"No picture is in two splits.{near}"]
    return [_leak(leak) for leak in sorted(alike["leaks"], key=lambda leak: -leak["exact"])]


def _leak(leak: dict[str, Any]) -> str:
    exact, near, rows = leak["exact"], leak["near"], leak["rows"]
    of = f"of {leak['split']}'s {count(rows)} rows ({(exact or near) / max(1, rows):.1%})"
    if not exact:
        return f"Perhaps a leak: {count(near)} {of} look like pictures of {leak['in']}."
    more = f"; {count(near)} more look like its pictures" if near else ""
    return f"Leak: {count(exact)} {of} are in {leak['in']} too, pixel for pixel{more}."


def warnings(found: dict[str, Any]) -> list[str]:
    """What else a person should look at, the worst first."""
    balance, alike = found["balance"] or {}, found["duplicates"] or {}
    lost = found["undecodable"]
    said = []
    if lost["met"]:
        said.append(f"Pictures that do not decode, and stop a run: {count(len(lost['met']))}.")
    if lost["left_out"]:
        said.append(f"Pictures left out when the set was packed: {count(len(lost['left_out']))}.")
    for split, of_split in found["order"].items():
        if of_split["shuffled"] is False:
            said.append(
                f"{split} is ordered by class: {of_split['neighbours_alike']:.0%} of neighbours are of one class, "
                f"{of_split['by_chance']:.0%} would be by chance. Its first rows are no sample of it."
            )
    disputed = sum(
        not group["one_class"]
        for kind in ("exact", "near")
        if alike
        for group in alike[kind]["listed"]
    )
    if disputed:
        said.append(f"Groups of duplicates with more than one class: {count(disputed)}.")
    if balance.get("empty"):
        said.append(f"Without any example: {_some(balance['empty'])}.")
    if balance.get("few"):
        named = [f"{name} ({num})" for name, num in balance["few"].items()]
        said.append(f"Fewer than {FEW} examples in train: {_some(named)}.")
    for split, names in balance.get("absent", {}).items():
        if names and split != "train":
            said.append(f"Absent from {split}: {_some(names)}.")
    if (balance.get("largest_by_smallest") or 0) >= 10:
        said.append(
            f"The largest class of train has {balance['largest_by_smallest']:g} times the rows of the smallest."
        )
    return said


def tiles(found: dict[str, Any]) -> list[Tile]:
    rows, size, alike = found["rows"], found["sizes"], found["duplicates"]
    shown = [Tile("Rows", count(sum(rows.values())), _parts(rows))]
    if found["classes"]:
        uneven = found["balance"]["largest_by_smallest"] or 1
        said = "nearly equal" if uneven < 1.5 else f"largest {uneven:g} × smallest"
        shown.append(Tile("Classes", count(len(found["classes"])), said))
    if alike is not None:
        exact, near = alike["exact"], alike["near"]
        leaks = sum(leak["exact"] for leak in alike["leaks"])
        likely = sum(leak["near"] for leak in alike["leaks"])
        shown.append(
            Tile("Leaked rows", count(leaks), f"and {count(likely)} nearly", "bad" if leaks else "")
        )
        shown.append(
            Tile("Groups of copies", count(exact["groups"]), f"and {count(near['groups'])} near")
        )
        lost = found["undecodable"]
        met = len(lost["met"])
        shown.append(
            Tile(
                "Do not decode",
                count(met),
                f"and {count(len(lost['left_out']))} left out",
                "bad" if met else "",
            )
        )
    if size is not None:
        middle = f"{size['width']['median']:g} × {size['height']['median']:g}"
        one = (
            size["width"]["min"] == size["width"]["max"]
            and size["height"]["min"] == size["height"]["max"]
        )
        shown.append(Tile("Width × height", middle, "all of them" if one else "median"))
    return [*shown, Tile("On disk", _bytes(sum(found["bytes"].values())), "packed")]


def _parts(rows: dict[str, int]) -> str:
    """Splits with their rows; folds and their altered copies as sums."""
    parts = {name: rows[name] for name in sorted(rows, key=_place) if not folds.is_of_folds(name)}
    if num := folds.count(rows):
        own = sum(rows[name] for name in rows if folds.is_fold(name))
        copies = sum(rows.values()) - sum(parts.values()) - own
        parts |= {f"{num} folds": own} | ({"their altered copies": copies} if copies else {})
    return ", ".join(f"{name} {count(num_rows)}" for name, num_rows in parts.items())


def facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Where it came from, and what a model is told of it."""
    packed = found["packed"]
    arguments = ", ".join(f"{k}={v}" for k, v in (packed.get("args") or {}).items())
    shuffled = (packed.get("row_order") or {}).get("shuffled_by_seed")
    listed = [
        ("Source", f"{packed.get('source', '')} {arguments}".strip()),
        ("Official splits", ", ".join(packed.get("official_splits") or [])),
        ("Cut", ", ".join(f"{k} {v:g}" for k, v in (packed.get("fractions") or {}).items())),
        ("Row order", "" if shuffled is None else f"shuffled by seed {shuffled}"),
        ("Mean", ", ".join(f"{value:.4f}" for value in found["mean"])),
        ("Standard deviation", ", ".join(f"{value:.4f}" for value in found["std"])),
        ("Columns", ", ".join(f"{name} {kind}" for name, kind in found["columns"].items())),
        ("Bytes", ", ".join(f"{k} {_bytes(v)}" for k, v in found["bytes"].items())),
        ("Digest", found["digest"]),
    ]
    return [(label, value) for label, value in listed if value]


def _clusters(dataset: Dataset, found: dict[str, Any]) -> list[Clusters]:
    alike = found["duplicates"]
    shown = []
    for across in (True, False):
        for kind, word in (("exact", "The same picture"), ("near", "Nearly the same picture")):
            own = [
                g for g in (alike or {}).get(kind, {"listed": []})["listed"] if g["leaks"] == across
            ]
            if own:
                alone = all(len(g["splits"]) == 1 for g in own)
                within = "within a split" if alone else "in what is never judged by each other"
                where = "across splits" if across else within
                first = [_cluster(dataset, group) for group in own[:MOST_GROUPS]]
                shown.append(Clusters(f"{word} {where}", first, len(own) - len(first)))
    return shown


def _cluster(dataset: Dataset, group: dict[str, Any]) -> Cluster:
    members = sorted(group["members"], key=lambda m: _place(m["split"]))
    # Of a large group one of each split comes first, so that a leak is seen.
    firsts = {member["split"]: member for member in reversed(members)}.values()
    some = [*reversed(list(firsts)), *(m for m in members if m not in firsts)][:MOST_MEMBERS]
    shown = [
        pictures.shown(dataset, m["split"], m["row"], _caption(m, not group["one_class"]))
        for m in sorted(some, key=lambda m: _place(m["split"]))
    ]
    return Cluster(
        " and ".join(group["splits"]), not group["one_class"], shown, len(members) - len(shown)
    )


def _caption(member: dict[str, Any], disputed: bool) -> str:
    named = member.get("path") or f"id {member['id']}"
    return named + (f" · {member['class']}" if disputed else "")


def count(value: float) -> str:
    """1257 -> '1,257'."""
    return f"{round(value):,}"


def _some(names: list[str], most: int = 12) -> str:
    more = f" and {count(len(names) - most)} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _bytes(num: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if num < 1000:
            return f"{num:.3g} {unit}"
        num /= 1000
    return f"{num:.3g} TB"


def _place(split: str) -> tuple[int, str]:
    return (ORDER.index(split) if split in ORDER else len(ORDER), split)
