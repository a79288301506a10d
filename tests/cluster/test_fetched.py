"""What a run fetched from afar is counted: in its rows, its summary, its checkpoints, over restarts and ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cluster.session import Local
from datasets import cached, store
from datasets.shards import open_dataset
from search import facts
from trainers import summary
from trainers.engine import fit
from trainers.recipe import Recipe

KEYS = {"fetched_bytes", "fetch_requests", "fetch_retries", "cache_hits"}


@pytest.fixture
def remote(digits: Recipe, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """digits.yaml from a bucket, with a cache that holds nothing yet."""
    url = cached.ensure("digits", {}, fractions={"val": 0.15, "test": 0.15}, seed=0)
    store.upload(url, f"{bucket}/digits")
    monkeypatch.setenv("MANTA_CACHE", str(tmp_path / "cache"))
    return digits.override("data.source=null", f"data.url={bucket}/digits", "phases.0.epochs=2")


def told(folder: Path) -> dict[str, int]:
    found = summary.read(str(folder))
    return {name: found[name] for name in KEYS}


def test_a_run_tells_what_it_fetched(remote: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    splits = open_dataset(str(remote.data.url)).manifest.splits.values()
    batches = [batch for split in splits for shard in split.shards for batch in shard.batches]

    for number, _ in enumerate(fit(remote, Local(torch.device("cpu"), str(folder))), 1):
        if number == 20:  # past the first epoch's checkpoint: a kill
            break
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    training = [row for row in rows if row["split"] == "train"]
    assert all(set(row) >= KEYS for row in training)
    assert training[0]["fetched_bytes"] > 0 and training[0]["cache_hits"] == 0
    assert {row["split"] for row in rows if KEYS & set(row)} == {"train"}

    [*fit(remote, Local(torch.device("cpu"), str(folder)))]
    found = told(folder)
    assert found["fetched_bytes"] == sum(batch.length for batch in batches)
    assert found["fetch_requests"] == len(batches) and found["fetch_retries"] == 0
    # The second launch found in the cache what the first had fetched, and its counts go on.
    assert 0 < found["cache_hits"] < len(batches)
    page = facts.fetched(summary.read(str(folder)))
    assert f"in {len(batches)} requests, 0 retried" in page[0][1]


def test_a_local_set_has_no_such_rows(digits: Recipe, tmp_path: Path) -> None:
    [*fit(digits.override("phases.0.epochs=1"), Local(torch.device("cpu"), str(tmp_path)))]
    assert not KEYS & set(summary.read(str(tmp_path)))
    assert not any(key in (tmp_path / "metrics.jsonl").read_text() for key in KEYS)
    assert facts.fetched(summary.read(str(tmp_path))) == []
