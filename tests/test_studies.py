"""Every shipped study is a lab note, is guarded, and its arms run two steps of each phase to a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets.shards import open_dataset
from datasets.sources.fashion_mnist import INSTALLED
from search.studies import arms as arms_of
from search.studies import drive, table
from search.studies.study import Study
from tests.commands import cli
from trainers.data import Data
from trainers.grammar import read_yaml
from trainers.recipe import Recipe
from trainers.rooms import ROOT

STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
# Their test splits cost minutes on a CPU.
SLOW = {"fashion_pretrained"}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_says_what_it_asks(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    schema, what, *_ = text.splitlines()
    assert schema == "# yaml-language-server: $schema=../docs/study.schema.json"
    assert what.startswith("# ") and f"python launch.py study studies/{path.name}" in text
    study = Study.load(str(path))
    assert study.name == path.stem and study.rows and study.question.endswith("?")
    assert len(study.run_seeds) >= 3, "fewer seeds tell next to nothing"
    for claim in study.claims:
        assert len(claim.source) > 8


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=pytest.mark.slow if p.stem in SLOW else ()) for p in STUDIES],
    ids=lambda path: path.stem,
)
def test_a_study_runs_two_steps_of_each_arm(path: Path, tmp_path: Path) -> None:
    if path.stem.startswith("fashion") and not Path(INSTALLED).exists():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    study = in_two_steps(path)
    folder = drive.run(study, out=str(tmp_path))
    assert folder.state["status"] == "finished"
    found = table.read(folder)
    assert all(row.results[0].entry.status == "finished" for row in found.rows)
    assert len(found.claims) == len(study.claims)


def in_two_steps(path: Path) -> Study:
    """The small study with one seed and two steps of each phase; where epochs are compared, of an epoch each."""
    tree = read_yaml(path.read_text(), str(path))
    own = tree.get("scales", {}).get("small", {})
    recipe = Recipe.load(str(ROOT / own.get("recipe", tree["recipe"])))
    short: dict[str, Any] = {"log.tensorboard": False, "scale.device": "cpu"}
    if recipe.phases[0].task.name == "regress" and "phases.0.epochs" in tree.get("factors", {}):
        tree["factors"]["phases.0.epochs"] = [1, 2, 3]
    elif "phases.0.epochs" in tree.get("factors", {}):
        short |= {"data.subset": {"shots": 1}, "data.batch": 10}
    else:
        for index in range(len(recipe.phases)):
            short |= {f"phases.{index}.epochs": None, f"phases.{index}.steps": 2}
    for arm in own.get("arms", {}).values():
        arm.pop("phases.0.steps", None)
        task = arm.get("phases.0.task")
        if isinstance(task, dict) and "betas" in task:  # one pair an epoch, and there is none whole
            task |= {"alphas": [1.0], "betas": [1.0]}
    holder = own if own else tree
    holder["set"] = {**holder.get("set", {}), **short}
    for before in holder.get("before", {}).values():
        before["set"] = {**before.get("set", {}), **short}
    if own:
        own["seeds"] = [0]
        tree["scales"]["small"] = own
    return Study.check({**tree, "name": path.stem, "seeds": [0], "parallel": 1})


def without_weights(node: Any) -> Any:
    """The tree of a study with random weights wherever it asks for pretrained ones: they are not at hand."""
    if isinstance(node, list):
        return [without_weights(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: False if key == "pretrained" else without_weights(each) for key, each in node.items()
    }


def at_full_scale(path: Path, published: Callable[[Data], str], **changes: Any) -> Study:
    """The study of the real data, reading a small set of their form."""
    tree = without_weights(read_yaml(path.read_text(), str(path)))
    full = tree["scales"]["full"]
    recipe = Recipe.load(str(ROOT / full.get("recipe", tree["recipe"])))
    extra = any("data.extra" in arm for arm in full.get("arms", {}).values())
    origin: dict[str, Any] = {"data.url": published(recipe.data)}
    if extra:  # altered copies are made where a source is packed
        manifest = open_dataset(origin["data.url"]).manifest
        origin = {"data.source": {"name": manifest.packed["source"], **manifest.packed["args"]}}
    full["set"] = {
        **full.get("set", {}),
        **origin,
        "data.batch": 8,
        "scale.device": "cpu",
        **changes,
    }
    for before in full.get("before", {}).values():  # its own set, where that is another one
        first = Recipe.load(str(ROOT / before["recipe"]))
        if first.data.source != recipe.data.source:
            own = {"data.url": published(first.data), "data.batch": 2, "scale.device": "cpu"}
            before["set"] = {**before.get("set", {}), **own}
    if recipe.model.pretrained and "model" not in full["set"]:
        full["set"] = {"model.pretrained": False, **full["set"]}
    return Study.check({"name": path.stem, **tree, "scale": "full", "parallel": 1})


FULL = [path for path in STUDIES if "full" in Study.load(str(path)).scales]
# One for each set runs by default, the others with `make test-slow`.
QUICK = ("cub_epochs", "cifar10_regularisation", "sea_augmentation", "digits_lr")
CHEAP = {"cub_pretrained": "vit_b_32 last 2", "cub_frozen": "head"}


@pytest.mark.parametrize("path", FULL, ids=lambda path: path.stem)
def test_the_real_study_passes_its_guards(path: Path, published: Callable[[Data], str]) -> None:
    study = at_full_scale(path, published)
    planned = drive.plan(study)
    labels = [arm.label for arm in planned.arms]
    assert {claim.arm for claim in study.claims if claim.scale == "full" and not claim.over} <= {
        *labels
    }


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow) for path in FULL],
    ids=lambda path: path.stem,
)
def test_the_real_study_runs_on_files_of_that_form(
    path: Path,
    published: Callable[[Data], str],
    tiny_clip: Callable[[int], str],
    tmp_path: Path,
) -> None:
    study = at_full_scale(path, published)
    arms = arms_of.arms(study)
    label = CHEAP.get(path.stem, arms[0].label)
    arm = next(arm for arm in arms if arm.label == label)
    changes: dict[str, Any] = {"log.tensorboard": False}
    if not any(change.startswith("phases.0.epochs") for change in arm.changes):
        for index in range(len(arm.recipe.phases)):
            changes |= {f"phases.{index}.epochs": None, f"phases.{index}.steps": 2}
    if "data.batch" in arm.changes:  # larger than the small set
        changes |= {"data.tail": "keep"}
    if "architecture" in arm.recipe.model.arguments:
        changes |= {"model.architecture": "tiny", "data.size": 32, "phases.0.init": tiny_clip(32)}
    elif not any("model" in change for each in arms for change in each.changes):
        words = {word for each in arms for word in each.recipe.phases[0].train}
        if arms[0].recipe.phases[0].task.name == "gan":
            changes |= {"model.width": 4, "data.size": 16}
        elif words == {"*"}:  # what reads the set is tried here; large networks are built above
            changes |= {"model": "resnet20", "data.size": 32}
    elif arm.recipe.model.name.startswith("torchvision:resnet"):
        changes |= {"data.size": 64}
    study = at_full_scale(path, published, **changes).model_copy(update={"seeds": [0]})
    for name, before in study.before.items():
        short = {"phases.0.epochs": None, "phases.0.steps": 2, **changes}
        study.before[name] = before.model_copy(update={"set": {**before.set, **short}})
    folder = drive.run(study, out=str(tmp_path), only=[label])
    found = table.read(folder)
    row = next(row for row in found.rows if row.arm == label)
    assert row.results[0].entry.status == "finished", row.results[0].entry.why
    assert len(found.claims) == len(study.claims)


def test_studies_are_listed_with_their_rows() -> None:
    listed = json.loads(cli("list", "studies", "--json").out)
    assert [each["name"] for each in listed] == [path.stem for path in STUDIES]
    assert all(each["rows"] and each["doc"].endswith("?") for each in listed)
    everything = json.loads(cli("list", "--json").out)
    assert {"recipes", "studies", "models"} <= {each["kind"] for each in everything}
    schema = json.loads(cli("list", "studies", "--schema").out)
    assert schema == json.loads((ROOT / "docs" / "study.schema.json").read_text())


# Rows of docs/experiments.md that a recipe or a study serves; the others are commands on any run.
SERVED = {
    *range(1, 15),
    *range(16, 27),
    28,
    29,
    *range(30, 50),
    *range(50, 51),
    *range(53, 69),
    70,
}


def test_every_row_has_a_recipe_or_a_study() -> None:
    kinds = ("recipes", "studies")
    listed = [row for kind in kinds for row in json.loads(cli("list", kind, "--json").out)]
    assert {*SERVED} - {row for each in listed for row in each["rows"]} == set()
    text = (ROOT / "docs" / "experiments.md").read_text()
    named = [each for each in listed if each["rows"]]
    missing = [each["name"] for each in named if f"{each['name']}.yaml" not in text]
    assert missing == []
