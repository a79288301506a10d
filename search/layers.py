"""What `launch.py describe` prints: a network's layers with shapes and counts, blocks that repeat folded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

Row = Mapping[str, Any]
_NUMBERED = re.compile(r"^(.*?)(\d+)$")


def layers(described: Mapping[str, Any], *, fold: bool = True) -> RenderableType:
    """A table of the layers, the totals beneath; with `fold`, of equal blocks in a row the first one, and no identities."""
    from rich.console import Group
    from rich.table import Table

    drawn = Table(box=None, header_style="bold", pad_edge=False)
    drawn.add_column("layer", overflow="fold")
    for name in ("kind", "output"):
        drawn.add_column(name, no_wrap=True)
    for name in ("parameters", "trainable"):
        drawn.add_column(name, no_wrap=True, justify="right")
    rows = folded(_doing(described["modules"])) if fold else described["modules"]
    for row in rows:
        counts = (f"{row['parameters']:,}", f"{row['trainable']:,}")
        drawn.add_row(row["name"], row["kind"], _shape(row), *counts)
    totals = (
        f"{described['parameters']:,} parameters, {described['trainable']:,} trainable, "
        f"{described['multiply_adds']:,} multiply-adds a sample"
    )
    more = []
    if sized := described.get("sized"):
        of = f" of {sized['of']}" if sized["of"] else ""
        more.append(
            f"{sized['by']}={sized['value']} was found: {sized['parameters']:,} parameters "
            f"beside the {sized['wanted']:,}{of}"
        )
    if len(rows) < len(described["modules"]):
        more.append(f"{len(described['modules'])} layers in all; --layers lists every one")
    return Group(drawn, totals, *more)


def _doing(rows: Sequence[Row]) -> list[Row]:
    """Without layers that hand on what they are given: timm's models are full of them."""
    return [row for row in rows if row["kind"] != "Identity"]


def _shape(row: Row) -> str:
    """Of one sample without its batch: 64x56x56."""
    output = row["output"] or []
    return "x".join(map(str, output[1:] if output[:1] == [1] else output))


def folded(rows: Sequence[Row], depth: int = 0) -> list[Row]:
    """The rows, each run of blocks that are equal but for their number shown by its first and a row that counts the rest.

    Blocks are siblings whose names end in successive numbers; one of a single layer is no block.
    """
    out: list[Row] = []
    blocks = [(name, list(block)) for name, block in groupby(rows, lambda r: _part(r, depth))]
    while blocks:
        name, block = blocks.pop(0)
        out += block if len(block) == 1 else folded(block, depth + 1)
        same = list(_like(name, block, blocks, depth))
        if len(block) > 1 and same:
            out.append(_rest(same, depth))
            blocks = blocks[len(same) :]
    return out


def _like(
    name: str, block: list[Row], others: Sequence[tuple[str, list[Row]]], depth: int
) -> Iterator[list[Row]]:
    """Those that come next and are equal to the block."""
    numbered = _NUMBERED.match(name)
    if not numbered:
        return
    for number, (other, rows) in enumerate(others, int(numbered[2]) + 1):
        if other != f"{numbered[1]}{number}" or _content(rows, depth) != _content(block, depth):
            return
        yield rows


def _rest(blocks: list[list[Row]], depth: int) -> Row:
    first, last = (".".join(_path(block[0])[: depth + 1]) for block in (blocks[0], blocks[-1]))
    rows = [row for block in blocks for row in block]
    return {
        "name": first if first == last else f"{first} to {_path(blocks[-1][0])[depth]}",
        "kind": f"{len(blocks)} more like it" if len(blocks) > 1 else "another like it",
        "output": blocks[-1][-1]["output"],
        "parameters": sum(row["parameters"] for row in rows),
        "trainable": sum(row["trainable"] for row in rows),
    }


def _content(rows: Sequence[Row], depth: int) -> list[tuple[Any, ...]]:
    """What a block is, whatever its number."""
    return [
        (_path(r)[depth + 1 :], r["kind"], r["output"], r["parameters"], r["trainable"])
        for r in rows
    ]


def _path(row: Row) -> list[str]:
    return str(row["name"]).split(".")


def _part(row: Row, depth: int) -> str:
    path = _path(row)
    return path[depth] if depth < len(path) else ""
