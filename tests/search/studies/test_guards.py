"""What a study refuses before anything is run, in one line that says where and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from datasets.refusal import Refusal
from search.studies import arms, drive
from search.studies.study import Study
from tests.commands import cli
from trainers.recipe import Recipe

LR, MOMENTUM = "phases.0.optim.main.lr", "phases.0.optim.main.momentum"
EPOCHS = "phases.0.epochs"
Write = Callable[..., Path]


def planned(path: Path, *words: str) -> drive.Plan:
    return drive.plan(Study.load(str(path), words))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": 0}, "needs a seed"),
        ({"seeds": [1, 1]}, "said twice"),
        ({"seeds": []}, "seeds: a study needs a seed"),
        ({"seeds": "3"}, "seeds: should be a number of seeds, or a list of them: 3, or [0, 1, 2]"),
        ({"question": "    "}, "question: is missing -- add question: ..."),
        ({"question": " why ?"}, "question: should be text of 8 letters or more (it is"),
        (
            {"claims": [{"arm": "lr 0.1", "value": 0.9, "source": " \n "}]},
            "claims.0.source: is missing -- add claims.0.source: ...",
        ),
        (
            {"arms": ["a", "b"]},
            "arms: should be {NAME: {dotted.path: value}} (it is ['a', 'b'])",
        ),
        ({"set": ["a"]}, "set: should be {dotted.path: value} (it is ['a'])"),
        ({"set": {"phases..epochs": 1}}, "in 'phases..epochs' a key is missing"),
        ({"factors": [LR]}, "factors: should be {dotted.path: [value, ...]}, or"),
        ({"claims": [3]}, "claims.0: should be {arm: NAME, value: NUMBER, source: TEXT} (it is 3)"),
        ({"before": {"start": 3}}, "before.start: should be {recipe: FILE} (it is 3)"),
        ({"recipe": 3}, "recipe: should be a file, or {LABEL: file, ...} (it is 3)"),
        ({"recipe": {"a": 3}}, "recipe: should be a file, or {LABEL: file, ...}"),
        ({"question": None}, "question: is missing"),
        ({"arms": {" ": {}, "b": {LR: 0.2}}, "factors": {}}, "arms: a label is missing"),
        ({"factors": {"rate": {"": {}, "b": {LR: 0.2}}}}, "factors.rate: a label is missing"),
        (
            {
                "set": {"phases.0.init": "before.start"},
                "before": {"start": {"recipe": "recipes/digits.yaml", "set": {EPOCHS[:-1]: 2}}},
            },
            f"before.start.set.{EPOCHS[:-1]}: before 'start': unknown key 'epoch' -- did you",
        ),
        ({"factors": {}}, "nothing is compared"),
        ({"factors": {LR: []}}, f"factors.{LR}: a factor without values -- give it values"),
        (
            {"scales": {"small": {"factors": {LR: []}}}},
            f"scales.small.factors.{LR}: a factor without",
        ),
        ({"factors": {LR: 0.1}}, f"factors.{LR}: a factor is a list of values, or labels"),
        ({"factors": {"rate": {"low": 0.1}}}, "factors.rate.low: 'low' should be a mapping"),
        ({"seeded": ["data.noise.sed"]}, "seeded: 'data.noise.sed' is in no run of the study"),
        ({"seeded": ["data.sed"]}, "sed"),
        ({"factors": {"phases.0.optim.main.lrr": [1, 2]}}, "lrr"),
        ({"factors": {"model.widht": [8, 16]}}, "widht"),
        ({"factors": {LR: [0.1, 0.1]}}, "two arms are called"),
        ({"factors": {LR: [0.1]}}, "one arm alone"),
        ({"arms": {"a": {"seed": 3}, "b": {}}, "factors": {}}, "seeds are the study's"),
        ({"claims": [{"arm": "lr 0.1", "value": 90, "source": "a paper"}]}, "write 0.9"),
        (
            {"claims": [{"arm": "lr 0.1", "value": 0.9, "source": "a paper", "scale": "small"}]},
            "no scale 'small'",
        ),
        (
            {"claims": [{"arm": "lr 0.1", "value": 0.9, "source": "a paper", "metric": "test/f"}]},
            "no score 'test/f'",
        ),
        ({"arms": {"a": {LR: 0.1}, "b": {LR: 0.1}}, "factors": {}}, "are the same run"),
        ({"arms": {"a": {"evals.accuracy.every": 2}, "b": {}}, "factors": {}}, "are the same run"),
        ({"baseline": "lr 0.2"}, "no arm 'lr 0.2'"),
        ({"claims": [{"arm": "lr 0.1", "value": 0.5}]}, "source"),
        ({"claims": [{"arm": "lr 3", "value": 0.5, "source": "a paper"}]}, "no arm 'lr 3'"),
        ({"metric": "test/acuracy"}, "no score 'test/acuracy'"),
        ({"metric": "train/loss"}, "val/accuracy"),
        ({"recipe": "nowhere.yaml"}, "recipe: no such recipe, 'nowhere.yaml'"),
        ({"metrik": 3}, "unknown key 'metrik'"),
        ({"vary": ["phases.0.optm"]}, "names nothing"),
        ({"allow": ["epoch"]}, "names nothing"),
        ({"set": {"keep.metric": "test/accuracy"}}, "never chosen by a test metric"),
        ({"scales": {"full": {}}, "scale": "smal"}, "no scale 'smal'"),
        ({"factors": {"from": {"a": {"phases.0.init": "before.x"}, "b": {}}}}, "not in `before`"),
    ],
)
def test_mistakes_are_one_line_each_and_nothing_is_run(
    written: Write, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    found = cli("study", written(**changes), "--out", out)
    assert found.code == 2 and found.err.count("\n") == 1, found.err
    assert said in found.err
    assert not out.exists() or not [*out.iterdir()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seeds="], "seeds: should be a number of seeds, or a list of them"),
        (["set.=2"], "set.: in 'set.=2' a key is missing: a dotted path has one"),
        (["set.data..batch=2"], "in 'set.data..batch=2' a key is missing"),
    ],
)
def test_a_word_that_is_wrong_is_named(written: Write, words: list[str], said: str) -> None:
    found = cli("study", written(), *words, "table")
    assert found.code == 2 and found.err.count("\n") == 1 and said in found.err, found.err


def test_a_recipe_is_no_study_and_a_study_no_recipe(written: Write, base: Path) -> None:
    found = cli("study", base)
    assert found.code == 2
    assert found.err == f"error: {base}: this is a recipe -- `python launch.py train {base}`\n"
    path = written()
    found = cli("train", path)
    assert found.code == 2
    assert found.err == f"error: {path}: this is a study -- `python launch.py study {path}`\n"


def test_a_factor_that_one_recipe_lacks_names_the_arm(written: Write, base: Path) -> None:
    two = {"pictures": str(base), "numbers": "recipes/curve.yaml"}
    with pytest.raises(Refusal, match=r"arm 'numbers, width 8': .*width"):
        planned(written(recipe=two, factors={"model.width": [8, 16]}))


@pytest.mark.parametrize(
    ("arm", "kind"),
    [
        ({EPOCHS: 2}, "epochs"),
        ({"phases.0.schedule": "cosine"}, "schedule"),
        ({"data.train.transforms": []}, "augmentation"),
        ({"data.batch": 32}, "batch"),
        ({"data.splits.seed": 1}, "split"),
        ({"data.noise": {"symmetric": {"rate": 0.1}}}, "label noise"),
        ({"phases.0.optim.main.weight_decay": 0.1}, "optimizer"),
        ({"keep.patience": 3}, "epochs"),
        ({"scale.precision": "bf16"}, "numerics"),
        ({"scale.micro_batch": 8}, "numerics"),
        ({"scale.workers": 2}, "numerics"),
    ],
)
def test_what_else_differs_is_refused_by_its_name_or_allowed(
    written: Write, arm: dict[str, Any], kind: str
) -> None:
    two = {"plain": {MOMENTUM: 0.0}, "momentum": {MOMENTUM: 0.9, **arm}}
    with pytest.raises(Refusal) as refused:
        planned(written(arms=two, factors={}))
    assert kind in refused.value.value and "(momentum)" in str(refused.value)
    made = planned(written(arms=two, factors={}, vary=[MOMENTUM], allow=[kind]))
    assert {each.kind for each in made.confounds} == {kind}
    everything = planned(written(arms=two, factors={}, vary=[MOMENTUM, *arm]))
    assert everything.confounds == []


def test_what_a_broad_factor_holds_is_listed_beside_the_table(written: Write) -> None:
    two = {"a": {}, "b": {LR: 0.05, EPOCHS: 4}}
    for name in ("phases.0", "phases.*", "*"):
        (note,) = planned(written(arms=two, factors={}, vary=[name])).notes
        assert note == (
            f"the factor `{name}` holds 2 kinds of differences: "
            f"epochs ({EPOCHS}): 3 (a); 4 (b) | learning rate ({LR}): 0.1 (a); 0.05 (b)"
        )
    # Named one by one, or of one kind, they are what is asked about.
    assert planned(written(arms=two, factors={}, vary=[LR, EPOCHS])).notes == []
    one = {"a": {}, "b": {MOMENTUM: 0.5}}
    assert planned(written(arms=one, factors={}, vary=["phases.0"])).notes == []


def test_a_factor_alone_is_no_confound(written: Write) -> None:
    assert planned(written()).confounds == []
    grid = {LR: [0.1, 0.01], "data.batch": [32, 64]}
    made = planned(written(factors=grid))
    assert made.confounds == []
    assert [arm.label for arm in made.arms] == [
        f"lr {lr:g}, batch {batch}" for lr in (0.1, 0.01) for batch in (32, 64)
    ]
    assert made.arms[1].values == {LR: 0.1, "data.batch": 64}
    assert made.arms[0].recipe.data.lanes == 32


def test_a_larger_model_has_more_parameters_and_that_is_said(written: Write) -> None:
    factors = {"model.width": [8, 16]}
    with pytest.raises(Refusal, match="parameter count: .*1,"):
        planned(written(factors=factors))
    made = planned(written(factors=factors, allow=["parameter count"]))
    assert len(made.confounds) == 1 and "width 16" in str(made.confounds[0])


def test_a_steeper_loss_is_a_confound_unless_its_rate_undoes_it(written: Write) -> None:
    def two(lr: float) -> dict[str, Any]:
        task = {"name": "squared_error"}
        return {
            "sum": {"phases.0.task": {**task, "reduction": "sum"}, LR: 0.001},
            "mean": {"phases.0.task": {**task, "reduction": "mean"}, LR: lr},
        }

    vary = ["phases.0.task", LR]
    with pytest.raises(
        Refusal, match=r"loss scale: x 640 at lr 0.001 .*\(sum\); x 1 at lr 0.001 .*\(mean\)"
    ):
        planned(written(arms=two(0.001), factors={}, vary=vary))
    with pytest.raises(Refusal, match=r"lr 0.64 and weight decay 0.0005"):
        planned(written(arms=two(0.64), factors={}, vary=vary))  # which decays 640 times as fast
    without = {"phases.0.optim.main.weight_decay": 0.0}
    assert planned(written(arms=two(0.64), factors={}, vary=vary, set=without)).confounds == []
    adam = {"phases.0.optim.main": {"name": "adam", "lr": 0.001}}
    assert planned(written(arms=two(0.001), factors={}, vary=vary, set=adam)).confounds == []


def test_recipes_are_a_factor_and_whatever_differs_is_told(
    written: Write, base: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    recipe = Recipe.load(str(base)).override({"model.dropout": 0.2, EPOCHS: 2, "name": "other"})
    other.write_text(recipe.yaml())
    two = {"plain": str(base), "dropout": str(other)}
    with pytest.raises(Refusal, match="epochs") as refused:
        planned(written(recipe=two, factors={}))
    assert refused.value.value == ["epochs", "model"]
    made = planned(written(recipe=two, factors={}, vary=["model"], allow=["epochs"]))
    assert [each.kind for each in made.confounds] == ["epochs"]


def pictures(folder: Path) -> Path:
    """A set of 56 small pictures in three splits, all different, of many sizes: they stay as they were stored."""
    source = np.random.default_rng(0)
    for split, rows in {"train": 40, "val": 8, "test": 8}.items():
        for number in range(rows):
            place = folder / split / f"class {number % 2}"
            place.mkdir(parents=True, exist_ok=True)
            picture = source.integers(0, 255, (12 + number, 12, 3), dtype=np.uint8)
            Image.fromarray(picture).save(place / f"{number:03}.png")
    return folder


def test_a_run_before_that_has_seen_the_test_rows_is_refused(written: Write, base: Path) -> None:
    arms = {"warm": {"phases.0.init": "before.first"}, "cold": {}}
    said = {"arms": arms, "factors": {}}
    before = {"first": {"recipe": str(base), "set": {"data.splits.seed": 7}}}
    with pytest.raises(
        Refusal, match=r"arm 'warm' starts from a run that has learnt from \d+ rows"
    ):
        planned(written(**said, before=before))
    assert planned(written(**said, before={"first": {"recipe": str(base)}})).confounds == []


@pytest.mark.parametrize("kind", ["bytes", "pixels"])
def test_a_planted_leak_is_refused(written: Write, tmp_path: Path, kind: str) -> None:
    folder = pictures(tmp_path / "pictures")
    stolen, copy = folder / "train/class 0/000.png", folder / "test/class 0/again.png"
    copy.write_bytes(stolen.read_bytes())
    if kind == "pixels":
        Image.open(stolen).save(copy, compress_level=0)
    set_ = {"data.source": f"imagefolder:{folder}", "data.batch": 8, "data.size": 12}
    set_ |= {"data.train.transforms": []}
    path = written(set=set_)
    said = cli("study", path, "--out", tmp_path / "runs")
    assert said.code == 2 and said.err.count("error:") == 1, said.err
    assert ("share pictures" if kind == "bytes" else "stored otherwise") in said.err
    assert "arm 'lr 0.1'" in said.err and not (tmp_path / "runs" / "small").exists()
    made = planned(written(set={**set_, "data.allow_leaks": ["train/test"]}))
    assert len(made.notes) == (kind == "bytes")


def test_what_is_not_at_hand_is_no_verdict(written: Write, tmp_path: Path) -> None:
    scales = {"full": {"set": {"data.url": str(tmp_path / "nowhere")}}, "small": {}}
    claims = [{"arm": "lr 0.1", "value": 0.5, "source": "a paper"}]
    path = written(scales=scales, claims=claims)
    full = cli("study", path, "table", "scale=full", "--as", "md", "--out", tmp_path)
    assert full.code == 0 and "data not at hand: there is no" in full.out, full.err
    small = cli("study", path, "table", "--as", "md", "--out", tmp_path)
    assert "| not run |" in small.out and "No run counts yet" in small.out
    assert cli("study", path, "scale=full", "--out", tmp_path).code == 2


def test_a_scale_has_arms_of_its_own(written: Write) -> None:
    own = {"a": {"phases.0.optim.main.lr": 0.2}, "b": {"phases.0.optim.main.lr": 0.4}}
    scales = {"full": {}, "small": {"arms": own, "factors": {}, "baseline": "b"}}
    claims = [{"arm": "lr 0.1", "value": 0.9, "source": "a paper"}]
    path = written(scales=scales, claims=claims)
    small, full = Study.load(str(path)), Study.load(str(path), ["scale=full"])
    assert [arm.label for arm in arms.arms(small)] == ["a", "b"] and small.baseline == "b"
    assert "lr 0.1" in [arm.label for arm in arms.arms(full)]
    mistaken = written(scales=scales, claims=[{**claims[0], "arm": "lr 7"}])
    arms.arms(Study.load(str(mistaken)))  # looked at where the claim is of
    with pytest.raises(Refusal, match="no arm 'lr 7'"):
        arms.arms(Study.load(str(mistaken), ["scale=full"]))


def test_scales_and_overrides(written: Write) -> None:
    scales = {
        "full": {"set": {"model.width": 16}, "seeds": 5, "ceiling": 0.99},
        "small": {"set": {"model.width": 4}},
    }
    path = written(scales=scales)
    small, full = Study.load(str(path)), Study.load(str(path), ["scale=full"])
    assert small.scale == "small" and small.run_seeds == [0, 1]
    assert full.run_seeds == [0, 1, 2, 3, 4] and full.best_possible == 0.99
    assert arms.arms(full)[0].recipe.model.arguments["width"] == 16
    changed = Study.load(str(path), ["seeds=3", "set.data.batch=32", f"factors.{LR}=[1, 2]"])
    assert changed.run_seeds == [0, 1, 2] and changed.sized.set["data.batch"] == 32
    with pytest.raises(Refusal, match=r"set\.model\.width"):
        Study.load(str(path), ["model.width=3"])


def test_seeds_are_paired_unless_told_otherwise(written: Write) -> None:
    def seeds(**changes: Any) -> list[tuple[int, int]]:
        study = Study.load(str(written(**changes)))
        cells = arms.cells(study, arms.arms(study))
        return [(cell.seed, cell.recipe.seed) for cell in cells]

    assert seeds() == [(0, 0), (0, 0), (1, 1), (1, 1)]
    apart = seeds(paired=False)
    assert len({seed for _, seed in apart}) == 4 and [seed for seed, _ in apart] == [0, 0, 1, 1]
    noise = {"data.noise": {"symmetric": {"rate": 0.1}}}
    study = Study.load(str(written(set=noise, seeded=["data.noise.seed"], seeds=[4])))
    cells = arms.cells(study, arms.arms(study))
    assert all(cell.recipe.plain()["data"]["noise"]["seed"] == 4 for cell in cells)


def test_yaml_of_a_study_loads_again(written: Write) -> None:
    study = Study.load(str(written()))
    assert Study.check(yaml.safe_load(yaml.safe_dump(study.model_dump(mode="json")))) == study


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        ({"data.batch": 100_000}, "data.batch", "is more than the"),
        ({"model": "mlp"}, "model", "does not take inputs of shape (1, 8, 8)"),
        (
            {"data.train.transforms": ["python:nomodule:thing"]},
            "data.train.transforms.0",
            "nomodule",
        ),
    ],
)
def test_an_arm_that_cannot_run_is_refused_before_another_trains(
    written: Write, tmp_path: Path, changes: dict[str, Any], path: str, said: str
) -> None:
    arms = {"good": {}, "cannot": changes}
    vary = ["data", "model"]
    file = written(arms=arms, factors={}, vary=vary, allow=["parameter count"], seeds=1)
    out = tmp_path / "runs"
    refused = cli("study", file, "--out", out)
    assert refused.code == 2 and refused.err.count("\n") == 1, refused.err
    assert refused.err.startswith(f"error: {path}: arm 'cannot': ") and said in refused.err
    assert not out.exists(), "nothing has run"
    assert cli("study", file, "--only", "good", "--out", out).code == 0, "the other one can"


def test_a_run_before_the_arms_that_cannot_run_is_refused_too(
    written: Write, base: Path, tmp_path: Path
) -> None:
    before = {"first": {"recipe": str(base), "set": {"data.batch": 100_000}}}
    arms = {"scratch": {}, "warm": {"phases.0.init": "before.first"}}
    file = written(arms=arms, factors={}, before=before, seeds=1)
    refused = cli("study", file, "--out", tmp_path / "runs")
    assert refused.code == 2 and "data.batch: the run 'first' before the arms: " in refused.err
    assert not (tmp_path / "runs").exists()
