"""One study and several drivers: no trial too many or twice, the dead are noticed, and only what is the same is joined."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from cluster.run import Run
from datasets.refusal import Refusal
from search.tune import samplers, schedulers, shared, storage
from search.tune.folder import Folder, identity
from search.tune.records import Asked, Records
from search.tune.storage import database, is_database
from tests.commands import cli
from tests.driven import LAUNCH, PATIENCE, Driven
from tests.search.tune.postgresql import Server
from trainers.recipe import Recipe
from trainers.searching import Objective
from trainers.space import Space

ROOT = Path(__file__).resolve().parent.parent.parent.parent
LR = "phases.0.optim.main.lr"
SPACE = Space.parse({"lr": "loguniform(1e-4, 1)", "optim": "choice(sgd, adam)"})
pytestmark = pytest.mark.timeout(300)


def opened(url: str, owner: str) -> Records:
    return Records.open(
        "search",
        database(url),
        [Objective(metric="val/accuracy", mode="max")],
        sampler=samplers.random,
        pruner=schedulers.none(),
        space=SPACE,
        tree={},
        owner=owner,
    )


def test_drivers_together_begin_no_trial_too_many_and_none_twice(url: str) -> None:
    budget, drivers = 12, 4
    first = opened(url, "0")
    first.allow(budget)
    first.enqueue([{"lr": 0.01 * (n + 1), "optim": "sgd"} for n in range(6)])

    def work(records: Records) -> list[Asked]:
        mine = []
        while not records.full():
            if asked := records.ask():
                mine.append(asked)
                records.complete(asked.number, [0.5])
        return mine

    with ThreadPoolExecutor(drivers) as threads:
        taken = [*threads.map(work, [opened(url, str(n)) for n in range(drivers)])]
    numbers = [asked.number for mine in taken for asked in mine]
    assert len(numbers) == len({*numbers}) == budget == first.begun()
    queued = [asked for mine in taken for asked in mine if asked.number < 6]
    assert sorted(asked.changes["lr"] for asked in queued) == pytest.approx(
        [0.01 * (n + 1) for n in range(6)]
    )


def test_one_that_asks_when_others_took_the_last_gives_it_back(url: str) -> None:
    here, there = opened(url, "here"), opened(url, "there")
    here.allow(1)
    here.ask()
    assert there.ask() is None
    assert here.begun() == 1 and there.others()[0].number == 0
    here.allow(2)
    asked = there.ask()
    assert asked and asked.number == 1, "the one that was given back"


def test_the_silent_lose_their_trials_and_the_living_do_not(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(shared.time, "monotonic", lambda: now[0])
    here, dead, alive = (opened(url, owner) for owner in ("here", "dead", "alive"))
    here.allow(3)
    (lost, kept) = (dead.ask(), alive.ask())
    assert lost and kept
    dead_study = optuna.load_study(study_name="search", storage=url)
    dead_study.ask()  # killed before it said whose it is
    said: list[str] = []
    watching = shared.Presence(here, said.append)
    for owner in (dead, alive):
        shared.Presence(owner, said.append).beat()
    watching.look()
    now[0] = shared.SILENT_SECONDS
    shared.Presence(alive, said.append).beat()
    watching.look()
    states = [trial.state for trial in here.study.trials]
    assert states == [
        TrialState.FAIL,
        TrialState.RUNNING,
        TrialState.FAIL,
        TrialState.WAITING,
    ]
    assert "nothing was heard" in here.study.trials[0].user_attrs["why"] and len(said) == 2
    assert here.begun() == 1 and not here.full()
    again = here.ask()
    assert again and (again.number, again.changes) == (3, lost.changes)
    # Who was only cut off hears of it, and begins nothing anew.
    assert dead.report(lost.number, 1, 0.5) is True
    assert "nothing was heard" in str(dead.lost(lost.number))
    assert opened(url, "dead").unfinished() == []


def test_a_point_that_is_lost_twice_is_not_tried_a_third_time(url: str) -> None:
    here = opened(url, "here")
    here.allow(1)
    for number in range(2):
        asked = opened(url, f"there {number}").ask()
        assert asked and asked.number == number
        assert here.lose(here.others()[0], "gone")
    assert [trial.state for trial in here.study.trials] == [TrialState.FAIL] * 2
    assert here.full()


def test_of_two_who_see_a_trial_lost_one_puts_its_point_back(url: str) -> None:
    one, two = opened(url, "one"), opened(url, "two")
    opened(url, "dead").ask()
    (seen,), (also,) = one.others(), two.others()
    assert [one.lose(seen, "gone"), two.lose(also, "gone")] == [True, False]
    assert len(one.study.trials) == 2


@pytest.fixture
def recipe(digits: Recipe, tmp_path: Path) -> Callable[..., Path]:
    """`recipe(trials=4, ...)`: a file with a search over a net of 8 channels, two epochs a trial."""

    def write(**search: Any) -> Path:
        tree = digits.override({"scale.threads": 1, "data.source": "digits"}).plain()
        space = {LR: "loguniform(1e-3, 1)"}
        tree["search"] = {"trials": 4, "retrain": 0, "space": space, **search}
        path = tmp_path / "searched.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    return write


def test_what_is_not_the_same_is_not_joined(
    recipe: Callable[..., Path], url: str, tmp_path: Path
) -> None:
    def joined(*words: str) -> str:
        said = cli("search", "--join", *words, "--out", tmp_path / "joined")
        assert said.code == 2 and said.err.count("\n") == 1, said.err
        return said.err

    path = recipe()
    assert "no database is named" in joined(str(path))
    assert "no such search yet" in joined(url, str(path))
    secret = joined("postgresql://me:hunter2@db/search", str(path))
    assert "password" in secret and "hunter2" not in secret
    loaded = Recipe.load(path)
    # As if it had been begun here, with other words.
    other = loaded.override({"search.sampler": "random", "search.space": {LR: "choice(0.1, 1)"}})
    name = f"{loaded.name}-00000000"
    study = optuna.create_study(study_name=name, storage=url)
    study.set_user_attr(shared.IDENTITY, identity(other, "digest"))
    said = joined(url, str(path))
    assert "the recipe or its data" in said and "search.sampler" in said
    assert "search.space" in said and "search.seeds" not in said
    assert not [*tmp_path.glob("joined/*/search.json")]


def test_a_folder_keeps_its_part(recipe: Callable[..., Path], tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "joined"))
    folder.amend(status="finished", joined=True)
    folder.check_part(join=True)
    with pytest.raises(Refusal, match="has joined"):
        folder.check_part(join=False)
    folder.amend(joined=None)
    with pytest.raises(Refusal, match="the search itself"):
        folder.check_part(join=True)
    owner = folder.owner()
    assert owner == Folder(folder.url).owner() != Folder(str(tmp_path / "other")).owner()


def test_databases_are_told_from_folders() -> None:
    assert is_database("sqlite:////a.db") and is_database("postgresql+psycopg://host/name")
    assert not is_database("s3://bucket/runs") and not is_database("runs/search-1a2b3c4d")


class Driver(Driven):
    """A search which thinks others dead after a few seconds."""

    def __init__(self, out: Path, *words: object) -> None:
        hasty = (
            "from search.tune import shared; shared.BEAT_SECONDS, shared.SILENT_SECONDS = 0.3, 6"
        )
        program = f"{hasty}; {LAUNCH}"
        self.out = out
        super().__init__(
            "search", *words, "--out", out, log=out.with_suffix(".log"), program=program
        )

    @property
    def folder(self) -> Folder:
        (found,) = (path for path in self.out.iterdir() if path.is_dir())
        return Folder.open(str(found))


def trials_of(folder: Folder, url: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=folder.name, storage=url).trials


def begun(url: str) -> bool:
    studies = database(url).get_all_studies()
    return any(shared.IDENTITY in study.user_attrs for study in studies)


@pytest.mark.slow
def test_two_machines_search_as_one(recipe: Callable[..., Path], url: str, tmp_path: Path) -> None:
    path = recipe(trials=10, storage=url, retrain=1)
    first = Driver(tmp_path / "first", path)
    first.until("its study", lambda: begun(url))
    joined = Driver(tmp_path / "joined", "--join", url, path, "search.trials=3")
    assert joined.ended() == 0, joined.said
    assert first.ended() == 0, first.said
    trials = trials_of(first.folder, url)
    assert [trial.state.name for trial in trials if trial.state.name != "WAITING"] == [
        "COMPLETE"
    ] * 10
    runs = {
        driver: {int(Path(run).name) for run in driver.folder.trials()}
        for driver in (first, joined)
    }
    assert not runs[first] & runs[joined] and runs[first] | runs[joined] == {*range(10)}
    assert runs[joined], "the second took none: it came too late"
    for driver, numbers in runs.items():
        for number in numbers:
            assert Run.open(driver.folder.trial(number)).finished
            assert trials[number].user_attrs["owner"] == driver.folder.owner()
    best = max(trials, key=lambda trial: trial.value or 0.0)
    assert first.folder.state["best"]["values"] == [best.value]
    assert first.folder.state["scores"] and "best" not in joined.folder.state
    assert not (Path(joined.folder.url) / "best").exists()
    said = cli("search", joined.folder.url)
    assert said.code == 2 and "add --join" in said.err


@pytest.mark.slow
def test_one_machine_dies_and_the_other_ends_the_search(
    recipe: Callable[..., Path], url: str, tmp_path: Path
) -> None:
    path = recipe(trials=5, storage=url)
    first = Driver(tmp_path / "first", path, "search.parallel=1")
    first.until("its study", lambda: begun(url))
    joined = Driver(tmp_path / "joined", "--join", path, "phases.0.epochs=2")
    joined.until("a trial of its own", lambda: [*joined.out.glob("*/trials/*/metrics.jsonl")])
    joined.kill()
    (owner,) = {json.loads(file.read_text())["owner"] for file in joined.out.glob("*/search.json")}
    assert first.ended() == 0, first.said
    trials = trials_of(first.folder, url)
    lost = [trial for trial in trials if trial.user_attrs.get("lost")]
    assert lost and all(trial.state.name == "FAIL" for trial in lost), first.said
    assert all(owner in trial.user_attrs["why"] for trial in lost)
    whole = [trial for trial in trials if trial.state.name == "COMPLETE"]
    assert len(whole) == 5 and first.folder.state["status"] == "finished"
    retried = {trial.user_attrs["again"] for trial in whole if "again" in trial.user_attrs}
    assert retried == {trial.number for trial in lost}
    for trial in lost:
        points = [other.params for other in whole]
        assert trial.params in points, "a point was lost"
    assert "failed: nothing was heard" in first.said


def test_a_database_that_is_started_again_loses_nothing(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    records = opened(postgresql.database("restarted"), "here")
    records.allow(2)
    asked = records.ask()
    assert asked
    postgresql.stop()
    with ThreadPoolExecutor(1) as threads:
        try:
            told = threads.submit(records.complete, asked.number, [0.5])
            deadline = time.monotonic() + PATIENCE
            while "waiting for the database" not in caplog.text:
                assert time.monotonic() < deadline and not told.done()
                time.sleep(0.01)
        finally:
            postgresql.start()
        told.result(PATIENCE)
    assert records.study.trials[0].state == TrialState.COMPLETE and records.ask()
    postgresql.stop()
    monkeypatch.setattr(storage, "PATIENCE_SECONDS", 0.0)
    try:
        with pytest.raises(Refusal) as silent, storage.answering(str(postgresql.url)):
            records.report(1, 1, 0.5)
    finally:
        postgresql.start()
    assert "refused" in str(silent.value) and "the same command goes on" in str(silent.value)


def test_one_leads_while_it_lives(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "BEAT_SECONDS", 0.2)
    said: list[str] = []
    first, second = opened(url, "first"), opened(url, "second")
    shared.lead(first, said.append)
    with shared.Presence(first, said.append):
        shared.lead(first, said.append)  # started again
        with pytest.raises(Refusal, match="another machine leads the search: first"):
            shared.lead(second, said.append)
    assert len(said) == 1
    shared.lead(second, said.append)  # the first said good-bye
    assert len(said) == 1
    shared.Presence(second, said.append).beat()  # and is killed
    shared.lead(first, said.append)
    assert len(said) == 2 and first.study.user_attrs[shared.LEADER] == "first"
