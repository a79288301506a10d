"""Pages: one HTML file from a template, a style that all share, and what the template says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Tile:
    """A number of a page's header; `more` is its interval or its circumstances."""

    label: str
    value: str
    more: str = ""
    look: Literal["", "main", "bad"] = ""


def render(
    template: Path, said: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]]
) -> str:
    """The page; a template includes `shared.css` and whatever lies beside it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    room = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    room.filters |= filters
    return room.get_template(template.name).render(said)
