"""What there is to name: recipes and the parts of every room, read without importing any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from datasets.refusal import Refusal, nearest
from trainers import rooms
from trainers.recipe import Recipe

RECIPES = rooms.ROOT / "recipes"


def rows(kind: str | None = None, *others: str) -> list[dict[str, Any]]:
    """`[{name, kind, path, rows, doc}]` of one kind or all; `rows` are those of the experiments that a recipe serves.

    `others` are kinds that are listed elsewhere.
    """
    kinds = ("recipes", *rooms.ROOMS)
    if kind is not None and kind not in kinds:
        raise Refusal(
            f"no such kind '{kind}'",
            path="list",
            value=kind,
            remedy=nearest(kind, [*kinds, *others]),
        )
    found = []
    for each in (kind,) if kind else kinds:
        if each == "recipes":
            found += [_recipe(path) for path in sorted(RECIPES.glob("*.yaml"))]
            continue
        for name, door in rooms.doors(each).items():
            path = str(door.path.relative_to(rooms.ROOT))
            found.append({"name": name, "kind": each, "path": path, "rows": [], "doc": door.doc})
    return found


def schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, every part with its arguments, so that editors complete it."""
    tree = Recipe.model_json_schema()
    # An evaluator's key is its name unless it gives another, so `name` may be left out there.
    evals, forms = tree["properties"]["evals"], tree["$defs"]["Eval"]["anyOf"]
    ((pattern, each),) = evals.pop("patternProperties").items()
    titled = {form["title"]: form for form in forms if "title" in form}
    evals["properties"] = {
        name: {"anyOf": [{**form, "required": []}, each, {"type": "null"}]}
        for name, form in titled.items()
    }
    known = "|".join(titled)
    evals["patternProperties"] = {f"^(?!({known})$){pattern[1:]}": each}
    evals["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Manta recipe",
        **tree,
    }


def _recipe(path: Path) -> dict[str, Any]:
    """A recipe that does not load is listed with what is wrong: one bad file hides no other."""
    row = {"name": path.stem, "kind": "recipes", "path": str(path.relative_to(rooms.ROOT))}
    try:
        recipe = Recipe.load(str(path))
    except (Refusal, yaml.YAMLError) as error:
        return {**row, "rows": [], "doc": f"does not load: {error}"}
    return {**row, "rows": recipe.rows, "doc": _note(path)}


def _note(path: Path) -> str:
    """The first line of a recipe's lab note."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.lstrip("# ").strip()
        if line.startswith("#") and text and not text.startswith("yaml-language-server"):
            return text
    return ""
