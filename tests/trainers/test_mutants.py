"""200 mutants of the shipped recipes: each trains a step, or is refused in one line that says where or what."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cluster.opening import plans_of
from cluster.session import Local
from cluster.train import choose_place
from datasets.refusal import Refusal
from trainers import build, feed, rooms
from trainers.describe import describe, preview
from trainers.engine import fit
from trainers.recipe import Recipe, parts

NUM_MUTANTS = 200
RECIPES = sorted((rooms.ROOT / "recipes").glob("*.yaml"))
MOST_SECONDS, MOST_BYTES, MOST_PARAMETERS = 60, 2 * 2**30, 20_000_000
# A step of these costs seconds, which a test of refusals need not pay.
HEAVY = {"mynet", "mynetpro"}

Tree = dict[str, Any]
Key = str | int
NUMBERS = [
    0,
    1,
    -1,
    2,
    0.5,
    -0.5,
    1.5,
    1e-9,
    1e300,
    math.nan,
    math.inf,
    -math.inf,
    10**6,
    2**40,
    2**64,
    -(10**30),
    10**400,
]
WORDS = ["", " ", "x", "é", "a\nb", "a/b", "../x", "1", "3e-4", "true", "null", "*", "a" * 150]
SHAPES = [
    None,
    True,
    False,
    [],
    [[]],
    [None],
    [1, "a"],
    {},
    {"a": 1},
    {"name": "sgd"},
    {"name": None},
    {1: 2},
]


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 3


@pytest.mark.timeout(MOST_SECONDS)
@pytest.mark.parametrize("number", range(NUM_MUTANTS))
def test_mutant_trains_a_step_or_is_refused_in_a_line(number: int, tmp_path: Path) -> None:
    path = tmp_path / "mutant.yaml"
    path.write_text(mutant(number), encoding="utf-8")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        recipe = step_once(str(path), tmp_path / "run")
    except Refusal as refusal:
        assert "\n" not in str(refusal)
        assert refusal.path or refusal.value is not None, refusal
        assert len(str(refusal)) < 700
        return
    finally:
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        assert grown < MOST_BYTES, f"took {grown / 2**30:.1f} GiB"
    again = Recipe.check(yaml.safe_load(recipe.yaml()))
    assert again == recipe, "an accepted recipe reads back as itself"


def test_mutants_are_neither_all_refused_nor_all_accepted() -> None:
    accepted = 0
    for number in range(NUM_MUTANTS):
        try:
            Recipe.check(yaml.safe_load(mutant(number)))
            accepted += 1
        except Refusal:
            continue
    assert 0.1 * NUM_MUTANTS < accepted < 0.7 * NUM_MUTANTS


def test_mutants_are_the_same_on_every_machine() -> None:
    assert [mutant(n) for n in range(5)] == [mutant(n) for n in range(5)]
    assert len({mutant(n) for n in range(NUM_MUTANTS)}) > 0.95 * NUM_MUTANTS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("phases.0.optim.main.lr=-1", "phases.0.optim.main.lr"),
        ("model=smal_cnn", "small_cnn"),
        ("data.bach=3", "batch"),
    ],
)
def test_the_command_line_refuses_in_one_line(change: str, said: str, tmp_path: Path) -> None:
    done = launched("train", "recipes/digits.yaml", change, out=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "nothing half-written"


def test_the_command_line_refuses_a_file_that_is_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: x\nname: y\n")
    done = launched("train", str(path), "--json", out=tmp_path / "runs")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    told = json.loads(done.stdout)
    assert set(told) == {"error", "path", "value", "remedy"} and told["path"] == str(path)
    assert os.listdir(tmp_path) == ["broken.yaml"]


def launched(*words: str, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(rooms.ROOT / "launch.py"), *words, "--out", str(out)],
        cwd=rooms.ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
    )


def step_once(path: str, folder: Path) -> Recipe:
    """What `launch.py train` does before and up to the first step, in this process."""
    recipe = Recipe.load(path)
    if sum(parameter.numel() for parameter in preview(recipe).parameters()) > MOST_PARAMETERS:
        return recipe  # allowed, and nothing that a test should train
    place = choose_place(recipe)
    dataset = feed.dataset(recipe.data)
    plans_of(recipe, dataset, place.workers)
    describe(recipe, build.shape(recipe, dataset.manifest))
    folder.mkdir()
    reports = fit(recipe, Local(torch.device("cpu"), str(folder)))
    try:
        assert next(reports).step == 1
    finally:
        reports.close()
        torch.use_deterministic_algorithms(False)
    return recipe


def mutant(number: int) -> str:
    """The YAML of a shipped recipe after one to three mutations, a function of the number alone."""
    draw = random.Random(f"mutant {number}")
    tree: Tree = Recipe.load(str(RECIPES[number % len(RECIPES)])).plain()
    if "num_rows" in tree["data"]["source"]:  # drawing pictures is most of the time
        tree["data"]["source"]["num_rows"] = 60
    tree["log"]["tensorboard"] = False
    before = as_yaml(tree)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        draw.choice(MUTATIONS)(tree, draw)
    while as_yaml(tree) == before:
        draw.choice(MUTATIONS)(tree, draw)
    return as_yaml(tree)


def as_yaml(tree: Tree) -> str:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _places(node: Any, path: tuple[Key, ...] = ()) -> Iterator[tuple[Key, ...]]:
    """Every key path beneath a node, in order."""
    items = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, child in items:
        yield (*path, key)
        yield from _places(child, (*path, key))


def _pick(
    tree: Tree, draw: random.Random, fits: Callable[[Any, Key], bool] = lambda node, key: True
) -> tuple[Any, Key]:
    """(parent, key) of a random place that fits."""
    places = []
    for *parents, key in _places(tree):
        parent: Any = tree
        for each in parents:
            parent = parent[each]
        if fits(parent, key):
            places.append((parent, key))
    return draw.choice(places or [(tree, "name")])


def _misspelt(word: str, draw: random.Random) -> str:
    at = draw.randrange(max(1, len(word)))
    return draw.choice(
        [word[:at] + word[at + 1 :], word[:at] + word[at : at + 1] * 2 + word[at + 1 :], word + "s"]
    )


def _remove(tree: Tree, draw: random.Random) -> None:
    parent, key = _pick(tree, draw)
    if isinstance(parent, list) or key in parent:
        del parent[key]


def _rename_key(tree: Tree, draw: random.Random) -> None:
    parent, key = _pick(tree, draw, lambda node, key: isinstance(node, dict) and key in node)
    parent[_misspelt(str(key), draw)] = parent.pop(key, None)


def _add_key(tree: Tree, draw: random.Random) -> None:
    parent, key = _pick(tree, draw, lambda node, key: isinstance(node[key], dict))
    node = parent.get(key) if isinstance(parent, dict) else parent[key]
    if isinstance(node, dict):
        node[draw.choice(["colour", "lr", "name", "batch", "on", "width", "dropuot"])] = (
            draw.choice([1, "x", None])
        )


def _number(tree: Tree, draw: random.Random) -> None:
    parent, key = _pick(tree, draw, lambda node, key: isinstance(node[key], int | float))
    parent[key] = draw.choice(NUMBERS)


def _scaled(tree: Tree, draw: random.Random) -> None:
    parent, key = _pick(tree, draw, lambda node, key: type(node[key]) in (int, float))
    value = parent.get(key) if isinstance(parent, dict) else parent[key]
    if type(value) in (int, float):
        parent[key] = draw.choice(
            [lambda v: -v, lambda v: v * 1000, lambda v: v + 0.5, lambda v: v * 1e-6]
        )(value)


def _word(tree: Tree, draw: random.Random) -> None:
    parent, key = _pick(tree, draw, lambda node, key: not isinstance(node[key], dict | list))
    parent[key] = draw.choice(WORDS)


def _shape(tree: Tree, draw: random.Random) -> None:
    parent, key = _pick(tree, draw)
    parent[key] = copy.deepcopy(draw.choice(SHAPES))


def _swap_type(tree: Tree, draw: random.Random) -> None:
    parent, key = _pick(tree, draw)
    value = parent.get(key) if isinstance(parent, dict) else parent[key]
    if isinstance(value, dict):
        parent[key] = draw.choice([list(value), [value], str(value)])
    elif isinstance(value, list):
        parent[key] = draw.choice([dict(enumerate(value)), str(value), value[0] if value else 0])
    else:
        parent[key] = draw.choice([str(value), [value], {"value": value}, {str(value): value}])


def _misspell_value(tree: Tree, draw: random.Random) -> None:
    parent, key = _pick(tree, draw, lambda node, key: isinstance(node[key], str))
    parent[key] = _misspelt(str(parent[key]), draw)


def _other_name(tree: Tree, draw: random.Random) -> None:
    parent, key = _pick(tree, draw, lambda node, key: key == "name" and node is not tree)
    room = draw.choice(sorted(rooms.ROOMS))
    parent[key] = draw.choice(sorted(set(rooms.doors(room)) - HEAVY))


def _swap_places(tree: Tree, draw: random.Random) -> None:
    (parent, key), (other, there) = _pick(tree, draw), _pick(tree, draw)
    one, two = copy.deepcopy(parent[key]), copy.deepcopy(other[there])
    parent[key], other[there] = two, one


def _gentle_number(tree: Tree, draw: random.Random) -> None:
    parent, key = _pick(tree, draw, lambda node, key: type(node[key]) in (int, float))
    parent[key] = draw.choice([0, 0.25, 0.5, 1, 2, 3, 5, 7, 16, 33, 100, 1000, 4096, 10**5])


def _same_room(tree: Tree, draw: random.Random) -> None:
    """A part gives way to another of its room, without arguments or with the former ones."""
    recipe = Recipe.check(tree) if _holds(tree) else None
    if recipe is None:
        return
    path, part = draw.choice(list(parts(recipe)))
    changed = {f"{path}.name": draw.choice(sorted(set(rooms.doors(part.room)) - HEAVY))}
    with contextlib.suppress(Refusal):
        tree.update(recipe.override(changed).plain())


def _other_choice(tree: Tree, draw: random.Random) -> None:
    """Booleans and nulls turned, words of closed lists exchanged."""
    parent, key = _pick(
        tree, draw, lambda node, key: node[key] is None or isinstance(node[key], bool)
    )
    parent[key] = draw.choice(
        [True, False, None, 1, 2, 5, "keep", "min", "val/accuracy", ["head.*"], ["*.weight"]]
    )


def _phase_twice(tree: Tree, draw: random.Random) -> None:
    if isinstance(tree.get("phases"), list) and tree["phases"]:
        tree["phases"].append(copy.deepcopy(draw.choice(tree["phases"])))


def _whole_setting(tree: Tree, draw: random.Random) -> None:
    settings = {
        "scale.micro_batch": [1, 7, 1000],
        "scale.precision": ["bf16", "fp32"],
        "scale.sync_bn": [False],
        "scale.deterministic": [True],
        "scale.workers": [2, 64, 65, 10**6],
        "scale.threads": [1],
        "data.tail": ["keep", "drop"],
        "data.lanes": [1, 5, 64, 65],
        "data.size": [1, 2, 3, 5, 16, 33],
        "data.mean": [[0.5], [0.1, 0.2, 0.3], []],
        "data.std": [[0.5], [0.1, 0.2, 0.3], []],
        "keep.patience": [1],
        "keep.metric": [None, "val/loss", "val/top5"],
        "phases.0.train": [["head.*"], ["*.weight"], ["nothing*"], []],
        "phases.0.data": [
            {"batch": 10},
            {"batch": 10**7},
            {"tail": "keep", "batch": 10**7},
            {"lanes": 3},
        ],
        "data.splits": [
            {"val": 0, "test": 0},
            {"val": 0.5, "test": 0.5},
            {"val": 0.001},
            {"test": 0},
        ],
    }
    path = draw.choice(sorted(settings))
    with contextlib.suppress(Refusal):
        tree.update(Recipe.check(tree).override({path: draw.choice(settings[path])}).plain())


def _holds(tree: Tree) -> bool:
    try:
        Recipe.check(tree)
    except Refusal:
        return False
    return True


# What breaks a recipe's grammar, and what keeps to it: the second half reaches the networks.
MUTATIONS: list[Callable[[Tree, random.Random], None]] = [
    _remove, _rename_key, _add_key, _number, _number, _scaled, _word, _shape, _swap_type, _misspell_value, _other_name,
    _swap_places,
    _gentle_number, _gentle_number, _gentle_number, _gentle_number, _same_room, _same_room, _same_room, _other_choice,
    _phase_twice, _whole_setting, _whole_setting, _whole_setting, _whole_setting,
]  # fmt: skip
