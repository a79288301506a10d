"""`data replay`: a step's batch, found again by its number alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cluster.run import Run
from tests.commands import cli


def test_data_replay_shows_the_batch(finished: Run) -> None:
    said = cli("data", "replay", finished.url, "--step", 21, "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert (told["phase"], told["epoch"]) == (0, 1)
    arrays = np.load(told["arrays"])
    assert arrays["id"].tolist() == told["sample_ids"] and arrays["image"].dtype == np.uint8
    assert Path(told["pictures"]).stat().st_size > 5_000
    for step in (0, 39):
        said = cli("data", "replay", finished.url, "--step", step)
        assert said.code == 2 and "use 1 .. 38" in said.err
