"""What the fields of a study file are made of: text of one line, mappings, seeds; each says in our words what it expects."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

MOST = 80  # letters of a wrong value that are shown

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Changes = dict[str, Any]


def _seeds(said: Any) -> Any:
    """`3` is 0, 1 and 2."""
    if said == [] or (type(said) is int and said < 1):
        raise ValueError("a study needs a seed, better three: nothing is known from no run")
    if type(said) is int:
        return list(range(said))
    if not isinstance(said, list):
        raise ValueError("should be a number of seeds, or a list of them: 3, or [0, 1, 2]")
    return said


def _line(said: Any) -> Any:
    """Line breaks and runs of spaces become one space."""
    return " ".join(said.split()) if isinstance(said, str) else said


def _filled(said: Any) -> Any:
    text = _line(said)
    if text in ("", None):
        raise PydanticCustomError("blank", "is missing")
    return text


def _files(said: Any) -> Any:
    files = said.values() if isinstance(said, dict) else [said]
    if all(isinstance(file, str) for file in files):
        return said
    raise ValueError("should be a file, or {LABEL: file, ...}")


def mapping(form: str) -> BeforeValidator:
    """A mapping that is something else is told the `form` that it should have."""

    def check(said: Any) -> Any:
        if isinstance(said, dict):
            return said
        shown = f" (it is {str(said)[:MOST]})" if isinstance(said, list) else ""
        raise ValueError(f"should be {form}{shown}")

    return BeforeValidator(check)


Line = Annotated[str, BeforeValidator(_line)]
Question = Annotated[str, Field(min_length=8), BeforeValidator(_filled)]
Source = Annotated[str, Field(min_length=3), BeforeValidator(_filled)]
Seeds = Annotated[list[Seed], BeforeValidator(_seeds), Field(min_length=1)]
Recipes = Annotated[str | dict[str, str], BeforeValidator(_files)]
Set = Annotated[Changes, mapping("{dotted.path: value}")]
Arms = Annotated[dict[str, Changes], mapping("{NAME: {dotted.path: value}}")]
Factors = Annotated[
    dict[str, list[Any] | dict[str, Changes]],
    mapping("{dotted.path: [value, ...]}, or {NAME: {LABEL: {dotted.path: value}}}"),
]
