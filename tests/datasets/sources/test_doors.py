"""The doors of all sources: plain enough to be read without importing, and honest about what they were given."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from datasets import pack
from datasets.refusal import Refusal

NAMES = pack.known_sources()
# These are made, or come with a package: nothing has to be somewhere.
PATHLESS = {"curve", "digits", "mnist_subset", "synthetic"}


@pytest.mark.parametrize("name", NAMES)
def test_a_door_is_plain(name: str) -> None:
    tree = ast.parse((pack.SOURCES / f"{name}.py").read_text())
    (door,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "build")
    assert ast.get_docstring(tree) and ast.get_docstring(door)
    assert not door.args.args and not door.args.vararg and not door.args.kwarg
    for argument, default in zip(door.args.kwonlyargs, door.args.kw_defaults, strict=True):
        assert default is not None and argument.annotation is not None
        ast.literal_eval(default)
        words = {n.id for n in ast.walk(argument.annotation) if isinstance(n, ast.Name)}
        assert words <= {"int", "float", "str", "bool", "tuple", "Literal"}
    assert ("path" in {argument.arg for argument in door.args.kwonlyargs}) == (name not in PATHLESS)


def test_sources_import_quickly() -> None:
    modules = ", ".join(f"datasets.sources.{name}" for name in NAMES)
    heavy = "{'torch', 'PIL', 'sklearn', 'fsspec', 'huggingface_hub', 'mlxtend'}"
    code = f"import sys, {modules}\nsys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=pack.SOURCES.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", sorted(set(NAMES) - PATHLESS))
def test_a_path_where_nothing_is_is_refused(name: str) -> None:
    with pytest.raises(Refusal) as caught:
        pack.load_source(
            name, {"path": "/nowhere/at/all.csv" if name == "listed" else "/nowhere/at/all"}
        )
    assert "/nowhere/at" in str(caught.value) and caught.value.remedy


@pytest.mark.parametrize("name", ["captions", "imagefolder", "listed", "parquet", "webdataset"])
def test_what_is_nobodys_set_needs_a_path(name: str) -> None:
    with pytest.raises(Refusal, match=f"source '{name}' needs a path") as caught:
        pack.load_source(name, {})
    assert f"data.source={name}:" in caught.value.remedy
