"""What is said about a transform that is not ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

V2, PYTHON = "v2:", "python:"


@dataclass(frozen=True, slots=True)
class Spec:
    """`v2:ColorJitter` or `python:package.module:function`, its arguments as JSON types, and its place in the recipe."""

    name: str
    arguments: Mapping[str, Any]
    path: str = ""
