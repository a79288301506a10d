"""Pictures and texts encoded by Ray tasks: what one process makes of them to the bit, counted once, of the same data or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cluster import protocol, tasks
from cluster.backbone import Backbone
from cluster.chosen import Chosen
from cluster.encoding import judged
from cluster.run import Run
from cluster.texts import model_of
from datasets.progress import silent
from datasets.refusal import Refusal
from search.protocols import page
from tests.commands import cli
from tests.local_ray import local_ray
from trainers import rooms
from trainers.recipe import Recipe

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = [f"a photo of the number {{}}, take {take}." for take in range(30)]  # 300 texts


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    with local_ray(2):
        yield


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An epoch of a tiny CLIP."""
    out = tmp_path_factory.mktemp("clip")
    words = ["phases.0.epochs=1", "data.size=8", "model.layers=1", "data.batch=128"]
    quick = ["scale.device=cpu", "scale.threads=1", "log.tensorboard=false", "--quiet"]
    recipe = rooms.ROOT / "recipes" / "clip_digits.yaml"
    said = cli("train", recipe, *words, *quick, "--out", out)
    assert said.code == 0, said.err
    (folder,) = out.iterdir()
    return Run.open(str(folder))


def test_texts_and_pictures_are_judged_as_in_one_process(clip: Run, ray_session: None) -> None:
    """Of train, which is 977 rows: two pieces; 300 texts are two pieces too."""
    shot = Chosen.of(clip.best, "train")
    with silent("") as quiet:
        here, apart = (
            judged(model_of(clip.best), shot, NAMES, TEMPLATES, workers=workers, progress=quiet)
            for workers in (None, 2)
        )
    assert len(here.label) == len(shot.rows) > 512
    for name in ("label", "together", "alone"):
        assert torch.equal(getattr(here, name), getattr(apart, name))


def test_progress_counts_to_the_end_and_the_test_split_once(clip: Run, ray_session: None) -> None:
    shot, told = Chosen.of(clip.best, "test", subset=100), list[tuple[int, int]]()
    opened = clip.summary.get("opened", {}).get("test", 0)
    judged(
        model_of(clip.best), shot, NAMES, TEMPLATES[:2], workers=2, progress=lambda *at: told.append(at)
    )  # fmt: skip
    assert told[-1] == (len(shot.rows), len(shot.rows))
    assert clip.summary["opened"]["test"] == opened + 1


def test_features_are_those_of_one_process(finished: Run, ray_session: None) -> None:
    here, apart = (Backbone.of(finished.best, "val", workers=workers) for workers in (None, 2))
    for split in ("train", "val"):
        one, other = here.known(split), apart.known(split)
        assert np.array_equal(one.ids, other.ids) and np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.features, other.features)


def test_a_protocol_takes_workers_by_the_command(finished: Run, ray_session: None) -> None:
    place = protocol.run(finished, "knn", {"k": 5, "reference": "random"})
    alone = page.read(place).scores
    said = cli("evaluate", finished.url, "--protocol", "knn", "k=5", "reference=random", "--workers", "2")  # fmt: skip
    assert said.code == 0, said.err
    assert page.read(place).scores == alone


def test_a_machine_that_reads_other_data_is_refused(finished: Run) -> None:
    data = finished.recipe.data
    digest = finished.best.data().manifest.digest
    assert tasks.same_data(data, digest).manifest.digest == digest
    with pytest.raises(Refusal, match="other data by this name"):
        tasks.same_data(data, "0" * 64)


def test_many_workers_of_the_training_do_not_make_a_pass_a_group(
    finished: Run, ray_session: None
) -> None:
    """A run that four workers trained is encoded by tasks of one process, each with what it takes."""
    scale = finished.recipe.scale.model_copy(update={"workers": 4})
    assert tasks.room(scale, "auto") == tasks.room(finished.recipe.scale, "auto")
    assert tasks.room(scale, 3)[0] == 3 and tasks.room(scale, 3)[1]["CPU"] == 1
    recipe: Recipe = finished.recipe
    judge = replace(Backbone.of(finished.best, "val"), recipe=recipe.override({"scale.workers": 4}))
    assert len(replace(judge, workers=1).known("val")) == len(judge.known("val"))


def test_a_run_of_a_device_that_is_not_here_is_judged_on_what_there_is(
    finished: Run, ray_session: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it was trained is not what it is; with workers Ray would wait for the device for ever."""
    away = Run(str(shutil.copytree(finished.url, tmp_path / "away")))
    path = Path(away.url, "recipe.yaml")
    path.write_text(path.read_text().replace("device: cpu", "device: cuda:63"))
    assert away.recipe.scale.device == "cuda:63"
    here = Backbone.of(finished.best, "val").known("val")
    for workers in (None, 1):
        found = Backbone.of(away.best, "val", workers=workers).known("val")
        assert np.array_equal(found.features, here.features)
    assert caplog.text.count("no cuda:63 here") == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--protocol", "baselines", "--workers", "2"], "protocol 'baselines' works in one process -- leave it out"),
        (["--workers", "2"], "workers are for a protocol"),
        (["--protocol", "knn", "--workers", "none"], "is no number of workers"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(finished: Run, words: list[str], line: str) -> None:
    said = cli("evaluate", finished.url, *words)
    assert said.code == 2 and line in said.err and said.err.count("\n") == 1
