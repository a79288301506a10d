"""Name -> file -> `build`: the folder is the registry.

A room is a folder (one part a file, its door is `build`) or one file (one part a public function). Doors are read with
`ast`, never imported, so a recipe is checked, listed and completed in an editor without torch. Positional parameters of a
door come from the engine, keyword-only ones from the recipe: these become a pydantic schema.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict

from datasets import ranges
from datasets.refusal import Refusal, nearest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "models": "trainers/models",
    "tasks": "trainers/tasks",
    "evals": "trainers/evals",
    "optimizers": "trainers/optimizers.py",
    "schedules": "trainers/schedules.py",
    "sources": "datasets/sources",
    "frames": "datasets/frames.py",
    "transforms": "datasets/transforms.py",
    "orders": "datasets/orders.py",
    "noises": "datasets/noise.py",
    "mixers": "datasets/mixing.py",
    "corruptions": "datasets/corruptions.py",
    # Read like the others, never imported from here.
    "protocols": "cluster/protocols",
    "samplers": "search/tune/samplers.py",
    "schedulers": "search/tune/schedulers.py",
}

# What an annotation of a door may be made of.
_VOCABULARY: dict[str, Any] = {
    "Literal": Literal,
    **{kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict)},
    **{
        name: value
        for name, value in vars(pydantic.types).items()
        if name.endswith(("Int", "Float"))
    },
    **{name: value for name, value in vars(ranges).items() if name[0].isupper()},
}


@dataclass(frozen=True)
class Door:
    """The entrance of a part: where it is, what the engine passes in, what a recipe may say."""

    room: str
    name: str
    path: Path
    attribute: str
    doc: str
    positional: tuple[str, ...]
    schema: type[BaseModel]
    constants: Mapping[str, Any]

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the schema coerces them; pydantic's `ValidationError` when it does not."""
        given = self.schema.model_validate(dict(arguments))
        return given.model_dump(exclude_unset=True)

    def load(self) -> Callable[..., Any]:
        """Import the part. From here on torch is paid for."""
        module = importlib.import_module(
            ".".join(self.path.relative_to(ROOT).with_suffix("").parts)
        )
        door: Callable[..., Any] = getattr(module, self.attribute)
        return door

    def build(self, context: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
        """Call the door with what it asks of the engine's `context`, and the recipe's arguments."""
        return self.load()(*(context[name] for name in self.positional), **self.check(arguments))


@cache
def doors(room: str) -> dict[str, Door]:
    """All doors of a room by name, sorted."""
    place = ROOT / ROOMS[room]
    if place.is_dir():
        files = sorted(f for f in place.glob("*.py") if not f.stem.startswith("_"))
        return {f.stem: _read(room, f, f.stem, "build") for f in files}
    functions = [
        node.name
        for node in _tree(place).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    return {name: _read(room, place, name, name) for name in sorted(functions)}


def door(room: str, name: str, path: str = "") -> Door:
    """The door of a part, or a `Refusal` that names the nearest one."""
    known = doors(room)
    if name not in known:
        raise Refusal(
            f"no {room.rstrip('s')} is called '{name}'",
            path=path,
            value=name,
            remedy=nearest(name, known),
        )
    return known[name]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _read(room: str, path: Path, name: str, attribute: str) -> Door:
    tree = _tree(path)
    entrance = _entrance(tree, attribute, path)
    arguments = entrance.args if entrance else None
    positional = [a.arg for a in arguments.args if a.arg != "self"] if arguments else []
    documented = tree if (ROOT / ROOMS[room]).is_dir() else entrance
    doc = ast.get_docstring(documented) if documented else None
    return Door(
        room=room,
        name=name,
        path=path,
        attribute=attribute,
        doc=(doc or "").split("\n\n")[0].replace("\n", " "),
        positional=tuple(positional),
        schema=_schema(name, arguments, path),
        constants=_constants(tree),
    )


def _entrance(tree: ast.Module, attribute: str, path: Path) -> ast.FunctionDef | None:
    """The function behind a door: itself, or the `__init__` of the class that `build = Class` names."""
    named: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            named[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
            target = node.targets[0]
            if isinstance(target, ast.Name) and node.value.id in named:
                named[target.id] = named[node.value.id]
    found = named.get(attribute)
    if isinstance(found, ast.ClassDef):
        inits = [n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        return inits[0] if inits else None
    assert isinstance(found, ast.FunctionDef), f"{path} has no door `{attribute}`"
    return found


def _schema(name: str, arguments: ast.arguments | None, path: Path) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    if arguments:
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            assert argument.annotation, f"{path}: `{argument.arg}` of a door has no type"
            code = compile(ast.Expression(argument.annotation), str(path), "eval")
            kind = eval(code, {"__builtins__": {}}, _VOCABULARY)  # our own files, small words
            fields[argument.arg] = (kind, ... if default is None else ast.literal_eval(default))
    config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
    return pydantic.create_model(name, __config__=config, **fields)


def _constants(tree: ast.Module) -> dict[str, Any]:
    """Upper-case constants of the file, such as an evaluator's SCORES or a model's INPUT."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name.isupper():
                try:
                    found[name] = ast.literal_eval(node.value)
                except ValueError:
                    continue  # not a literal, so not a thing to be read without importing
    return found
