"""The names that the checkout takes, and who may say `ray`."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("datasets", "trainers", "cluster", "search", "verbs")
# Where a distribution and its module are called differently.
MODULES = {
    "open_clip_torch": "open_clip",
    "scikit-learn": "sklearn",
    "pyyaml": "yaml",
    "pillow": "PIL",
    "grad-cam": "pytorch_grad_cam",
    "faiss-cpu": "faiss",
}
NAMELESS = {"utils", "util", "helpers", "helper", "common", "base", "misc"}


def dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0] for line in project["dependencies"]]


def files(*rooms: str) -> Iterator[Path]:
    for room in rooms:
        yield from sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Top-level names that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("name", dependencies())
def test_every_dependency_imports_with_the_checkout_first(name: str) -> None:
    root, installed = str(ROOT), str(Path(str(metadata.distribution(name).locate_file(""))))
    assert sys.path.index(root) < sys.path.index(installed)
    module = importlib.import_module(MODULES.get(name, name.replace("-", "_")))
    assert not str(module.__file__).startswith(f"{root}/{name}"), "shadowed by the checkout"


def test_datasets_is_ours() -> None:
    import datasets

    assert Path(str(datasets.__file__)) == ROOT / "datasets" / "__init__.py"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_packages_of_the_checkout(room: str) -> None:
    assert (ROOT / room / "__init__.py").exists(), (
        "a folder without it loses to an installed package"
    )
    assert Path(str(importlib.import_module(room).__file__)).parent == ROOT / room


def test_no_file_is_named_after_nothing() -> None:
    named = [path for path in files(*ROOMS, "tests", "benchmarks") if path.stem in NAMELESS]
    assert not named


def test_ray_is_imported_by_cluster_and_search_alone() -> None:
    outside = [p for p in files("datasets", "trainers") if "ray" in imports(p)]
    # pack.py may spread work over a cluster, inside a function.
    assert not [p for p in outside if p.relative_to(ROOT).as_posix() != "datasets/pack.py"]
    assert not [p for p in [ROOT / "launch.py", *files("verbs")] if "ray" in imports(p)]
    assert not [p for p in files("search") if "ray.train" in p.read_text()], "it is cluster's"
