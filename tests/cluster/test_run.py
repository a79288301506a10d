"""A run as people hold it: opened from its folder, local or s3://, scored, put to work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score, log_loss

from cluster import opening
from cluster.evaluate import evaluate
from cluster.run import Run, run
from datasets import store
from datasets.refusal import Refusal
from datasets.shards import Dataset
from tests.commands import cli
from trainers import feed
from trainers.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def dataset(finished: Run) -> Dataset:
    return feed.dataset(finished.recipe.data)


@pytest.fixture(scope="module")
def predictions(finished: Run) -> pd.DataFrame:
    return pd.read_parquet(Path(finished.url) / "predictions.parquet")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for url in (tmp_path / "nothing", tmp_path):
        with pytest.raises(Refusal, match="no run here") as caught:
            Run.open(str(url))
        assert caught.value.path == str(url)
        assert "results" in caught.value.remedy


def test_a_run_is_found_by_a_relative_path_too(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(finished.url).parent)
    for path in (finished.name, f"./{finished.name}/"):
        opened = Run.open(path)
        assert opened.name == finished.name
        assert opened.scores == finished.scores
        assert opened.best.url.startswith("/")


def test_the_folder_holds_what_the_architecture_says(finished: Run) -> None:
    folder = Path(finished.url)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    wanted = {
        *("recipe.yaml", "env.json", "metrics.jsonl", "summary.json", "model.json", "data.json"),
        *(
            "predictions.parquet",
            "report.html",
            "figures/data_examples.png",
            "checkpoints/best.json",
        ),
    }
    assert wanted <= files
    assert any(name.startswith("tables/test_") for name in files)
    assert any(name.startswith("figures/test_") for name in files)
    assert not [name for name in files if ".tmp-" in name or ".writing-" in name]
    assert "lock.json" not in files
    checkpoints = {name.split("/")[1] for name in files if name.startswith("checkpoints/step-")}
    for name in checkpoints:
        held = {path.name for path in (folder / "checkpoints" / name).iterdir()}
        assert held == {
            *("model.safetensors", "task.safetensors", "optim.safetensors"),
            *("state.json", "complete.json"),
        }


def test_env_says_what_it_ran_with(finished: Run) -> None:
    env = finished.json("env.json")
    assert env["torch"] == torch.__version__.split("+")[0] or env["torch"] == torch.__version__
    assert set(env) >= {"commit", "dirty", "python", "platform", "cpu_count", "hostname", "started"}


def test_scores_are_those_of_the_summary(finished: Run) -> None:
    assert finished.finished
    assert (
        finished.scores == json.loads((Path(finished.url) / "summary.json").read_text())["scores"]
    )
    assert {"val/accuracy", "test/accuracy"} <= finished.scores.keys()
    assert finished.summary["opened"] == {"test": 1}
    assert finished.summary["steps"] == 38
    assert finished.summary["samples"] == 38 * 64


def test_metrics_are_a_table_with_each_step_of_each_split_once(finished: Run) -> None:
    table = finished.metrics()
    assert not table.duplicated(["step", "split"]).any()
    train = table[table["split"] == "train"]
    assert train["step"].tolist() == [*range(1, 39)]
    assert train["loss"].notna().all()
    assert train["epoch"].tolist() == [0] * 19 + [1] * 19
    assert table[table["split"] == "val"]["step"].tolist() == [19, 38]
    assert table[table["split"] == "test"]["step"].tolist() == [38]


def test_a_line_that_a_running_writer_has_not_ended_is_left_out(
    finished: Run, tmp_path: Path
) -> None:
    shutil.copytree(finished.url, copy := tmp_path / "run")
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"step": 39, "spl')
    assert len(Run.open(str(copy)).metrics()) == len(finished.metrics())


def test_the_best_model_in_eval_mode_gives_the_saved_predictions(
    finished: Run, dataset: Dataset, predictions: pd.DataFrame
) -> None:
    model = finished.best.model()
    assert not any(module.training for module in model.modules())
    for split in ("val", "test"):
        columns = dataset.columns(split)
        saved = predictions[predictions["split"] == split]
        assert saved["id"].tolist() == columns["id"].tolist(), (
            "each row of the split once, in order"
        )
        assert saved["label"].tolist() == columns["label"].tolist()
        with torch.no_grad():
            found = model(
                torch.stack([finished.transform(picture) for picture in columns["image"]])
            )
        np.testing.assert_allclose(
            found.double().softmax(1).numpy(), np.stack(saved["probabilities"].tolist()), atol=1e-5
        )
        assert found.argmax(1).tolist() == saved["prediction"].tolist()


def test_scores_follow_from_the_saved_predictions(finished: Run, predictions: pd.DataFrame) -> None:
    for split in ("val", "test"):
        saved = predictions[predictions["split"] == split]
        truth, guess = saved["label"], saved["prediction"]
        scores = finished.scores
        assert scores[f"{split}/accuracy"] == pytest.approx(accuracy_score(truth, guess), abs=1e-9)
        macro = f1_score(truth, guess, average="macro", labels=[*range(10)], zero_division=0)
        assert scores[f"{split}/macro_f1"] == pytest.approx(macro, abs=1e-9)
        chances = np.stack(saved["probabilities"].tolist()).astype(np.float64)
        chances /= chances.sum(1, keepdims=True)
        expected = log_loss(truth, chances, labels=[*range(10)])
        assert scores[f"{split}/loss"] == pytest.approx(expected, rel=1e-5)


def test_pictures_in_files_and_in_memory_are_predicted_alike(
    finished: Run, dataset: Dataset, predictions: pd.DataFrame, tmp_path: Path
) -> None:
    columns = dataset.columns("test")
    pictures = [columns["image"][row][..., 0] for row in range(4)]
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(picture, mode="L").save(paths[-1])
    from_files = finished.predict(paths)
    in_memory = finished.predict(
        [*pictures[:2], *(Image.fromarray(p, mode="L") for p in pictures[2:])]
    )
    saved = predictions[predictions["split"] == "test"].iloc[:4]
    assert from_files["image"].tolist() == paths
    assert from_files["prediction"].tolist() == [str(p) for p in saved["prediction"]]
    chances = [f"p({name})" for name in finished.classes]
    np.testing.assert_allclose(
        from_files[chances], np.stack(saved["probabilities"].tolist()), atol=1e-5
    )
    np.testing.assert_array_equal(from_files[chances], in_memory[chances])
    assert from_files["probability"].tolist() == from_files[chances].max(axis=1).tolist()


def test_what_is_no_picture_is_refused(finished: Run, tmp_path: Path) -> None:
    text = tmp_path / "picture.png"
    text.write_text("not a picture")
    absent = str(tmp_path / "absent.png")
    for image, why in ((str(text), "not readable as a picture"), (absent, "no such picture")):
        with pytest.raises(Refusal, match=why) as caught:
            finished.predict([image])
        assert caught.value.path == image
    with pytest.raises(Refusal, match="uint8"):
        finished.predict([np.zeros((8, 8), np.float32)])


def test_classes_and_transform(finished: Run) -> None:
    assert finished.classes == [str(digit) for digit in range(10)]
    picture = finished.transform(np.full((8, 8), 255, np.uint8))
    given = finished.json("model.json")["input"]
    assert picture.shape == (1, 8, 8)
    assert picture.dtype == torch.float32
    expected = (1 - given["mean"][0]) / given["std"][0]
    torch.testing.assert_close(picture, torch.full((1, 8, 8), expected))


def test_evaluating_again_gives_the_same_scores_and_counts_the_opening(
    finished: Run, tmp_path: Path
) -> None:
    shutil.copytree(finished.url, copy := tmp_path / "run")
    opened = Run.open(str(copy))
    scores = evaluate(opened, split="val")
    assert opened.summary["opened"] == {"test": 1}
    assert scores == {k: v for k, v in finished.scores.items() if k.startswith("val/")}
    scores = evaluate(opened, split="test")
    assert scores == {k: v for k, v in finished.scores.items() if k.startswith("test/")}
    assert opened.summary["opened"] == {"test": 2}
    assert opened.scores == finished.scores
    with pytest.raises(Refusal):
        evaluate(opened, split="tset")


def test_other_data_than_those_trained_on_are_refused(finished: Run, tmp_path: Path) -> None:
    shutil.copytree(finished.url, copy := tmp_path / "run")
    tree = json.loads((copy / "data.json").read_text())
    (copy / "data.json").write_text(json.dumps({**tree, "digest": "0" * 64}))
    with pytest.raises(Refusal, match="not the one that the run was trained on"):
        evaluate(Run.open(str(copy)), split="val")


def test_the_pasted_lines_load_the_model_without_manta(
    finished: Run, dataset: Dataset, tmp_path: Path
) -> None:
    lines = finished.json("model.json")["load"]
    given = finished.json("model.json")["input"]
    pixels = dataset.columns("test")["image"][:16]
    np.save(tmp_path / "pixels.npy", pixels)
    step = Path(finished.best.url).name
    script = "\n".join(
        [
            *(line.replace("step-XXXXXXXX", step) for line in lines),
            "import numpy as np, torch",
            f"pixels = torch.from_numpy(np.load({str(tmp_path / 'pixels.npy')!r})).permute(0, 3, 1, 2)",
            "shape = (1, -1, 1, 1)",
            "image = (pixels / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)",
            "with torch.no_grad():",
            f"    np.save({str(tmp_path / 'logits.npy')!r}, model(image.float()).numpy())",
            "assert 'cluster' not in sys.modules and 'trainers.engine' not in sys.modules",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert given["size"] == 8
    model = finished.best.model()
    with torch.no_grad():
        ours = model(torch.stack([finished.transform(picture) for picture in pixels]))
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), ours.numpy(), atol=1e-4)


def test_a_run_without_a_checkpoint_or_with_torn_json_says_so(
    finished: Run, tmp_path: Path
) -> None:
    shutil.copytree(finished.url, copy := tmp_path / "run")
    (copy / "model.json").write_text('{"inp')
    with pytest.raises(Refusal, match="is not a JSON object"):
        Run.open(str(copy)).best.model()
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(Refusal, match="no checkpoint yet"):
        Run.open(str(copy)).best  # noqa: B018


def test_a_run_on_s3_is_written_found_compared_and_finished_there(
    bucket: str,
    finished: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["model.width=8", "scale.device=cpu", "scale.threads=1", "phases.0.epochs=2"]
    recipe = Recipe.load(str(ROOT / "recipes" / "digits.yaml")).override(*small)
    out = f"{bucket}/runs"
    done = run(recipe, out=out)
    assert done.url.startswith(f"{out}/digits-")
    opened = Run.open(done.url)
    assert opened.finished
    table = opened.metrics()
    assert table[table["split"] == "train"]["step"].tolist() == [*range(1, 39)]
    assert opened.best.model()(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert any("tfevents" in name for name in store.names(f"{done.url}/tensorboard"))
    assert not store.exists(f"{done.url}/lock.json")
    before = contents(done.url)

    again = cli("train", ROOT / "recipes" / "digits.yaml", *small, "--out", out)
    assert again.code == 0
    assert "is finished" in again.err
    assert {
        name: data for name, data in contents(done.url).items() if name != "report.html"
    } == before

    listed = cli("results", "--out", out, "--json")
    assert listed.code == 0, listed.err
    assert done.name in listed.out

    assert finished.name == done.name, "the same run, at another place"
    assert finished.scores == opened.scores
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    assert not [name for name, data in contents(bucket).items() if secret in data]
    assert not list(tmp_path.iterdir()), "written where nobody asked"


def contents(url: str) -> dict[str, bytes]:
    """Every object under a URL, as the server has it."""
    import boto3

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            name = entry["Key"].removeprefix(prefix).lstrip("/")
            found[name] = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
    return found


def test_workers_are_told_where_a_relative_source_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.load(str(ROOT / "recipes" / "digits.yaml"))
    alone = opening.resolved(recipe.override("data.source=imagefolder:photos")).data.source
    mixed = recipe.override("data.mixture=[{source: 'imagefolder:a'}, {source: digits}]")
    several = opening.resolved(mixed).data.mixture
    assert alone and alone.arguments == {"path": str(tmp_path / "photos")}
    assert several and several[0].source and several[1].source
    assert several[0].source.arguments == {"path": str(tmp_path / "a")}
    assert several[1].source.arguments == {}
