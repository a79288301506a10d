"""What is said of a search: true, in whole sentences, and without a word that only a computer would say."""

from __future__ import annotations

import re

import numpy as np
import pytest

from search.trials import doubt, page, words
from search.trials.doubt import Doubt, Optimism, Versus
from search.trials.found import Found
from tests.search.trials.conftest import Make
from tests.search.trials.searched import BATCH, LR, MOMENTUM, NAME, Searched, row

FOREIGN = re.compile(r"\b(nan|NaN|None|NaT|<NA>|inf|True|False|dtype)\b")
BOTH = [{"metric": "val/accuracy"}, {"metric": "parameters", "mode": "min"}]


def said(search: Searched) -> list[str]:
    found = search.read()
    return words.sentences(found, doubt.of(found))


def tiles(search: Searched) -> dict[str, tuple[str, str]]:
    found = search.read()
    return {tile.label: (tile.value, tile.more) for tile in words.tiles(found, doubt.of(found))}


def test_nothing_yet(make: Make) -> None:
    search = make()
    assert said(search) == ["No trial has run to its end yet: no trial was begun."]
    search.ask()
    assert said(search) == ["No trial has run to its end yet: of 1 trial, 1 is still running."]
    search.ask()
    search.failed("x")
    assert said(search) == [
        "No trial has run to its end yet: of 3 trials, 1 failed and 2 are still running."
    ]


def test_the_first_sentence_counts_every_trial_once(make: Make) -> None:
    search = make()
    search.ended(0.9)
    assert said(search) == [
        "Trial 0000 is the best: validation accuracy 90.0 % (of 1 trial, 1 ran to the end)."
    ]
    again = search.ask()
    search.records.repeat(again.number, search.records.study.trials[0])
    search.pruned([0.1])
    search.failed("x")
    assert (
        "(of 4 trials, 1 ran to the end, 1 ended early, 1 failed and 1 had the point of another)"
        in (said(search)[0])
    )


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (
            0.80,
            "It gets 20 of 200 validation rows more than the runner-up, trial 0001, right: beyond",
        ),
        (
            0.895,
            "It gets 1 of 200 validation rows more than the runner-up, trial 0001, right: within",
        ),
        (0.90, "It gets as many validation rows as the runner-up, trial 0001, right: within"),
    ],
)
def test_the_runner_up_on_the_same_rows(make: Make, score: float, expected: str) -> None:
    search = make()
    search.ended(0.9, hits=row(0.9))
    search.ended(score, hits=row(score))
    told = said(search)
    assert told[1].startswith(expected) and "McNemar" in told[1]
    assert not any("tested one by one" in each for each in told), "there is but one other"


def test_how_many_cannot_be_told_from_the_best(make: Make) -> None:
    search = make()
    for score in (0.9, 0.895, 0.5):
        search.ended(score, hits=row(score))
    assert said(search)[2].startswith("1 of the 2 other finished trials cannot be told")
    clear = make("clear")
    for score in (0.9, 0.5, 0.4):
        clear.ended(score, hits=row(score))
    assert said(clear)[2].startswith("The 2 other finished trials are all told from it")


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({}, "is 2.0 points behind; whether that is noise, more seeds would tell"),
        ({"n": 3, "mean": 0.9, "sd": 0.02}, "behind, within twice the spread of the winner's own seeds (sd 2.0 points)."),
        ({"n": 3, "mean": 0.9, "sd": 0.005}, "behind, beyond twice the spread"),
        ({"n": 1, "mean": 0.9, "sd": None}, "more seeds would tell"),
    ],
)  # fmt: skip
def test_without_predictions_the_seeds_tell(make: Make, scores: dict, expected: str) -> None:
    search = make()
    search.ended(0.92)
    search.ended(0.90)
    search.folder.amend(scores={"val/accuracy": scores} if scores else {})
    assert expected in said(search)[1]


def test_two_that_came_to_the_same(make: Make) -> None:
    search = make(metric="val/loss", mode="min")
    search.ended(0.2)
    search.ended(0.2)
    assert said(search)[1] == "The runner-up, trial 0001, came to the same."


