"""A search read from its folder: whatever its state, wherever it is, whoever writes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datasets.refusal import Refusal
from search.trials import found, page
from tests.search.trials.conftest import Make
from tests.search.trials.searched import BATCH, LR, MOMENTUM, NAME, Searched
from trainers.space import Space


def test_the_table_says_how_each_trial_ended(seen: Searched) -> None:
    table = seen.read().table
    assert [*table["state"]] == ["complete"] * 5 + ["pruned", "fail", "running"]
    assert [*table.index] == [*range(8)]
    assert table["val/accuracy"].dropna().tolist() == [0.9, 0.95, 0.85, 0.93, 0.8]
    assert table.at[5, "reached"] == 0.2 and np.isnan(table.at[5, "val/accuracy"])
    assert table["evaluations"].tolist() == [3] * 5 + [1, 0, 0]
    assert table["seconds"].sum() == 54 and table["seconds"].isna().sum() == 2
    assert table.at[6, "why"] == "Refusal: the batch <b>burnt</b> & fell"
    assert table.at[0, "why"] is None
    assert table[MOMENTUM].isna().tolist()[3:6] == [True] * 3, "adamw has no momentum"
    assert table[LR].dtype == float and table[BATCH].dtype == "int64"
    assert [*seen.read().complete.index] == [1, 3, 0, 2, 4]


def test_curves_hold_what_was_reported(seen: Searched) -> None:
    curves = seen.read().curves
    assert sorted(curves) == [0, 1, 2, 3, 4, 5]
    assert curves[1].to_dict() == pytest.approx({1: 0.75, 2: 0.85, 3: 0.95})


def test_nothing_has_happened_yet(make: Make) -> None:
    search = make().read()
    assert len(search.table) == len(search.complete) == 0
    assert (search.front, search.curves, search.retrained) == ([], {}, [])
    assert BATCH in search.table.columns


def test_the_same_point_again_is_no_trial_of_its_own(make: Make) -> None:
    search = make()
    search.ended(0.9)
    again = search.ask()
    search.records.repeat(again.number, search.records.study.trials[0])
    table = search.read().table
    assert table["same_as"].tolist() == [pd.NA, 0]
    assert [*search.read().complete.index] == [0]


def test_less_may_be_better(make: Make) -> None:
    search = make(metric="val/loss", mode="min")
    for value in (0.5, 0.2, 0.9, 0.2):
        search.ended(value)
    assert [*search.read().complete.index] == [1, 3, 0, 2], "of two alike the first"


@pytest.mark.parametrize("modes", [("max", "min"), ("min", "max"), ("max", "max")])
def test_the_front_is_that_of_a_brute_force(make: Make, modes: tuple[str, str]) -> None:
    names = ("val/accuracy", "val/macro_f1")
    search = make(objectives=[{"metric": n, "mode": m} for n, m in zip(names, modes, strict=True)])
    random = np.random.Generator(np.random.PCG64(1))
    points = random.integers(0, 6, (30, 2)) / 10  # with ties
    for one, other in points.tolist():
        search.ended(one, other)
    signs = [1 if mode == "max" else -1 for mode in modes]

    def beats(a: np.ndarray, b: np.ndarray) -> bool:
        better = [s * (x - y) for s, x, y in zip(signs, a, b, strict=True)]
        return min(better) >= 0 and max(better) > 0

    front = [n for n, point in enumerate(points) if not any(beats(o, point) for o in points)]
    assert search.read().front == front and 0 < len(front) < 30


def test_a_null_that_was_drawn_is_not_nothing(make: Make) -> None:
    clip = "phases.0.optim.main.clip"
    search = make(space={NAME: "choice(sgd, adamw)", clip: f"choice(null, 1.0) if {NAME} == sgd"})
    search.ended(0.9, point={NAME: "sgd", clip: None})
    search.ended(0.8, point={NAME: "sgd", clip: 1.0})
    search.ended(0.7, point={NAME: "adamw"})
    drawn = search.read().table[clip]
    assert drawn[0] is None and drawn[1] == 1.0 and np.isnan(drawn[2])


def test_names_are_short_as_far_as_they_tell_apart(make: Make) -> None:
    other = "phases.0.schedule.name"
    space = {NAME: "choice(sgd, adamw)", LR: "loguniform(1e-3, 1)", other: "choice(cosine)"}
    space |= {"seed": "randint(0, 9)", "data.splits.seed": "randint(0, 9)"}
    labels = make(space=space).read().labels
    assert labels == {
        NAME: "optim.name",
        LR: "lr",
        other: "schedule.name",
        "seed": "seed",
        "data.splits.seed": "data.splits.seed",
    }


@pytest.mark.parametrize("name", ["digits-1a2b3c4d", "copy of it"])
def test_a_folder_that_was_moved_is_read_where_it_is(
    seen: Searched, tmp_path: Path, name: str
) -> None:
    url = f"{seen.folder.url}/best/seed-1/digits-0a1b2c3d"
    Path(url).mkdir(parents=True)
    seen.folder.amend(retrained=[url])
    moved = Path(shutil.copytree(seen.folder.url, tmp_path / "elsewhere" / name))
    shutil.rmtree(seen.folder.url)
    search = found.read(str(moved))
    assert len(search.table) == 8
    assert [run.url for run in search.retrained] == [f"{moved}/best/seed-1/digits-0a1b2c3d"]
    assert Path(search.retrained[0].url).is_dir()
    assert search.run(3).url == f"{moved}/trials/0003"


def test_its_driver_is_in_the_middle_of_a_line(seen: Searched) -> None:
    with Path(seen.folder.url, "search.journal").open("ab") as file:
        file.write(b'{"op_code": 4, "work')
    assert len(seen.read().table) == 8


def test_what_was_read_is_of_one_moment(seen: Searched) -> None:
    search = seen.read()
    seen.ended(0.99)
    assert len(search.table) == 8 and len(seen.read().table) == 9


def test_records_in_a_database(make: Make, tmp_path: Path) -> None:
    search = make(storage=f"sqlite:///{tmp_path}/search.db")
    search.ended(0.9, curve=[0.5, 0.9])
    search.pruned([0.1])
    assert not Path(search.folder.url, "search.journal").exists()
    assert [*search.read().table["state"]] == ["complete", "pruned"]
    moved = Path(search.folder.url).rename(tmp_path / "called otherwise")
    assert [*found.read(str(moved)).table["state"]] == ["complete", "pruned"]


def test_trials_that_another_search_made_are_not_its_own(make: Make) -> None:
    search = make()
    search.ended(0.5)
    told = search.records.study
    other = told.ask()
    other.set_user_attr("changes", json.dumps({LR: 0.1}))
    other.set_user_attr("elsewhere", "another#0")
    told.tell(other, 0.99)
    assert [*search.read().table.index] == [0]


def test_no_search_and_no_records_are_refused(tmp_path: Path, make: Make) -> None:
    with pytest.raises(Refusal, match="no search here"):
        found.read(str(tmp_path))
    search = make()
    Path(search.folder.url, "search.journal").unlink()
    with pytest.raises(Refusal, match="no records yet"):
        search.read()


def test_a_search_in_object_storage(make: Make, bucket: str) -> None:
    search = make(bucket)
    search.ended(0.9, hits=[True] * 9 + [False], curve=[0.5, 0.9])
    search.ended(0.8, hits=[True] * 8 + [False] * 2, point={NAME: "adamw", LR: 0.01, BATCH: 32})
    read = search.read()
    assert read.complete["val/accuracy"].tolist() == [0.9, 0.8]
    written = page.write(search.folder.url)
    assert written.startswith("s3://") and written.endswith("/report.html")
    assert "It gets 1 of 10 validation rows more" in page.html(read)


def test_a_setting_may_be_called_as_a_column_is(make: Make) -> None:
    search = make().read()
    search.__dict__["space"] = Space.parse(
        {"model.state": "choice(a, b)", "model.trial": "choice(1, 2)"}
    )
    assert search.labels == {"model.state": "model.state", "model.trial": "model.trial"}
