"""Data that the seeds change: each run's digest is of what it read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.run import Run
from datasets.refusal import Refusal
from search.studies import drive, ended
from search.studies.study import Study
from trainers.recipe import Recipe
from trainers.rooms import ROOT

Write = Callable[..., Path]


def test_each_seeds_data_have_their_own_digest(written: Write, base: Path, tmp_path: Path) -> None:
    quick = {"phases.0.epochs": 2, "log.tensorboard": False, "scale.threads": 1}
    curve = Recipe.load(str(ROOT / "recipes" / "curve.yaml")).override(quick)
    base.write_text(curve.yaml())
    path = written(metric="test/rmse", mode="min", seeded=["data.source.seed"])
    study, out = Study.load(str(path)), str(tmp_path / "runs")
    folder = drive.run(study, out=out)
    for entry in folder.entries:
        run = Run.open(folder.run_url(entry))
        assert entry.status == "finished" and entry.digest == run.json("data.json")["digest"]
    digests = {entry.seed: entry.digest for entry in folder.entries}
    assert len({*digests.values()}) == 2
    assert ended.whole(study, out)
    # As if the last seed's data alone had been others then.
    state = folder.state
    for cell in state["cells"]:
        if cell["seed"] == 1:
            cell["digest"] = "0" * 16
    folder.amend(cells=state["cells"])
    assert not ended.whole(study, out)
    with pytest.raises(Refusal, match="have changed since its runs"):
        drive.run(study, out=out)
