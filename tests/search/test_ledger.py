"""A ledger proves what was used, through interruptions; whoever tampers with it, or with the order, is found out."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from cluster.run import Run
from cluster.session import Local
from datasets import store
from datasets.refusal import Refusal
from search.ledger import prove, read
from tests.commands import cli
from trainers import ledger
from trainers.engine import fit
from trainers.recipe import Recipe


def recipe(digits: Recipe, *changes: str) -> Recipe:
    small = ("data.ledger=true", "phases.0.epochs=3", "keep.every_steps=4", "log.tensorboard=false")
    return digits.override(*small, *changes)


def trained(asked: Recipe, folder: Path, *, stops: int = 0, seed: int = 0) -> Run:
    """A run that is left at random steps, some of which no checkpoint has seen, and gone on with."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(asked.yaml(), encoding="utf-8")
    draws = random.Random(seed)
    for left in reversed(range(stops + 1)):
        going = fit(asked, Local(torch.device("cpu"), str(folder)))
        for number, _ in enumerate(going, 1):
            if left and number == draws.randint(2, 12):
                going.close()
                break
    return Run.open(str(folder))


@pytest.fixture(scope="module")
def whole(digits: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(recipe(digits), tmp_path_factory.mktemp("ledger") / "run")


@pytest.mark.parametrize("seed", range(3))
def test_each_sample_is_used_once_an_epoch_through_interruptions(
    digits: Recipe, whole: Run, tmp_path: Path, seed: int
) -> None:
    run = trained(recipe(digits), tmp_path / "run", stops=3, seed=seed)
    proof = prove(run)
    assert proof.holds, proof.violations
    assert [epoch["whole"] for epoch in proof.epochs] == [1, 1, 1] and len(proof.restarts) <= 3
    columns = [name for name in ledger.COLUMNS if name != "rank"]
    pd.testing.assert_frame_equal(read(run)[columns], read(whole)[columns])


def test_it_says_what_was_shown(whole: Run) -> None:
    proof = prove(whole)
    dropped = 1259 % 64
    told = f"3 whole epochs, 1216 samples in each, {dropped} dropped by the tail; every sample at most once"
    assert told in str(proof)
    rows = read(whole)
    assert rows["correct"].notna().all() and (rows["loss"] > 0).all()
    logged = whole.metrics().query("split == 'train'").set_index("step")
    means = rows.groupby("step")[["loss", "correct"]].mean()
    assert (means["loss"] - logged["loss"]).abs().max() < 1e-4
    assert (means["correct"] - logged["accuracy"]).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["data.order=balanced"], "classes equal in every batch"),
        (["data.order={pxk: {samples: 8}}"], "8 classes with 8 samples each"),
        (["data.order={undersample: {cap: 100}}"], "at most 100 samples of a class"),
        (["data.order=oversample", "data.tail=keep"], "at most 128 samples of a class"),
        (
            ["data.subset={classes: ['3', '5', '8'], fraction: 0.5}", "data.batch=32"],
            "at most once",
        ),
        (["data.subset={shots: 16}", "data.noise={symmetric: {rate: 0.3}}"], "at most once"),
        (["data.class_weights=balanced", "data.train.mix=[cutmix, mixup]"], "at most once"),
        (
            [
                "data.mixture=[{source: digits, weight: 3}, {source: digits}]",
            ],
            "48, 16 samples of the sets",
        ),
    ],
)
def test_every_order_is_proven_through_interruptions(
    digits: Recipe, tmp_path: Path, changes: list[str], words: str
) -> None:
    asked = recipe(digits, "phases.0.epochs=2", *changes)
    run = trained(asked, tmp_path / "run", stops=2, seed=1)
    proof = prove(run)
    assert proof.holds, proof.violations
    assert words in str(proof) and [epoch["whole"] for epoch in proof.epochs] == [1, 1]
    assert run.summary["status"] == "finished" and "val/accuracy" in run.scores
    assert prove(Run.open(run.url)).samples == len(read(run))


