"""Transforms that are no function of ours, `v2:ColorJitter` and `python:package.module:function`: checked by name, none imported.

torchvision's classes and their arguments are read off its files; whether the values fit is found out when they are built.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import NamedTuple

from datasets.foreign.spec import PYTHON, V2
from datasets.refusal import Refusal, nearest
from trainers import library

PATTERN = r"^(v2:[A-Z]\w*|python:[A-Za-z_][\w.]*:[A-Za-z_]\w*)$"
CONTAINERS = frozenset(
    f"{V2}{n}" for n in ("Compose", "RandomApply", "RandomChoice", "RandomOrder")
)
# What takes or gives something else than one picture of uint8, whatever its arguments.
NOT_OF_A_PICTURE = {
    "CutMix", "MixUp", "FiveCrop", "TenCrop", "Lambda", "LinearTransformation", "Normalize", "RandomIoUCrop", "ToDtype",
    "ClampBoundingBoxes", "ClampKeyPoints", "ConvertBoundingBoxFormat", "ConvertImageDtype", "SanitizeBoundingBoxes",
    "SanitizeKeyPoints", "SetClampingMode", "Transform", "UniformTemporalSubsample", "GaussianNoise",
    "PILToTensor", "ToImage", "ToPILImage", "ToPureTensor", "ToTensor",
}  # fmt: skip

INSTEAD = {
    **dict.fromkeys(("CutMix", "MixUp"), "use data.train.mix=[cutmix, mixup]"),
    **dict.fromkeys(
        ("Normalize", "ToDtype", "ToImage", "ToTensor", "ConvertImageDtype", "PILToTensor"),
        "leave it out: pictures become numbers on the device, by data.mean and data.std",
    ),
}


class Arguments(NamedTuple):
    """What a constructor takes."""

    known: frozenset[str]
    required: frozenset[str]


@cache
def v2() -> dict[str, Arguments]:
    """torchvision's transforms of one picture by `v2:Name`, read off its files [.1 s]."""
    folder = library.package("torchvision") / "transforms" / "v2"
    classes = {
        node.name: node
        for path in sorted(folder.glob("_*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    public = {
        alias.name
        for node in ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    wanted = sorted((classes.keys() & public) - NOT_OF_A_PICTURE)
    return {f"{V2}{name}": _arguments(name, classes) for name in wanted}


def check_v2(name: str, arguments: Mapping[str, object], path: str) -> None:
    """Refuse a name that torchvision does not have, and arguments that are not its own."""
    plain = name.removeprefix(V2)
    if plain in NOT_OF_A_PICTURE:
        raise Refusal(
            f"'{name}' is no transform of one picture of bytes",
            path=path,
            value=name,
            remedy=INSTEAD.get(plain, "torchvision.transforms.v2 documents those that are"),
        )
    if name not in v2():
        # Compared without what all of them begin with.
        close = get_close_matches(plain, [known.removeprefix(V2) for known in v2()], n=1)
        raise Refusal(
            f"torchvision has no transform '{plain}'",
            path=path,
            value=name,
            remedy=f"did you mean '{V2}{close[0]}'?"
            if close
            else "torchvision.transforms.v2 documents them",
        )
    known, required = v2()[name]
    for key in arguments:
        if key not in known:
            raise Refusal(
                f"{name} takes no argument '{key}'",
                path=f"{path}.{key}",
                value=key,
                remedy=nearest(key, known, "torchvision documents its arguments"),
            )
    if missing := sorted(required - arguments.keys()):
        raise Refusal(
            f"{name} needs {_listed(missing)}",
            path=path,
            value=name,
            remedy=f"add {missing[0]}: ...",
        )


def check_inner(names: Sequence[str], places: Iterable[str]) -> None:
    """Refuse what a container of torchvision's cannot hold."""
    for name, place in zip(names, places, strict=True):
        if not name.startswith(V2):
            raise Refusal(
                f"torchvision's transforms hold torchvision's, not '{name}'",
                path=place,
                value=name,
                remedy="use a v2: transform here, or put this one into data.train.transforms",
            )


def check_python(name: str, path: str) -> None:
    """Refuse a name that is not `python:package.module:function`."""
    if not re.match(PATTERN, name):
        raise Refusal(
            f"'{name}' names no function",
            path=path,
            value=name,
            remedy=f"write {PYTHON}package.module:function",
        )


def _arguments(name: str, classes: Mapping[str, ast.ClassDef]) -> Arguments:
    """Of a class's constructor, or of the one that it inherits."""
    node = classes[name]
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            said = inner.args
            positional = [argument.arg for argument in said.args[1:]]
            without = positional[: len(positional) - len(said.defaults)]
            keywords = zip(said.kwonlyargs, said.kw_defaults, strict=True)
            without += [argument.arg for argument, default in keywords if default is None]
            known = [*positional, *(argument.arg for argument in said.kwonlyargs)]
            return Arguments(frozenset(known), frozenset(without))
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            return _arguments(base.id, classes)
    return Arguments(frozenset(), frozenset())


def _listed(names: Collection[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)
