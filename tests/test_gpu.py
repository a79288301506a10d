"""What only a GPU can show. Skipped, and said so, where there is none."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import torch

from cluster.doctor import gpu
from cluster.run import Run, run
from cluster.session import Local
from datasets.packing import encoded
from datasets.pictures.prepare import Options
from datasets.readers.pool import readers
from datasets.refusal import Refusal
from tests.commands import cli
from tests.datasets.photographs import source as photographs
from tests.trainers.runs import rows as metrics
from tests.trainers.runs import same, summary, weights
from trainers.engine import fit
from trainers.recipe import Recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, there is none"),
]
RECIPE = "recipes/digits.yaml"


def test_the_device_is_taken_with_bf16_and_channels_last(tmp_path: Path) -> None:
    done = run(Recipe.load(RECIPE), out=str(tmp_path))
    place = done.summary["place"]
    assert place["device"] == "cuda:0"
    assert place["precision"] == ("bf16" if torch.cuda.is_bf16_supported() else "fp32")
    assert done.scores["test/accuracy"] >= 0.95


def test_fp32_on_cuda_agrees_with_the_cpu_at_first(tmp_path: Path) -> None:
    recipe = Recipe.load(RECIPE).override("phases.0.epochs=1", "scale.precision=fp32")
    losses = {}
    for device in ("cpu", "cuda"):
        done = run(recipe.override({"scale.device": device}), out=str(tmp_path / device))
        losses[device] = done.metrics().query("split == 'train'")["loss"].head(5).tolist()
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-3)


def test_all_gpus_by_nccl(tmp_path: Path) -> None:
    done = run(Recipe.load(RECIPE).override("scale.workers=auto"), out=str(tmp_path))
    assert done.summary["place"]["workers"] == max(1, torch.cuda.device_count())
    assert done.scores["test/accuracy"] >= 0.95


def test_the_doctor_finds_them_sound() -> None:
    found = gpu.gpus(torch.cuda.device_count())
    assert found.check.ok, found.check
    assert len(found.names) == torch.cuda.device_count() and found.bytes > 2**30


def test_a_deterministic_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    recipe = _steps(12).override("scale.deterministic=true")
    whole, parted = _place(tmp_path / "whole"), _place(tmp_path / "parted")
    list(fit(recipe, whole))
    reports = fit(recipe, parted)
    for _ in range(7):
        next(reports)
    reports.send("stop")
    reports.close()
    list(fit(recipe, parted))
    assert summary(parted)["restarts"] == [7]
    assert same(weights(whole), weights(parted))


def test_too_many_rows_at_once_are_halved_and_learnt_from(tmp_path: Path) -> None:
    recipe = _steps(3).override(
        {"model": "torchvision:resnet18", "data.size": 112, "data.batch": 512}
    )
    device = torch.device("cuda", 0)
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.5 * 2**30 / total)
    try:
        with pytest.raises(Refusal) as refused:
            list(fit(recipe, _place(tmp_path / "whole")))
        assert refused.value.path == "scale.micro_batch" and refused.value.value == 512
        del refused  # and with its traceback what the run had on the device
        gc.collect()
        found = _place(tmp_path / "halved")
        list(fit(recipe.override("scale.micro_batch=auto"), found))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert summary(found)["status"] == "finished"
    assert 16 <= summary(found)["micro_batch"] <= 256
    assert summary(found)["peak_device_bytes"] <= 1.5 * 2**30


def test_a_compiled_network_computes_the_same(tmp_path: Path) -> None:
    recipe, losses = _steps(5).override("scale.precision=fp32"), {}
    for word in ("false", "true"):
        done = run(recipe.override(f"scale.compile={word}"), out=str(tmp_path / word))
        losses[word] = done.metrics().query("split == 'train'")["loss"].tolist()
    assert losses["true"] == pytest.approx(losses["false"], rel=1e-3)


def test_trials_share_a_gpu(tmp_path: Path) -> None:
    words = ["search.trials=4", "search.gpus=0.25", "search.retrain=0", "phases.0.epochs=2"]
    said = cli("search", "recipes/digits_search.yaml", *words, "--out", tmp_path)
    assert said.code == 0, said.err
    trials = [
        path.parent for path in tmp_path.glob("**/recipe.yaml") if "epochs: 2" in path.read_text()
    ]
    assert len(trials) == 4, sorted(tmp_path.glob("**/recipe.yaml"))
    for trial in trials:
        assert Run.open(str(trial)).summary["place"]["device"].startswith("cuda")


def test_processes_decode_into_pinned_memory(tmp_path: Path) -> None:
    files = photographs(tmp_path / "files", 60)
    url, rows = str(tmp_path / "set"), np.arange(60)
    encoded.write(url, files, {"train": rows}, name="waves", options=Options(), packed={}, seed=0)
    words = {"data.url": url, "data.source": None, "data.size": 32, "data.batch": 20}
    whole = {"data.train": {}, "data.eval": {}, "evals": {}, "keep.metric": None}
    recipe = _steps(9).override({**words, **whole, "scale.readers": 2})
    readers().want(2)
    readers().settle()
    before, losses = readers().made, {}
    for how in ("auto", "threads"):
        place = _place(tmp_path / how)
        list(fit(recipe.override({"scale.decode_in": how}), place))
        losses[how] = [row["loss"] for row in metrics(place) if row["split"] == "train"]
    assert readers().made - before == 9, "a part a batch, by processes where nothing is said"
    assert losses["auto"] == pytest.approx(losses["threads"], rel=1e-3)


def _steps(steps: int) -> Recipe:
    return Recipe.load(RECIPE).override(
        {"phases.0.epochs": None, "phases.0.steps": steps, "log.every": 1}
    )


def _place(folder: Path) -> Local:
    folder.mkdir()
    return Local(torch.device("cuda", 0), str(folder))