def test_a_loss_is_no_share(make: Make) -> None:
    search = make(metric="val/loss", mode="min")
    search.ended(0.25)
    search.ended(0.5)
    told = said(search)
    assert "validation loss 0.25 " in told[0] and "is 0.25 behind" in told[1]


@pytest.mark.parametrize(
    ("corrected", "expected"),
    [
        (0.87, "looks better than it is, here by about 3.0 points: 87.0 % is what"),
        (0.9, "may look better than it is, though nothing of that shows here: 90.0 %"),
        (0.91, "may look better than it is, though nothing of that shows here: 91.0 %"),
    ],
)
def test_the_luck_of_being_chosen(make: Make, corrected: float, expected: str) -> None:
    search = make()
    search.ended(0.9)
    luck = Optimism(0.9, corrected, 0.8, 0.95, trials=12, rows=270)
    found = search.read()
    (told,) = words.sentences(found, Doubt(None, 0, 0, luck))[1:]
    assert told.startswith("The best of 12 on one validation set of 270 rows ")
    assert expected in told and "(95 % interval 80.0 to 95.0 %, bootstrap of the choice" in told
    shown = {tile.label: tile for tile in words.tiles(found, Doubt(None, 0, 0, luck))}
    assert shown["Without the luck of being chosen"].more == "95 %: 80.0 to 95.0 %"


def test_the_winner_trained_anew(make: Make) -> None:
    search = make()
    search.ended(0.9)
    val = {"n": 3, "mean": 0.89, "sd": 0.01}
    search.folder.amend(scores={"val/accuracy": val, "test/accuracy": {**val, "mean": 0.88}})
    assert said(search)[-1] == (
        "Trained anew over 3 new seeds, it comes to validation accuracy 89.0 % ± 1.0 points (sd) and "
        "test accuracy 88.0 % ± 1.0 points (sd); the test split was opened once a run."
    )
    assert tiles(search)["Winner, test accuracy"] == ("88.0 %", "± 1.0 points over 3 seeds")
    search.folder.amend(scores={"val/accuracy": {"n": 1, "mean": 0.89, "sd": None}})
    assert said(search)[-1] == (
        "Trained anew with one new seed, it comes to validation accuracy 89.0 %."
    ), "without a test split none was opened"
    search.folder.amend(scores={"test/accuracy": {"n": 1, "mean": 0.89, "sd": None}})
    assert tiles(search)["Winner, test accuracy"] == ("89.0 %", "one run")


def test_several_goals(make: Make) -> None:
    search = make(objectives=BOTH)
    search.ended(0.9, 1000.0)
    assert said(search)[0] == (
        "1 of 1 finished trial is beaten by no other in validation accuracy and parameters: 0000 "
        "(of 1 trial, 1 ran to the end)."
    )
    search.ended(0.8, 10.0)
    search.ended(0.7, 2000.0)
    assert said(search)[0].startswith("2 of 3 finished trials are beaten by no other in")
    for step in range(9):
        search.ended(0.7 - step / 100, 9.0 - step)
    assert ", 0008 and 3 more (of" in said(search)[0]
    search.folder.amend(scores={"test/accuracy": {"n": 2, "mean": 0.89, "sd": 0.01}})
    assert "Trained anew over 2 new seeds, trial 0000 comes to test accuracy" in said(search)[-1]


def test_seeds_of_a_trial_are_said(make: Make) -> None:
    search = make(seeds=3)
    search.ended(0.9)
    assert tiles(search)["Best validation accuracy"] == ("90.0 %", "mean of 3 runs")


