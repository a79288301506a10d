"""The rounds as tables of Markdown: medians, ranges, and ratios within each round."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.stream.sides import GROUPS, RAW, Side

Measured = dict[str, Any]


def rates(got: Measured, epoch: bool) -> tuple[float, float]:
    """(pictures per CPU-second, per second) of the window, or of the whole epoch."""
    part = got["epoch"] if epoch else got
    return part["images"] / max(part["cpu_s"], 0.01), part["images"] / part["wall_s"]


def markdown(found: dict[str, Any]) -> str:
    """All tables, versions and what is missing."""
    here = found["environment"]
    commit = f"{here['commit'][:8] or 'no commit'}{' + changes' if here['dirty'] else ''}"
    lines = [
        f"{here['started'][:10]}, {commit}, Python {here['python']}, {here['cpu_count']} x "
        f"{here['cpu']}, load {here['load']} before; {found['pictures']} pictures.",
        "",
    ]
    for name, taken in found["groups"].items():
        lines += [f"### {name}", "", *_table(name, taken), ""]
    if found["prepared"]:
        lines += ["### packing", "", "| format | img/CPU-s | img/s |", "|---|---|---|"]
        for stored, got in found["prepared"].items():
            count = 20_000 if stored == "manta-small" else found["pictures"]
            lines.append(
                f"| {stored} | {count / max(got['cpu_s'], 0.01):,.0f} "
                f"| {count / got['wall_s']:,.0f} |"
            )
        lines.append("")
    lines.append(f"Versions: {_versions(found)}.")
    lines += [f"Missing: {title}: {reason}" for title, reason in found["missing"].items()]
    return "\n".join(lines)


def _table(name: str, taken: dict[str, list[Measured]]) -> list[str]:
    against = "÷ local" if name == "remote" else "ours ÷ it"
    head: tuple[str, ...] = (
        "loader",
        "img/CPU-s",
        "img/s",
        against,
        "target",
        "first batch",
        "memory, MB",
    )
    if name == "photographs":
        head = (*head[:3], "÷ full decode", *head[3:])
    limit = taken.get(RAW.title) or []
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    unit: list[Measured] = []
    for side in GROUPS[name]:
        rounds = taken.get(side.title) or []
        if name == "remote":
            unit = unit if side.server else rounds
        elif side == GROUPS[name][0]:
            unit = rounds
        if rounds:
            lines.append(f"| {' | '.join(_cells(name, side, rounds, unit, limit))} |")
    return lines


def _cells(
    name: str, side: Side, rounds: list[Measured], unit: list[Measured], limit: list[Measured]
) -> list[str]:
    if name == "overhead":
        ratios = []
    elif name == "photographs":
        ratios = [got["ours"] / got["rate"] for got in rounds if "ours" in got]
    else:
        pairs = zip(unit, rounds, strict=False)
        ratios = [a["rate"] / b["rate"] for a, b in pairs] if rounds is not unit else []
        ratios = [1 / ratio for ratio in ratios] if name == "remote" else ratios
    middle = statistics.median(got["rate"] for got in rounds)
    shares = [f"{middle / statistics.median(got['rate'] for got in limit):.2f}"] if limit else [""]
    return [
        side.title,
        _span([got["rate"] for got in rounds], 0),
        _span([got["wall_rate"] for got in rounds], 0),
        *(shares if name == "photographs" else []),
        _span(ratios, 2) if ratios else "",
        _target(side, ratios),
        f"{statistics.median(got['first_batch_s'] for got in rounds):.2f} s",
        f"{statistics.median(got['pss_mb'] for got in rounds):,.0f} "
        f"({statistics.median(got['rss_mb'] for got in rounds):,.0f})",
    ]


def _target(side: Side, ratios: list[float]) -> str:
    if side.target is None or not ratios:
        return ""
    median, worst = side.target
    met = statistics.median(ratios) >= median and min(ratios) >= (worst or 0)
    least = f", worst round {worst}" if worst else ""
    return f"{median}{least}: {'met' if met else 'missed'}"


def _span(values: list[float], digits: int) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} [{low:,.{digits}f}–{high:,.{digits}f}]"


def _versions(found: dict[str, Any]) -> str:
    versions: dict[str, str] = {}
    for taken in found["groups"].values():
        for rounds in taken.values():
            for got in rounds:
                versions |= got["versions"]
    return ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
