"""A folder of photographs, from files to predictions: packed by the way, split, the head sized, any number of sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cluster.run import Run
from search.ledger import prove
from tests.commands import cli
from tests.datasets.photographs import encoded
from trainers import feed

ROOT = Path(__file__).resolve().parent.parent.parent
WORDS = [
    *("data.size=32", "model={name: small_cnn, width: 8}", "phases.0.epochs=3", "data.batch=16"),
    *("scale.device=cpu", "scale.threads=1", "log.tensorboard=false", "data.ledger=true"),
]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    for row in range(120):
        folder = root / ("down", "right")[row % 2]
        folder.mkdir(exist_ok=True)
        data = encoded(row)
        suffix = "jpg" if data[:2] == b"\xff\xd8" else "png"
        (folder / f"{row}.{suffix}").write_bytes(data)
    return root


@pytest.fixture(scope="module")
def trained(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("out")
    source = f"data.source=imagefolder:{photographs}"
    said = cli("train", ROOT / "recipes" / "images.yaml", source, *WORDS, "--out", out, "--quiet")
    assert said.code == 0, said.err
    (folder,) = out.iterdir()
    return Run.open(str(folder))


def test_the_head_is_sized_and_every_sample_used_once(trained: Run) -> None:
    assert trained.classes == ["down", "right"]
    proof = prove(trained)
    assert proof.holds, proof.violations
    assert len(proof.epochs) == 3
    assert trained.scores["test/accuracy"] >= 0.5


def test_prediction_sees_what_the_evaluation_saw(trained: Run, photographs: Path) -> None:
    dataset = feed.dataset(trained.recipe.data)
    columns = dataset.columns("test")
    paths = dict(zip(columns["id"].tolist(), columns["path"].tolist(), strict=True))
    table = pd.read_parquet(f"{trained.url}/predictions.parquet").query("split == 'test'")
    files = [photographs / paths[own] for own in table["id"]]
    found = trained.best.predict(files)
    assert np.allclose(found["p(down)"], [p[0] for p in table["probabilities"]], atol=1e-5)


def test_the_same_folder_is_packed_once_and_a_changed_one_again(
    trained: Run, photographs: Path
) -> None:
    first = feed.url_of(trained.recipe.data, trained.recipe.data)
    assert feed.url_of(trained.recipe.data, trained.recipe.data) == first
    (photographs / "down" / "more.jpg").write_bytes(encoded(200))
    assert feed.url_of(trained.recipe.data, trained.recipe.data) != first
    (photographs / "down" / "more.jpg").unlink()
    assert feed.url_of(trained.recipe.data, trained.recipe.data) == first


def test_packing_and_training_from_a_url(photographs: Path, tmp_path: Path) -> None:
    url = tmp_path / "set"
    said = cli("pack", f"imagefolder:{photographs}", url, "--json")
    assert said.code == 0 and '"train": 84' in said.out, said.err
    again = cli("pack", f"imagefolder:{photographs}", url)
    assert again.code == 2 and "packed data set here already" in again.err
    recipe = ROOT / "recipes" / "images.yaml"
    words = ["data.source=null", f"data.url={url}", *WORDS, "phases.0.epochs=1"]
    trained = cli("train", recipe, *words, "--out", tmp_path / "out", "--quiet")
    assert trained.code == 0, trained.err


def test_without_a_size_a_run_is_refused(photographs: Path, tmp_path: Path) -> None:
    words = [f"data.source=imagefolder:{photographs}", *WORDS, "data.size=null"]
    said = cli("train", ROOT / "recipes" / "images.yaml", *words, "--out", tmp_path / "out")
    assert said.code == 2 and "data.size" in said.err and not (tmp_path / "out").exists()
