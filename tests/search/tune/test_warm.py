"""A search that begins with what others found: what fits is known to its sampler, and counts as nobody's here."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from datasets.refusal import Refusal
from search.tune import reading, samplers, schedulers, warm
from search.tune.folder import Folder
from search.tune.records import Records
from search.tune.storage import Journal, database
from tests.commands import cli
from trainers.recipe import Recipe
from trainers.searching import Objective, Search
from trainers.space import Space

LR = "phases.0.optim.main.lr"
WORDS = {
    "lr": "loguniform(1e-3, 1)",
    "batch": "choice(32, 64, 128)",
    "momentum": "uniform(0.5, 0.99) if optim == sgd",
    "optim": "weighted(sgd: 3, adam: 1)",
    "width": "normal(64, 8)",
    "dropout": "quniform(0, 0.5, 0.1)",
}
GOALS = [Objective(metric="val/accuracy")]


def opened(url: str, name: str, words: dict[str, str] = WORDS, **options: Any) -> Records:
    chosen = {
        "sampler": samplers.random,
        "pruner": schedulers.none(),
        "tree": {"name": "x", "seed": 0},
        **options,
    }
    return Records.open(
        name,
        database(url),
        chosen.pop("goals", GOALS),
        space=Space.parse(words),
        owner=name,
        **chosen,
    )


def worked(records: Records, values: list[float]) -> Records:
    for value in values:
        asked = records.ask()
        assert asked
        records.report(asked.number, 1, value / 2)
        records.complete(asked.number, [value])
    return records


def added(records: Records, *sources: str) -> list[str]:
    search = Search(space={"lr": "uniform(0, 1)"}, warm=[*sources])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Optuna's, of a value that is out of its range
        return [*warm.add(records, warm.studies(search))]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/search.db"


def test_what_others_found_is_known_once_and_never_counted(url: str) -> None:
    other = worked(opened(url, "other"), [0.5, 0.99, 0.7])
    asked = other.ask()
    assert asked
    other.report(asked.number, 1, 0.25)
    other.prune(asked.number)
    failed = other.ask()
    assert failed
    other.fail(failed.number, "it caught fire")
    other.ask()  # still runs
    records = opened(url, "new")
    records.allow(2)
    (line,) = added(records, f"{url}#other")
    assert line.startswith("4 trials of other are known beforehand (0 do not fit")
    known = records.study.trials
    theirs = other.study.trials[:4]
    assert [trial.state for trial in known] == [trial.state for trial in theirs]
    changes = [[trial.user_attrs["changes"] for trial in trials] for trials in (known, theirs)]
    assert changes[0] == changes[1]
    assert [trial.distributions for trial in known] == [trial.distributions for trial in theirs]
    assert [trial.values for trial in known] == [[0.5], [0.99], [0.7], [0.25]]
    assert known[3].intermediate_values == {1: 0.25} and known[0].intermediate_values == {}
    assert "trial 1 of other" in known[1].user_attrs["elsewhere"]
    # Told again, at the next start, it is all there.
    again = opened(url, "new")
    added(again, f"{url}#other", f"{url}#other")
    assert len(again.study.trials) == 4
    assert again.begun() == 0 and again.best() is None and not again.full()
    # The same point is run here all the same, for its score is another recipe's.
    again.enqueue([json.loads(known[1].user_attrs["changes"])])
    mine = again.ask()
    assert mine and mine.changes == json.loads(known[1].user_attrs["changes"])
    assert again.known(mine) is None
    again.complete(mine.number, [0.1])
    best = again.best()
    assert best and best.number == mine.number == 4 and best.values == [0.1]
    assert again.begun() == 1 and again.expected() == 6


def test_what_does_not_fit_is_counted(url: str) -> None:
    worked(opened(url, "other"), [0.5] * 4)
    name = f"{url}#other"

    def fits(words: dict[str, str], **options: Any) -> int:
        count = len(optuna.get_all_study_names(url))
        (line,) = added(opened(url, f"new {count}", words, **options), name)
        number = int(line.split()[0])
        assert f"({4 - number} do not" in line
        return number

    assert fits({**WORDS, "lr": "loguniform(1e-9, 1e-8)"}) == 0, "out of the range"
    assert fits({**WORDS, "more": "uniform(0, 1)"}) == 0, "a dimension that it knows nothing of"
    assert fits({path: said for path, said in WORDS.items() if path != "batch"}) == 0
    assert fits({**WORDS, "dropout": "quniform(0, 0.5, 0.25)"}) < 4
    assert fits({**WORDS, "batch": "choice(32, 64, 128, 256)", "lr": "uniform(0, 2)"}) == 4
    assert fits(WORDS, goals=[Objective(metric="val/loss", mode="min")]) == 0
    assert fits(WORDS, goals=[Objective(metric="val/accuracy", mode="min")]) == 0


def test_what_another_changed_must_be_as_this_recipe_has_it() -> None:
    space = Space.parse({"lr": "uniform(0, 1)", "name": "mine"})
    tree = {"name": "x", "data": {"batch": 64}}
    assert warm.fitting(space, tree, {"lr": 0.5, "name": "mine", "data.batch": 64})
    assert warm.fitting(space, tree, {"lr": 0.5, "name": "x"}) is None, "a constant of ours"
    assert warm.fitting(space, tree, {"lr": 0.5, "data.batch": 32}) is None


def test_a_study_that_manta_did_not_make(url: str) -> None:
    study = optuna.create_study(study_name="foreign", storage=url, direction="maximize")
    study.set_metric_names(["val/accuracy"])

    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_float("lr", 1e-5, 10, log=True)

    study.enqueue_trial({"lr": 0.5})
    study.enqueue_trial({"lr": 5.0})
    study.optimize(objective, n_trials=2)
    records = opened(url, "new", {"lr": "loguniform(1e-3, 1)"})
    (line,) = added(records, f"{url}#foreign")
    assert "1 trials of foreign" in line and "(1 do not fit" in line
    assert [trial.params for trial in records.study.trials] == [{"lr": 0.5}]


def test_a_sampler_draws_where_others_were_well(url: str) -> None:
    words = {"lr": "uniform(0, 1)"}
    other = opened(url, "other", words)
    for number in range(20):
        asked = other.ask()
        assert asked
        other.complete(number, [-abs(asked.changes["lr"] - 0.8)])
    records = opened(url, "new", words, sampler=samplers.tpe)
    added(records, f"{url}#other")
    drawn = []
    for _ in range(8):
        asked = records.ask()
        assert asked
        drawn.append(asked.changes["lr"])
        records.complete(asked.number, [-abs(drawn[-1] - 0.8)])
    assert sorted(drawn)[2] > 0.55, f"cold, ten would be drawn evenly: {drawn}"


def test_what_was_told_to_another_is_not_passed_on(url: str) -> None:
    worked(opened(url, "a"), [0.5])
    between = opened(url, "b")
    added(between, f"{url}#a")
    worked(between, [0.6])
    records = opened(url, "c")
    (line,) = added(records, f"{url}#b")
    assert line.startswith("1 trials of b") and "(0 do not" in line
    assert [trial.values for trial in records.study.trials] == [[0.6]]


@pytest.fixture
def folder(tmp_path: Path, digits: Recipe) -> Folder:
    """A search folder as its driver leaves it, with two trials in a journal."""
    found = Folder(str(tmp_path / "runs" / "old-1a2b3c4d"))
    tree = digits.plain()
    tree["search"] = {"space": {LR: "loguniform(1e-3, 1)"}}
    Path(found.url).mkdir(parents=True)
    Path(found.url, "search.yaml").write_text(yaml.safe_dump(tree))
    records = Records.open(
        found.name,
        Journal(found.url).storage(),
        GOALS,
        sampler=samplers.random,
        pruner=schedulers.none(),
        space=Space.parse(tree["search"]["space"]),
        tree=tree,
        owner=found.name,
    )
    worked(records, [0.25, 1.0])
    return found


def test_a_journal_is_read_while_its_driver_writes(folder: Folder) -> None:
    path = Path(folder.url, "search.journal")
    half = b'{"op_code": 4, "work'
    path.write_bytes(path.read_bytes() + half)
    before = path.read_bytes()
    study = reading.of_folder(folder)
    assert [trial.value for trial in study.trials] == [0.25, 1.0]
    assert path.read_bytes() == before, "a reader mends nothing"
    with pytest.raises(Refusal, match="only read"):
        study.set_user_attr("a", 1)
    path.write_bytes(before.removesuffix(half))
    journal = Journal(folder.url).storage()
    optuna.load_study(study_name=folder.name, storage=journal).ask()
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2 + [
        TrialState.RUNNING
    ]


def test_sources_that_are_not_there(folder: Folder, url: str, tmp_path: Path) -> None:
    worked(opened(url, "one"), [0.5])
    assert reading.named(url, None).study_name == "one"
    assert reading.named("#one", url).study_name == "one"
    opened(url, "two")
    with pytest.raises(Refusal, match="not named -- write URL#study; it has one, two"):
        reading.named(url, None)
    with pytest.raises(Refusal, match="no study 'three'"):
        reading.named(f"{url}#three", None)
    with pytest.raises(Refusal, match="no search here"):
        reading.named(str(tmp_path), None)
    with pytest.raises(Refusal, match="no such file"):
        reading.named(f"sqlite:///{tmp_path}/typo.db#one", None)
    assert not (tmp_path / "typo.db").exists()
    with pytest.raises(Refusal, match="password"):
        reading.named("postgresql://me:hunter2@db/search#one", None)
    with pytest.raises(Refusal, match="no database"):
        reading.named("#one", None)
    # The environment's may hold one.
    with pytest.raises(Refusal) as caught:
        reading.named("#one", "postgresql://me:hunter2@localhost:1/search")
    assert "hunter2" not in str(caught.value)
    Path(folder.url, "search.journal").unlink()
    with pytest.raises(Refusal, match="no records yet"):
        reading.named(folder.url, None)


def test_a_warm_search_from_the_command_line(
    folder: Folder, digits: Recipe, tmp_path: Path
) -> None:
    tree = digits.override({"scale.threads": 1, "phases.0.epochs": 1}).plain()
    space = {LR: "loguniform(1e-3, 1)"}
    tree["search"] = {"trials": 1, "retrain": 0, "space": space, "warm": [folder.url]}
    path = tmp_path / "warm.yaml"
    path.write_text(yaml.safe_dump(tree))
    said = cli("search", path, "--out", tmp_path / "new")
    assert said.code == 0, said.err
    assert "2 trials of old-1a2b3c4d are known beforehand (0 do not fit" in said.err
    (new,) = (Folder.open(str(each)) for each in (tmp_path / "new").iterdir())
    assert new.state["best"]["trial"] == 2, "the only one of ours, though theirs was better"
    assert new.state["best"]["values"][0] < 1.0
    assert len(reading.of_folder(new).trials) == 3
    cold = Recipe.load(path, ["search.warm=[]"])
    assert Folder.of(cold, "d", "out") == Folder.of(Recipe.load(path), "d", "out")
    import ray

    ray.shutdown()
