"""A hundred kills of one run from object storage, each time gone on with on another number of ranks."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from cluster.run import Run
from datasets import cached, store
from search.ledger import prove
from tests.commands import cli
from trainers import checkpoint

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPE = str(ROOT / "recipes" / "digits.yaml")
KILLS, DEADLINE = 100, 120
EPOCHS, STEPS = 20, 20 * (1259 // 16)
WORDS = [
    *("data.source=null", "data.batch=16", "data.ledger=true", f"phases.0.epochs={EPOCHS}"),
    *("model.width=8", "scale.device=cpu", "scale.threads=1", "log.tensorboard=false"),
    "keep.every_steps=5",
]


def _launched(words: list[str]) -> None:
    """The training command as people type it."""
    said = cli("train", *words)
    raise SystemExit(said.err if said.code else 0)


def _rank(folder: str, rank: int, world: int, meeting: str) -> None:
    """One of several ranks, as a worker of a cluster is."""
    import torch
    import torch.distributed as dist

    from cluster.session import Local
    from trainers.engine import fit
    from trainers.recipe import Recipe

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    recipe = Recipe.load(f"{folder}/recipe.yaml")
    for _ in fit(recipe, Local(torch.device("cpu"), folder, rank=rank, world=world)):
        pass


def written(folder: Path | None) -> int:
    """Bytes of metrics.jsonl so far: more of them, and the ranks are at work."""
    file = folder / "metrics.jsonl" if folder else None
    return file.stat().st_size if file and file.exists() else 0


def killed(ranks: list[BaseProcess], out: Path, draws: random.Random) -> None:
    """Kills a rank while it starts or after some steps, then the others, whom it would leave waiting."""
    deadline = time.monotonic() + DEADLINE
    for _ in range(
        draws.randint(0, 4)
    ):  # rows are written at the first step and with each checkpoint
        before = written(found(out))
        while written(found(out)) <= before and all(rank.is_alive() for rank in ranks):
            assert time.monotonic() < deadline, "no step was done in time"
            time.sleep(0.001)
    time.sleep(draws.uniform(0, 0.05))  # anywhere within a step, or what is written after it
    draws.shuffle(ranks)
    assert all(rank.is_alive() for rank in ranks), "a rank ended by itself"
    for rank in ranks:
        rank.kill()
    for rank in ranks:
        rank.join()


def found(out: Path) -> Path | None:
    folders = [*out.iterdir()] if out.exists() else []
    assert len(folders) <= 1
    return folders[0] if folders and (folders[0] / "recipe.yaml").exists() else None


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_hundred_kills_cost_no_sample_and_no_step(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    draws, out = random.Random(seed), tmp_path / "out"
    print(f"seed {seed}")
    packed = cached.ensure("digits", {}, fractions={"val": 0.15, "test": 0.15}, seed=0)
    store.upload(packed, f"{bucket}/digits")
    monkeypatch.setenv("MANTA_CACHE", str(tmp_path / "cache"))
    words = [RECIPE, *WORDS, f"data.url={bucket}/digits", "--out", str(out), "--quiet"]

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.cluster.warm"])
    worlds, began = [], time.monotonic()
    try:
        for number in range(KILLS):
            folder, world = found(out), draws.randint(1, 3)
            alone = world == 1 or folder is None
            worlds.append(1 if alone else world)
            ranks: list[BaseProcess] = []
            if alone:
                ranks.append(context.Process(target=_launched, args=(words,)))
            else:
                meeting = str(tmp_path / f"meeting-{number}")
                ranks += [
                    context.Process(target=_rank, args=(str(folder), rank, world, meeting))
                    for rank in range(world)
                ]
            for rank in ranks:
                rank.start()
            killed(ranks, out, draws)
        spent = time.monotonic() - began
        last = context.Process(target=_launched, args=(words,))
        last.start()
        last.join(DEADLINE)
        assert last.exitcode == 0
    finally:
        for child in multiprocessing.active_children():
            child.kill()
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
    folder = found(out)
    assert folder
    run = Run.open(str(folder))
    restarts = run.summary["restarts"]
    print(
        f"{KILLS} kills in {spent:.0f} s, worlds {[worlds.count(n) for n in (1, 2, 3)]}, "
        f"resumed at {len(set(restarts))} different steps, the last {restarts[-1]} of {STEPS}"
    )
    assert run.finished and run.summary["steps"] == STEPS
    proof = prove(run)
    assert proof.holds, proof.violations
    assert proof.steps == STEPS and len(proof.epochs) == EPOCHS and set(proof.worlds) <= {1, 2, 3}
    assert all(epoch["whole"] for epoch in proof.epochs)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    steps = [row["step"] for row in rows if row["split"] == "train"]
    assert steps == [*range(1, STEPS + 1)]
    judged = [row["step"] for row in rows if row["split"] == "val"]
    assert judged == [*range(STEPS // EPOCHS, STEPS + 1, STEPS // EPOCHS)]
    assert run.scores["test/accuracy"] > 0.9
    assert checkpoint.latest(str(folder)) == f"{folder}/checkpoints/step-{STEPS:08d}"
    left = [path for path in folder.rglob("*") if path.name.startswith(store.TEMPORARY)]
    assert not left, f"{len(left)} temporary files are left, such as {left[:3]}"
