"""Reading, changing and refusing recipes; what makes two recipes the same run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from datasets.refusal import Refusal
from trainers import rooms
from trainers.recipe import Recipe, parts

RECIPES = sorted((rooms.ROOT / "recipes").glob("*.yaml"))
DIGEST = "d" * 16

PLAIN = """
name: plain
data: {source: digits, batch: 64}
model: {name: small_cnn, width: 8}
phases:
  - task: classify
    epochs: 2
    optim: {main: {name: sgd, lr: 3e-4}}
evals: {accuracy: }
keep: {metric: val/accuracy}
"""


@pytest.fixture
def plain(tmp_path: Path) -> Recipe:
    return read(tmp_path, PLAIN)


def read(folder: Path, text: str, *overrides: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return Recipe.load(str(path), overrides)


def refused(action: Any, *arguments: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipe_reads_back_as_itself(path: Path, tmp_path: Path) -> None:
    recipe = Recipe.load(str(path))
    assert Recipe.check(recipe.plain()) == recipe
    assert read(tmp_path, recipe.yaml()) == recipe
    assert recipe.name == path.stem


def test_short_and_long_forms_of_a_part_are_one(plain: Recipe, tmp_path: Path) -> None:
    short = read(tmp_path, PLAIN.replace("{name: small_cnn, width: 8}", "{small_cnn: {width: 8}}"))
    bare = read(tmp_path, PLAIN, "model=small_cnn")
    assert short == plain
    assert plain.model.arguments == {"width": 8} and bare.model.arguments == {}
    path = plain.override("data.source=curve").data.source
    assert path is not None and path.name == "curve"


def test_parts_are_found_by_their_dotted_path(plain: Recipe) -> None:
    found = {path: part.name for path, part in parts(plain)}
    assert found == {
        "data.source": "digits",
        "model": "small_cnn",
        "phases.0.task": "classify",
        "phases.0.optim.main": "sgd",
        "phases.0.schedule": "constant",
        "evals.accuracy": "accuracy",
    }


# --- what YAML does to numbers and words


@pytest.mark.parametrize("text", ["3e-4", "3E-4", "3.e-4", "0.0003", "+3e-4", "'3e-4'"])
def test_a_number_without_a_dot_is_a_number(text: str, tmp_path: Path) -> None:
    recipe = read(tmp_path, PLAIN.replace("3e-4", text))
    assert recipe.phases[0].optim["main"].lr == 3e-4
    assert recipe.override(f"phases.0.optim.main.momentum={text}").phases[0].optim[
        "main"
    ].arguments == {"momentum": 3e-4}


def test_on_is_a_key_and_yes_is_a_word(tmp_path: Path) -> None:
    recipe = read(tmp_path, PLAIN.replace("{accuracy: }", "{accuracy: {on: val, every: 2}}"))
    assert (recipe.evals["accuracy"].on, recipe.evals["accuracy"].every) == ("val", 2)
    assert read(tmp_path, PLAIN.replace("name: plain", "name: no")).name == "no"
    assert refused(read, tmp_path, PLAIN + "log: {tensorboard: maybe}\n").path == "log.tensorboard"
    assert read(tmp_path, PLAIN.replace("name: plain", "name: '2024-01-01'")).name == "2024-01-01"
    assert read(tmp_path, PLAIN.replace("name: plain", "name: 2024-01-01")).name == "2024-01-01"


def test_a_key_said_twice_is_refused(tmp_path: Path) -> None:
    refusal = refused(read, tmp_path, PLAIN + "name: again\n")
    assert "'name' is given twice" in str(refusal) and "line 11" in str(refusal)
    nested = PLAIN.replace("batch: 64", "batch: 64, batch: 32")
    assert "'batch' is given twice" in str(refused(read, tmp_path, nested))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "name", "a: [", "a: b: c", "\tname: x", "a: &a [*a]", "? [1, 2]\n: 3", "a: !!python/object:os.system {}",
     "\x00", "- " * 2000, "name: *nobody", "%YAML 9", "a: {" * 50],
)  # fmt: skip
def test_what_is_no_mapping_of_keys_is_refused(text: str, tmp_path: Path) -> None:
    refusal = refused(read, tmp_path, text)
    assert refusal.path


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(bytes(range(256)))
    assert refused(Recipe.load, str(path)).path == str(path)


def test_a_missing_recipe_is_refused(tmp_path: Path) -> None:
    refusal = refused(Recipe.load, str(tmp_path / "nowhere.yaml"))
    assert "nowhere.yaml" in refusal.path and "list recipes" in refusal.remedy


# --- refusals: where, what, and the nearest name


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        ("data.bach=3", "data.bach", "batch"),
        ("model.widht=3", "model.widht", "width"),
        ("model=smal_cnn", "model", "small_cnn"),
        ("model=timm:resnet81", "model", "timm:resnet"),
        ("phases.0.task=clasify", "phases.0.task", "classify"),
        ("phases.0.task.label_smoothin=0.1", "phases.0.task.label_smoothin", "label_smoothing"),
        ("phases.0.optim.main.name=sdg", "phases.0.optim.main", "sgd"),
        ("phases.0.optim.main.momentom=0.9", "phases.0.optim.main.momentom", "momentum"),
        ("phases.0.schedule=cosin", "phases.0.schedule", "cosine"),
        ("evals.accuracy.name=acuracy", "evals.accuracy", "accuracy"),
        ("data.source=digit", "data.source", "digits"),
        ("data.train.transforms.0=pad_corp", "data.train.transforms.0", "pad_crop"),
        ("phases.0.epohcs=3", "phases.0.epohcs", "epochs"),
        ("scale.worker=3", "scale.worker", "workers"),
        ("data.tail=keeep", "data.tail", "keep"),
        ("keep.metric=val/acuracy", "keep.metric", "val/accuracy"),
        ("colour=blue", "colour", "known"),
    ],
)
def test_a_misspelt_name_names_the_nearest(
    change: str, path: str, said: str, plain: Recipe
) -> None:
    refusal = refused(plain.override, change)
    assert refusal.path == path
    assert said in refusal.remedy


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("data.batch=0", "data.batch", 0),
        ("data.batch=-1", "data.batch", -1),
        ("data.batch=2.5", "data.batch", 2.5),
        ("data.batch=many", "data.batch", "many"),
        ("data.batch=null", "data.batch", None),
        ("seed=-1", "seed", -1),
        ("phases.0.optim.main.lr=-0.1", "phases.0.optim.main.lr", -0.1),
        ("phases.0.optim.main.lr=fast", "phases.0.optim.main.lr", "fast"),
        ("phases.0.optim.main.momentum=1", "phases.0.optim.main.momentum", 1),
        ("phases.0.task.label_smoothing=2", "phases.0.task.label_smoothing", 2),
        ("model.width=0", "model.width", 0),
        ("model.dropout=1.0", "model.dropout", 1.0),
        ("name=a b", "name", "a b"),
        ("name=../up", "name", "../up"),
        ("scale.workers=0", "scale.workers", 0),
        ("scale.device=gpu", "scale.device", "gpu"),
        ("scale.precision=fp8", "scale.precision", "fp8"),
        ("data.splits.val=1.5", "data.splits.val", 1.5),
        ("keep.metric=test/accuracy", "keep.metric", "test/accuracy"),
        ("evals.accuracy.on=train", "evals.accuracy.on", "train"),
        ("phases.0.epochs=0", "phases.0.epochs", 0),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    change: str, path: str, value: Any, plain: Recipe
) -> None:
    refusal = refused(plain.override, change)
    assert (refusal.path, refusal.value) == (path, value)
    assert repr(value) in str(refusal) or str(value) in str(refusal)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", ".nan", ".inf"])
def test_numbers_that_are_none_are_refused(value: str, plain: Recipe) -> None:
    assert (
        refused(plain.override, f"phases.0.optim.main.lr={value}").path == "phases.0.optim.main.lr"
    )
    assert refused(plain.override, f"model.dropout={value}").path == "model.dropout"
    assert refused(plain.override, {"model.dropout": math.nan}).path == "model.dropout"


def test_a_checkpoint_is_never_chosen_by_a_test_metric(plain: Recipe) -> None:
    assert "never chosen by a test metric" in str(
        refused(plain.override, "keep.metric=test/accuracy")
    )
    # An evaluator that only looks at the test split gives nothing to choose by.
    assert refused(plain.override, "evals.accuracy.on=test").path == "keep.metric"
    assert (
        refused(plain.override, {"keep.metric": None, "keep.patience": 3}).path == "keep.patience"
    )


def test_one_origin_and_one_length(plain: Recipe) -> None:
    both = refused(plain.override, "phases.0.steps=5")
    assert both.path == "phases.0" and "and steps=5: set one of them to null" in both.error
    neither = refused(plain.override, "phases.0.epochs=null")
    assert neither.path == "phases.0" and "it has neither" in neither.error
    tree = plain.plain()
    tree["data"]["url"] = "/somewhere"
    assert refused(Recipe.check, tree).path == "data"
    assert refused(plain.override, "phases=[]").path == "phases"
    assert refused(plain.override, {"phases.0.optim": {}}).path == "phases.0.optim"


def test_what_is_missing_is_named(plain: Recipe) -> None:
    for path in (
        ["name"],
        ["data"],
        ["model"],
        ["phases"],
        ["phases", 0, "task"],
        ["phases", 0, "optim", "main", "lr"],
    ):
        tree: Any = plain.plain()
        node = tree
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]
        refusal = refused(Recipe.check, tree)
        assert refusal.path == ".".join(map(str, path))
        assert "missing" in str(refusal)


# --- override


def test_override_changes_one_value_and_not_the_former_recipe(plain: Recipe) -> None:
    changed = plain.override("data.batch=32", "phases.0.optim.main.lr=1e-2", seed=7)
    assert (changed.data.batch, changed.phases[0].optim["main"].lr, changed.seed) == (32, 0.01, 7)
    assert (plain.data.batch, plain.seed) == (64, 0)
    assert plain.override() == plain


@pytest.mark.parametrize("change", ["model", "=3", "model", "--fresh", ""])
def test_an_override_without_a_path_or_a_value_is_refused(change: str, plain: Recipe) -> None:
    assert "dotted.path=value" in str(refused(plain.override, change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("phases.1.epochs=3", "count from 0 to 0"),
        ("phases.x.epochs=3", "count from 0 to 0"),
        ("phases.-1.epochs=3", "count from 0 to 0"),
        ("seed.x=3", "seed"),
        ("phases.0.optim.min.lr=3", "main"),
        ("dta.batch=3", "data"),
        ("data..batch=3", ""),
    ],
)
def test_an_override_of_nothing_is_refused(change: str, said: str, plain: Recipe) -> None:
    assert said in str(refused(plain.override, change))


def test_a_list_grows_at_its_end_only(plain: Recipe) -> None:
    recipe = plain.override(
        "data.train.transforms.0=flip", "data.train.transforms.1={pad_crop: {padding: 2}}"
    )
    assert [t.name for t in recipe.data.train.transforms] == ["flip", "pad_crop"]
    assert recipe.override("phases.0.train.0=head.*").phases[0].train == ["head.*"]
    assert refused(plain.override, "data.train.transforms.1=flip").path.startswith(
        "data.train.transforms"
    )
    assert plain.override("phases.0.train.0=*").phases[0].train == ["*"]  # a glob, not a YAML alias


def test_another_name_drops_the_former_arguments(plain: Recipe) -> None:
    assert plain.override("model=resnet20").model.arguments == {}
    assert plain.override("model.name=resnet20").model.arguments == {}
    assert plain.override("model.name=small_cnn").model.arguments == {"width": 8}
    # Whatever their order, arguments given beside the name stay.
    for changes in (
        ("model.width=4", "model.name=resnet20"),
        ("model.name=resnet20", "model.width=4"),
    ):
        assert (
            plain.override(*changes).model.plain_arguments() == {"width": 4}
            if hasattr(plain.model, "plain_arguments")
            else True
        )
        assert plain.override(*changes).model.arguments == {"width": 4}
    changed = plain.override(
        "phases.0.optim.main.momentum=0.9", "phases.0.optim.main.weight_decay=0.1"
    )
    changed = changed.override("phases.0.optim.main.name=adamw")
    optim = changed.phases[0].optim["main"]
    assert (optim.name, optim.lr, optim.weight_decay, optim.arguments) == ("adamw", 3e-4, 0.1, {})


def test_a_url_displaces_the_source_and_back(plain: Recipe) -> None:
    moved = plain.override("data.url=s3://bucket/digits")
    assert (moved.data.source, moved.data.url) == (None, "s3://bucket/digits")
    back = moved.override("data.source=digits")
    assert back.data.source is not None and back.data.url is None
    assert back == plain


def test_coerced_arguments_are_kept(plain: Recipe) -> None:
    recipe = plain.override({"model.width": "16", "phases.0.optim.main.momentum": "9e-1"})
    assert recipe.model.arguments == {"width": 16}
    assert recipe.phases[0].optim["main"].arguments == {"momentum": 0.9}
    assert yaml.safe_load(recipe.yaml())["model"]["width"] == 16


# --- lanes


def test_lanes_are_resolved(plain: Recipe) -> None:
    assert plain.data.lanes == 64
    assert plain.override("data.batch=48").data.lanes == 48
    assert plain.override("data.batch=1000").data.lanes == 64
    assert plain.override("data.batch=48").override("data.batch=1000").data.lanes == 64
    own = plain.override("data.lanes=16")
    assert own.override("data.batch=32").data.lanes == 16
    assert plain.override("data.batch=128", "data.lanes=32").data.lanes == 32


def test_a_phase_reads_its_own_data(plain: Recipe) -> None:
    recipe = plain.override({"phases.0.data": {"batch": 16, "tail": "keep"}})
    data = recipe.phase_data(0)
    assert (data.batch, data.lanes, data.tail) == (16, 16, "keep")
    assert (recipe.data.batch, recipe.data.tail) == (64, "drop")
    assert data.source == recipe.data.source
    larger = plain.override({"phases.0.data": {"batch": 640}})
    assert larger.phase_data(0).lanes == 64


# --- identity


@pytest.mark.parametrize(
    "change",
    [
        "name=other", "rows=[1, 2]", "scale.workers=4", "scale.micro_batch=16", "scale.device=cpu", "evals.accuracy.every=5",
        "log.every=10", "log.tensorboard=false", "keep.every_steps=7", "keep.every_seconds=null", "keep.last=3",
        "data.url=/elsewhere", "data.lanes=64", "data.allow_leaks=[train/test]",
    ],
)  # fmt: skip
def test_where_and_how_often_is_the_same_run(change: str, plain: Recipe) -> None:
    assert plain.override(change).identity(DIGEST) == plain.identity(DIGEST)


@pytest.mark.parametrize(
    "change",
    [
        "data.batch=32", "data.lanes=32", "data.tail=keep", "model.width=16", "model=resnet20", "phases.0.epochs=3",
        "phases.0.optim.main.lr=1e-3", "seed=1", "phases.0.task.label_smoothing=0.1", "phases.0.schedule=cosine",
        "keep.mode=min", "phases.0.train.0=head.*", "data.train.transforms.0=flip",
    ],
)  # fmt: skip
def test_what_is_learnt_makes_another_run(change: str, plain: Recipe) -> None:
    assert plain.override(change).identity(DIGEST) != plain.identity(DIGEST)


def test_a_fold_is_one_of_those_that_are_made(plain: Recipe) -> None:
    folded = plain.override("data.splits.folds=5")
    one, two = (folded.override(f"data.fold={fold}") for fold in (0, 4))
    assert len({recipe.identity(DIGEST) for recipe in (plain, one, two)}) == 3
    assert "fold 5 is none of splits.folds=5" in str(refused(folded.override, "data.fold=5"))
    assert "splits.folds=None" in str(refused(plain.override, "data.fold=0"))
    assert plain.override("data.url=/packed", "data.source=null", "data.fold=7").data.fold == 7
    assert "data.allow_leaks" in str(refused(plain.override, "data.allow_leaks=[train]"))


def test_identity_is_of_the_content(plain: Recipe) -> None:
    assert plain.identity(DIGEST) != plain.identity("e" * 16)
    assert len(plain.identity(DIGEST)) == 8 and int(plain.identity(DIGEST), 16) >= 0
    assert Recipe.check(dict(reversed(plain.plain().items()))).identity(DIGEST) == plain.identity(
        DIGEST
    )
    # A default written out is the same as a default left out.
    assert plain.override("keep.mode=max", "data.tail=drop").identity(DIGEST) == plain.identity(
        DIGEST
    )


def test_two_origins_of_the_data_in_one_breath_are_refused(digits: Recipe) -> None:
    with pytest.raises(Refusal, match="data.mixture and data.url are both said"):
        digits.override("data.mixture=[{url: /a}, {url: /b}]", "data.url=/c")
    assert digits.override("data.url=/c", "data.source=null").data.url == "/c"
    assert digits.override("data.url=/c").override("data.source=curve").data.url is None


def test_a_part_that_is_not_said_yet_is_said_as_a_whole(digits: Recipe) -> None:
    with pytest.raises(Refusal) as told:
        digits.override("data.noise.symmetric.rate=0.1")
    assert told.value.remedy == "say it whole: 'data.noise={symmetric: {rate: ...}}'"
    assert digits.override("data.noise={symmetric: {rate: 0.1}}").data.noise
