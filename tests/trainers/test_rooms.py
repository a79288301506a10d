"""The folder is the registry: what is read by ast is what importing would find, for every door of every room."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from datasets.refusal import Refusal
from trainers import catalogue, library, rooms
from trainers.grammar import read_yaml
from trainers.recipe import Recipe

DOORS = [(room, name) for room in rooms.ROOMS for name in rooms.doors(room)]
RECIPES = sorted((rooms.ROOT / "recipes").glob("*.yaml"))
LIGHT = """
import sys
{code}
heavy = {{"torch", "ray", "torchvision", "timm", "open_clip", "sklearn", "matplotlib", "pandas", "pyarrow"}} & set(sys.modules)
assert not heavy, heavy
"""


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(catalogue.schema()))
    return found


@pytest.mark.parametrize(("room", "name"), DOORS)
def test_the_schema_is_the_signature(room: str, name: str) -> None:
    door = rooms.door(room, name)
    parameters = inspect.signature(door.load()).parameters.values()
    assert door.positional == tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    said = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert list(door.schema.model_fields) == list(said)
    for key, field in door.schema.model_fields.items():
        default = said[key].default
        assert field.is_required() == (default is inspect.Parameter.empty)
        if not field.is_required():
            assert field.default == default and type(field.default) is type(default)
    assert not [
        p for p in parameters if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL, p.POSITIONAL_ONLY)
    ]


@pytest.mark.parametrize(("room", "name"), DOORS)
def test_the_defaults_keep_to_their_own_ranges(room: str, name: str) -> None:
    door = rooms.door(room, name)
    defaults = {
        key: f.default for key, f in door.schema.model_fields.items() if not f.is_required()
    }
    assert door.check(defaults) == defaults


@pytest.mark.parametrize(("room", "name"), DOORS)
def test_a_door_says_what_it_is(room: str, name: str) -> None:
    door = rooms.door(room, name)
    assert door.doc.strip(), f"{door.path} has no docstring"
    assert door.path.exists()


@pytest.mark.parametrize(("room", "name"), DOORS)
def test_an_unknown_argument_is_refused_by_the_schema(room: str, name: str) -> None:
    with pytest.raises(ValidationError, match="no_such_argument"):
        rooms.door(room, name).check({"no_such_argument": 1})


@pytest.mark.parametrize(("room", "name"), [d for d in DOORS if d[0] == "evals"])
def test_an_evaluator_states_its_needs_and_scores(room: str, name: str) -> None:
    constants = rooms.door(room, name).constants
    assert constants["NEEDS"] and constants["SCORES"]


@pytest.mark.parametrize("room", rooms.ROOMS)
def test_an_unknown_name_names_the_nearest(room: str) -> None:
    known = next(iter(rooms.doors(room)))
    with pytest.raises(Refusal) as caught:
        rooms.door(room, known + "x", "some.path")
    assert caught.value.path == "some.path" and caught.value.value == known + "x"
    assert known in caught.value.remedy


def test_a_new_file_is_a_new_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No list, no decorator: the file alone."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "thin.py").write_text(
        '"""A thin net."""\nfrom torch import nn\n\n\nclass Thin(nn.Module):\n'
        "    def __init__(self, channels: int, *, depth: int = 3, kind: Literal['a', 'b'] = 'a') -> None:\n"
        "        super().__init__()\n\n\nbuild = Thin\nINPUT = (3, 32)\nWORDS = [n for n in ()]\n"
    )
    monkeypatch.setattr(rooms, "ROOT", tmp_path)
    monkeypatch.setitem(rooms.ROOMS, "models", "models")
    rooms.doors.cache_clear()
    try:
        door = rooms.door("models", "thin")
        assert (door.positional, door.doc, dict(door.constants)) == (
            ("channels",),
            "A thin net.",
            {"INPUT": (3, 32)},
        )
        assert door.check({"depth": "4", "kind": "b"}) == {"depth": 4, "kind": "b"}
        with pytest.raises(ValidationError):
            door.check({"kind": "c"})
    finally:
        rooms.doors.cache_clear()


# --- nothing heavy


@pytest.mark.parametrize(
    "code",
    [
        "import trainers.recipe, trainers.catalogue, trainers.rooms, trainers.library, trainers.session",
        "from trainers.recipe import Recipe; r = Recipe.load('recipes/digits.yaml', ['model=timm:resnet18']); r.identity('x'); r.yaml()",
        "from trainers import catalogue; assert catalogue.rows() and catalogue.schema()",
    ],
    ids=["import", "load", "list"],
)
def test_recipes_are_read_without_torch_or_ray(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT.format(code=code)],
        cwd=rooms.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


# --- names of the libraries


def test_names_of_the_libraries_are_read_off_their_files() -> None:
    assert len(library.names("timm")) > 1000
    assert {"resnet18", "vit_b_16", "convnext_tiny"} <= library.names("torchvision")
    assert {"ViT-B-32", "RN50"} <= library.names("open_clip")


def test_names_are_those_that_the_libraries_register() -> None:
    import timm
    import torchvision

    assert set(timm.list_models()) - library.names("timm") == set()
    classifiers = set(torchvision.models.list_models(module=torchvision.models))
    assert classifiers - library.names("torchvision") == set()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("resnet18", ("timm", "resnet18")),
        ("resnet18.a1_in1k", ("timm", "resnet18.a1_in1k")),
        ("timm:resnet18", ("timm", "resnet18")),
        ("torchvision:resnet18", ("torchvision", "resnet18")),
        ("vit_b_16", ("torchvision", "vit_b_16")),
        ("ViT-B-32", ("open_clip", "ViT-B-32")),
        ("open_clip:ViT-B-32", ("open_clip", "ViT-B-32")),
        ("timm:vit_b_16", None),
        ("nobody:resnet18", None),
        ("resnet19", None),
        ("", None),
    ],
)
def test_a_name_falls_through_timm_torchvision_open_clip(
    name: str, found: tuple[str, str] | None
) -> None:
    assert library.find(name) == found


# --- the schema for editors


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_schema_takes_the_shipped_recipes(path: Path) -> None:
    validator = jsonschema.Draft202012Validator(schema())
    validator.validate(read_yaml(path.read_text(encoding="utf-8"), str(path)))
    validator.validate(Recipe.load(str(path)).plain())


def test_the_schema_takes_a_part_in_all_its_forms() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    tree = Recipe.load(str(rooms.ROOT / "recipes" / "digits.yaml")).plain()
    for form in ("pad_crop", {"name": "pad_crop", "padding": 2}, {"pad_crop": {"padding": 2}}):
        tree["data"]["train"]["transforms"] = [form]
        assert Recipe.check(tree).data.train.transforms[0].name == "pad_crop"
        assert not [e.message for e in validator.iter_errors(tree)], form


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("data.bach", 3),
        ("data.batch", 0),
        ("phases.0.task.label_smoothin", 0.1),
        ("phases.0.optim.main.momentum", 1.0),
        ("phases.0.optim.main.nesterov", "maybe"),
        ("scale.precision", "fp8"),
        ("model.widht", 3),
    ],
)
def test_the_schema_sees_what_the_recipe_refuses(change: str, value: Any) -> None:
    tree = Recipe.load(str(rooms.ROOT / "recipes" / "digits.yaml")).plain()
    *parents, last = change.split(".")
    node: Any = tree
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]
    node[last] = value
    with pytest.raises(Refusal):
        Recipe.check(tree)
    if not change.startswith(
        "model"
    ):  # a model may be a library's, whose arguments no editor knows
        assert not jsonschema.Draft202012Validator(schema()).is_valid(tree)


def test_the_catalogue_lists_every_door_and_recipe() -> None:
    rows = catalogue.rows()
    listed = {(row["kind"], row["name"]) for row in rows}
    assert listed == {*DOORS, *(("recipes", path.stem) for path in RECIPES)}
    assert all(row["doc"] and not row["doc"].startswith("does not load") for row in rows)
    assert all((rooms.ROOT / row["path"]).exists() for row in rows)
    with pytest.raises(Refusal, match="models"):
        catalogue.rows("model")