def test_a_kept_tail_uses_every_sample(digits: Recipe, tmp_path: Path) -> None:
    proof = prove(trained(recipe(digits, "data.tail=keep", "phases.0.epochs=1"), tmp_path / "run"))
    assert proof.holds and proof.samples == 1259


def test_micro_batches_leave_the_same_ledger(digits: Recipe, whole: Run, tmp_path: Path) -> None:
    run = trained(recipe(digits, "scale.micro_batch=20"), tmp_path / "run")
    assert prove(run).holds
    assert read(run)["sample_id"].equals(read(whole)["sample_id"])


def test_a_ledger_costs_no_identity(digits: Recipe) -> None:
    assert recipe(digits).identity("d") == recipe(digits, "data.ledger=false").identity("d")


def lose_a_part(run: Run) -> None:
    name = ledger.parts(run.url)[3][0]
    store.remove(store.join(run.url, ledger.FOLDER, name))


def twice(run: Run) -> None:
    """The rows of a checkpoint again, as ranks of another launch would leave them."""
    name, step, _, _ = ledger.parts(run.url)[2]
    folder = store.join(run.url, ledger.FOLDER)
    data = store.read_bytes(store.join(folder, name))
    store.write_bytes(store.join(folder, f"step-{step:08}.rank-1-of-2.parquet"), data)


def another_seed(run: Run) -> None:
    changed = Recipe.load(f"{run.url}/recipe.yaml").override("seed=9")
    Path(run.url, "recipe.yaml").write_text(changed.yaml(), encoding="utf-8")


def lose_the_beginning(run: Run) -> None:
    store.remove(store.join(run.url, ledger.FOLDER, ledger.parts(run.url)[0][0]))


def cut_short(run: Run) -> None:
    store.remove(store.join(run.url, ledger.FOLDER, ledger.parts(run.url)[-1][0]))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lose_the_beginning, "steps before 5 are missing"),
        (lose_a_part, "4 steps are missing, the first is 13"),
        (twice, "done twice"),
        (another_seed, "are not its own"),
        (cut_short, "the ledger ends at"),
    ],
)
def test_what_is_not_so_is_found(
    digits: Recipe, tmp_path: Path, harm: Callable[[Run], None], words: str
) -> None:
    run = trained(recipe(digits), tmp_path / "run")
    harm(run)
    proof = prove(Run.open(run.url))
    assert not proof.holds and any(words in found for found in proof.violations), proof.violations


def test_an_epoch_that_was_begun_is_not_a_whole_one(digits: Recipe, tmp_path: Path) -> None:
    asked = recipe(digits, "phases.0.epochs=2")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(asked.yaml())
    going = fit(asked, Local(torch.device("cpu"), str(tmp_path / "run")))
    while next(going).step < 24:
        pass
    going.send("stop")
    proof = prove(Run.open(str(tmp_path / "run")))
    assert proof.holds, proof.violations
    assert "1 whole epoch, 1216 samples in each" in str(proof)
    assert "5 of 19 steps of epoch 2 of phase 0" in str(proof)


def test_the_command_line_proves_and_refuses(whole: Run, digits: Recipe, tmp_path: Path) -> None:
    said = cli("data", "ledger", whole.url, "--json")
    assert said.code == 0 and json.loads(said.out)["holds"], said.err
    run = trained(recipe(digits), tmp_path / "run")
    cut_short(run)
    refused = cli("data", "ledger", run.url)
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert "the ledger ends at" in refused.err


def test_a_run_without_a_ledger_is_refused(digits: Recipe, tmp_path: Path) -> None:
    run = trained(recipe(digits, "data.ledger=false", "phases.0.epochs=1"), tmp_path / "run")
    with pytest.raises(Refusal, match="data.ledger=true"):
        prove(run)