@pytest.mark.parametrize("seeds", [1, 2])
def test_costs_by_hand(make: Make, seeds: int) -> None:
    """Ten evaluations are a whole run: 2 of 10 at 3 s each leave 24 s, 5 of 10 at 1 s each leave 5 s."""
    search = make(seeds=seeds)
    for _ in range(3):
        search.ended(0.9, curve=[0.9] * 10, seconds=30.0)
    search.pruned([0.1] * 2, seconds=6.0)
    search.pruned([0.1] * 5, seconds=5.0)
    search.failed("x")
    search.ask()
    found = search.read()
    saved = 24.0 + 5.0 + (seeds - 1) * (30.0 + 10.0)
    assert words.cost(found) == words.Cost(90 + 11.0, pytest.approx(saved))
    assert tiles(search)["Trial time"][0] == "1 min 41 s"


def test_nothing_is_saved_where_nothing_ended(make: Make) -> None:
    search = make()
    search.pruned([0.1])
    assert words.cost(search.read()) == words.Cost(4.0, 0.0)
    assert tiles(search)["Trial time"] == ("4 s", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.000123456, "0.000123"),
        (2048.0, "2,048"),
        (64, "64"),
        (0.5, "0.5"),
        (12345.6, "12,346"),
        (True, "true"),
        (None, "null"),
        ("sgd", "sgd"),
        ({"name": "mynet", "width": 8}, '{"name": "mynet", "width": 8}'),
        (float("nan"), "–"),
    ],
)
def test_settings_are_said_as_recipes_have_them(value: object, text: str) -> None:
    assert words.setting(value) == text


def random_search(make: Make, seed: int) -> Found:
    """Any search: goals, seeds, ends, with and without predictions, retrained or not."""
    random = np.random.Generator(np.random.PCG64(seed))
    wish = random.choice(["one", "loss", "two", "seeds"])
    options: dict = {
        "one": {},
        "loss": {"metric": "val/loss", "mode": "min"},
        "two": {"objectives": BOTH},
        "seeds": {"seeds": 2},
    }[str(wish)]
    space = {
        NAME: "choice(sgd, adamw)",
        LR: "loguniform(1e-4, 1e-1)",
        MOMENTUM: f"uniform(0.5, 0.99) if {NAME} == sgd",
        BATCH: "choice(32, 64)",
        "phases.0.optim.main.clip": "choice(null, 0.5)",
        "scale.sync_bn": "choice(true, false)",
    }
    search = make(f"runs-{seed}", space=space, **options)
    keeps = random.random() < 0.7
    for _ in range(int(random.integers(0, 9))):
        end, score = random.random(), float(random.integers(0, 101)) / 100
        if end < 0.6:
            hits = row(score, 60) if keeps and random.random() < 0.9 else None
            values = [score, float(random.integers(1, 10**6))][: len(search.goals)]
            curve = [] if wish == "two" else [score / 2, score]
            seconds = float(random.random()) if random.random() < 0.8 else None
            search.ended(*values, hits=hits, curve=curve, seconds=seconds)
        elif end < 0.75 and wish != "two":
            search.pruned([score], seconds=None if random.random() < 0.5 else 1.0)
        elif end < 0.9:
            search.failed("a <b>reason</b> & more")
        else:
            search.ask()
    if random.random() < 0.5:
        sd = None if random.random() < 0.5 else 0.01
        told = {"n": 1 if sd is None else 3, "mean": 0.5, "sd": sd}
        search.folder.amend(scores={"val/accuracy": told, "test/accuracy": told})
    return search.read()


@pytest.mark.parametrize("seed", range(25))
def test_no_search_is_spoken_of_in_a_foreign_tongue(make: Make, seed: int) -> None:
    found = random_search(make, seed)
    doubts = doubt.of(found)
    told = words.sentences(found, doubts)
    assert told and all(re.fullmatch(r"[A-Z0-9].*[^.]\.", each) for each in told), told
    told += [f"{t.label} {t.value} {t.more}" for t in words.tiles(found, doubts)]
    told += [cell.text for line in page.sheet(found).rows for cell in line]
    assert not [each for each in told if FOREIGN.search(each)]
    assert not [each for each in told if re.search(r"\b1 (trials|rows|seeds)\b|  | ,|\(\)", each)]


def test_a_p_value_is_never_more_than_one() -> None:
    assert Versus(0, 1, 0, 0, 10).p == 1.0
