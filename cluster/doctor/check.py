"""What the doctor says: one thing looked at, and how the findings of many nodes become few lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

from datasets.refusal import Refusal

State = Literal["ok", "warn", "BAD"]
NAMED = 6  # nodes by name in a line


class Finding(NamedTuple):
    """What a look came to; `amount` is the part of it that differs a little from node to node."""

    found: str
    amount: float | None = None
    unit: str = ""
    state: State = "ok"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at, on the nodes named, or (none) where the doctor runs.

    `least` and `most` are the amounts found on them, in `unit`s.
    """

    name: str
    state: State
    found: str
    nodes: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    unit: str = ""

    @property
    def ok(self) -> bool:
        return self.state != "BAD"

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, **asdict(self)}

    def __str__(self) -> str:
        """What was found, without where."""
        if self.least is None or self.most is None:
            return self.found
        least, most = f"{self.least:,.0f}", f"{self.most:,.0f}"
        amount = least if least == most else f"{least} to {most}"
        return f"{self.found}, {amount} {self.unit}" if self.found else f"{amount} {self.unit}"


def checked(name: str, look: Callable[[], Finding | str]) -> Check:
    """What a look finds; a Refusal is bad."""
    try:
        seen = look()
    except Refusal as refusal:
        return Check(name, "BAD", str(refusal))
    if isinstance(seen, str):
        return Check(name, "ok", seen)
    return Check(name, seen.state, seen.found, (), seen.amount, seen.amount, seen.unit)


def gathered(by_node: Mapping[str, Sequence[Check]]) -> list[Check]:
    """The checks of all nodes, those that came to the same on several as one, in the order of their names."""
    groups: dict[tuple[str, State, str, str], list[tuple[str, Check]]] = {}
    names: dict[str, None] = {}
    for node, checks in by_node.items():
        for check in checks:
            names[check.name] = None
            key = (check.name, check.state, check.found, check.unit)
            groups.setdefault(key, []).append((node, check))
    joined = [_joined(group) for group in groups.values()]
    return [check for name in names for check in joined if check.name == name]


def _joined(group: Sequence[tuple[str, Check]]) -> Check:
    amounts = [check.least for _, check in group if check.least is not None]
    return replace(
        group[0][1],
        nodes=tuple(node for node, _ in group),
        least=min(amounts, default=None),
        most=max(amounts, default=None),
    )


def lines(checks: Sequence[Check]) -> str:
    """A line a check; nodes are named where not all of them came to the same."""
    num_nodes = len({node for check in checks for node in check.nodes})
    width = max((len(check.name) for check in checks), default=0)
    return "\n".join(
        f"{check.state:4} {check.name:{width}}  {_where(check.nodes, num_nodes)}{check}"
        for check in checks
    )


def _where(nodes: Sequence[str], num_nodes: int) -> str:
    if not nodes:
        return ""
    if len(nodes) == num_nodes:
        return f"{num_nodes} nodes: " if num_nodes > 1 else f"{nodes[0]}: "
    return f"{listed(nodes)}: "


def listed(nodes: Sequence[str]) -> str:
    """The first of the nodes by name, and how many more there are."""
    more = f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else ""
    return ", ".join(nodes[:NAMED]) + more


def refuse(checks: Iterable[Check], remedy: str) -> None:
    """Raises Refusal with the first check that is bad, and how many more there are."""
    bad = [check for check in checks if not check.ok]
    if not bad:
        return
    first = bad[0]
    found, _, own = str(first).partition(" -- ")
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    where = f"{listed(first.nodes)}: " if first.nodes else ""
    raise Refusal(
        f"{where}{found}{more}",
        path=first.name,
        value=list(first.nodes),
        remedy=f"{own}; {remedy}" if own else remedy,
    )
