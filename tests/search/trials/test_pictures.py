"""The pictures of a search, drawn for notebooks: all that there is to see, and words where there is nothing yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from search.trials import found, pictures
from search.tune import samplers, schedulers
from search.tune.folder import Folder
from search.tune.records import Records
from search.tune.storage import Journal
from trainers.recipe import Recipe
from trainers.searching import Objective
from trainers.space import Space

LR = "phases.0.optim.main.lr"
SPACE = {LR: "loguniform(1e-3, 1)", "data.batch": "choice(32, 64)"}


@pytest.fixture
def records(tmp_path: Path, digits: Recipe) -> Records:
    folder = Folder(str(tmp_path / "digits-1a2b3c4d"))
    Path(folder.url).mkdir()
    tree = digits.plain() | {"search": {"space": SPACE}}
    Path(folder.url, "search.yaml").write_text(yaml.safe_dump(tree))
    return Records.open(
        folder.name,
        Journal(folder.url).storage(),
        [Objective(metric="val/accuracy")],
        sampler=samplers.random,
        pruner=schedulers.none(),
        space=Space.parse(SPACE),
        tree=tree,
        owner=folder.name,
    )


def titles(figure: Any) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes if axes.axison]


def test_six_trials_show_how_it_went_and_what_mattered(records: Records, tmp_path: Path) -> None:
    for number in range(6):
        asked = records.ask()
        assert asked
        records.report(number, 1, 0.5)
        records.report(number, 2, 0.5 + asked.changes[LR] / 2)
        records.complete(number, [0.5 + asked.changes[LR] / 2])
    search = found.read(str(tmp_path / "digits-1a2b3c4d"))
    assert titles(pictures.course(search)) == [
        "val/accuracy by trial",
        "val/accuracy, best so far in each trial",
    ]
    mattered, plane = pictures.mattered(search).axes
    assert mattered.get_title(loc="left") == "What mattered, by 6 finished trials"
    assert [text.get_text() for text in mattered.texts][-1] == "lr", "which alone decides"
    assert len(plane.collections[0].get_offsets()) == 6
    assert sorted(titles(pictures.slices(search))) == ["batch", "lr"]


def test_a_search_that_has_just_begun_says_so(records: Records, tmp_path: Path) -> None:
    assert records.ask()
    search = found.read(str(tmp_path / "digits-1a2b3c4d"))
    figure = pictures.mattered(search)
    assert figure.texts[0].get_text() == "fewer than 5 trials ran to their end"
    assert titles(figure) == []
