"""Wrong labels found by runs: from the command line, as part of a run, and by what they say of each sample."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cluster.cleaning import evidence, prepare
from cluster.cleaning.evidence import Bench
from cluster.pool import Pool
from cluster.run import Run, run
from cluster.trial import Trial
from datasets.cleaning import lists
from datasets.refusal import Refusal
from search import results
from search.ledger import read
from tests.commands import cli
from trainers import feed
from trainers.recipe import Recipe

NOISE = "data.noise={name: symmetric, rate: 0.15}"
LEARNS = ["phases.0.epochs=5", "phases.0.schedule=constant", "data.batch=32"]


@pytest.fixture(scope="module")
def noisy(digits: Recipe) -> Recipe:
    return digits.override(NOISE, *LEARNS)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that the tests share: what one has made the next finds."""
    return tmp_path_factory.mktemp("runs")


def bench(recipe: Recipe, folder: Path) -> Bench:
    pool = Pool(recipe.scale, here=True)
    return Bench(str(folder), pool, lambda: False, lambda text: None)


def originals(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    columns = feed.dataset(recipe.data).columns("train")
    return columns["id"], columns["label"]


def test_each_sample_is_told_of_by_the_model_that_had_not_learnt_from_it(
    noisy: Recipe, out: Path
) -> None:
    said = noisy.override("data.cleaned={by: kfold, folds: 3}").data.cleaned
    assert said
    ids, given = originals(noisy)
    shares = evidence.probabilities(noisy, said, bench(noisy, out / "folds"), ids)
    assert shares.shape == (len(ids), 10) and shares.sum(1) == pytest.approx(np.ones(len(ids)))
    runs = results.runs(str(out / "folds"))
    assert len(runs) == 3 and all(each.finished for each in runs)
    seen = 0
    for each in runs:
        table = pd.read_parquet(f"{each.url}/predictions.parquet").query("split == 'test'")
        learnt = set(feed.dataset(each.recipe.data).columns("train")["id"].tolist())
        assert not learnt & set(table["id"])
        places = {number: place for place, number in enumerate(ids.tolist())}
        rows = [places[number] for number in table["id"]]
        assert np.stack(table["probabilities"].to_list()) == pytest.approx(shares[rows], abs=1e-5)
        assert given[rows].tolist() == table["label"].tolist()
        seen += len(rows)
    assert seen == len(ids)


def test_losses_are_the_ledgers_means(noisy: Recipe, out: Path) -> None:
    ids, _ = originals(noisy)
    found = evidence.losses(noisy, bench(noisy, out / "whole"), ids)
    (whole,) = results.runs(str(out / "whole"))
    assert "test" not in whole.summary.get("opened", {}), "nobody needs to look there"
    rows = read(whole).groupby("sample_id")["loss"].mean()
    used = np.isin(ids, rows.index)
    assert found[used] == pytest.approx(rows.loc[ids[used]].to_numpy(), rel=1e-5)
    assert np.isnan(found[~used]).all() and used.mean() > 0.9


@pytest.mark.parametrize("named", ["run", "model", "neither"])
def test_neighbours_by_the_features_of_a_run_or_a_model(
    noisy: Recipe, out: Path, named: str
) -> None:
    said: dict[str, object] = {"by": "neighbours", "neighbours": 5}
    if named == "run":
        evidence.losses(noisy, bench(noisy, out / "whole"), originals(noisy)[0])
        said["run"] = results.runs(str(out / "whole"))[0].url
    if named == "model":
        said["model"] = {"name": "small_cnn", "width": 6}
    recipe = noisy.override({"data.cleaned": said})
    dataset = feed.dataset(noisy.data)
    found = prepare.clean(recipe, dataset, bench(noisy, out / "whole"))
    assert found.told["by"] == "neighbours" and found.told["rows"] == len(found.labels.ids)
    assert found.told["detector"]["recall"] > 0.5, "even features at random know digits apart"
    again = prepare.clean(recipe, dataset, bench(noisy, out / "whole"))
    assert again.labels.actions.tolist() == found.labels.actions.tolist()


def test_a_run_cleans_first_and_its_list_is_made_once(noisy: Recipe, out: Path) -> None:
    recipe = noisy.override("data.cleaned={by: kfold, folds: 2, action: relabel}")
    done = run(recipe, out=str(out))
    assert done.finished and done.recipe.data.cleaned
    path = Path(str(done.recipe.data.cleaned.path))
    assert path.parent.parent == out and path.with_suffix(".html").exists()
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["detector"]["precision"] > 0.3, "twice what chance would have"
    assert told["detector"]["recall"] > 0.5
    dataset = feed.dataset(noisy.data)
    noise = noisy.data.noise
    assert noise
    found = lists.read(str(path), dataset.manifest, noise=noise.model_dump(), path="")
    learnt = feed.dataset(done.recipe.data).columns("train")
    wanted = dict(zip(found.ids[found.changed], found.suggested[found.changed], strict=True))
    given = dict(zip(*originals(noisy), strict=True))
    assert len(wanted) > 10
    for number, label in zip(learnt["id"].tolist(), learnt["label"].tolist(), strict=True):
        assert label == wanted.get(number, given[number])
    written = path.stat().st_mtime_ns
    assert run(recipe, out=str(out)).url == done.url and path.stat().st_mtime_ns == written
    assert [each.name for each in results.runs(str(out))] == [done.name], "its folds are not listed"
    other = run(recipe.override("phases.0.ema=0.5"), out=str(out))  # another run, another list
    assert other.recipe.data.cleaned and other.recipe.data.cleaned.path != str(path)


def test_a_cell_of_a_study_cleans_in_its_own_process(noisy: Recipe, tmp_path: Path) -> None:
    recipe = noisy.override("data.cleaned={by: loss}", "phases.0.epochs=2")
    trial = Trial(recipe, str(tmp_path / "cell"), opens_test=True)
    while trial.advance():
        pass
    trial.close()
    done = Run.open(str(tmp_path / "cell"))
    assert done.finished and done.recipe.data.cleaned
    assert str(done.recipe.data.cleaned.path).startswith(str(tmp_path / "digits-labels-"))


def words(out: Path, *more: object) -> list[object]:
    small = ["model.width=8", "phases.0.epochs=3", "scale.device=cpu", "log.tensorboard=false"]
    short = [*small, "data.subset={fraction: 0.5}", NOISE]
    return ["data", "clean", "recipes/digits.yaml", *short, "--runs", out, "--parallel", 1, *more]


def test_the_command_writes_a_list_that_a_recipe_takes(tmp_path: Path) -> None:
    file = tmp_path / "mine" / "labels.csv"
    said = cli(*words(tmp_path / "runs", "--folds", 2, "--out", file))
    assert said.code == 0, said.err
    verdict, listed, page = said.out.splitlines()
    assert "seem wrong, and are dropped; of the" in verdict
    assert listed == str(file) and file.exists()
    assert page == str(file.with_suffix(".html")) and Path(page).read_text().count("<img") > 5
    assert "fold 1 finished (2 of 2)" in said.err
    told = json.loads(cli(*words(tmp_path / "runs", "--folds", 2, "--out", file, "--json")).out)
    assert told["verdict"] == verdict and told["list"] == listed, "found again, and the same"
    train = ["train", *words(tmp_path)[2:9], "--out", tmp_path / "runs", "--quiet"]
    done = cli(*train, f"data.cleaned={file}", "phases.0.epochs=1")
    assert done.code == 0, done.err
    other = cli(*train, f"data.cleaned={file}", "data.noise.rate=0.3")
    assert other.code == 2 and "the list is of labels with noise" in other.err
    assert other.err.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--by", "kfoldd"], "data.cleaned.by: should be 'kfold'"),
        (["--by", "loss", "--folds", "3"], "by=loss takes no folds"),
        (["--by", "neighbours", "--run", "nowhere"], "no run here"),
        (["--by", "neighbours", "--model", "timm:resnt18"], "no model is called"),
        (["--folds", "100000"], "make no 100000 parts"),
        (["--out", "labels.txt"], "a list of labels is a .csv or a .parquet file"),
        (["data.cleaned=l.csv"], "the recipe takes a list already"),
        (["data.noise.rate=2"], "data.noise.rate: should be 1 or less"),
        (["data.subset={classes: ['3']}"], "one class"),
    ],
)
def test_mistakes_are_a_line_and_exit_code_2(tmp_path: Path, more: list[str], says: str) -> None:
    said = cli(*words(tmp_path, *more))
    assert said.code == 2 and says in said.err and said.err.count("\n") == 1, said.err


def test_data_without_labels_and_a_run_that_fails_are_said(noisy: Recipe, tmp_path: Path) -> None:
    said = cli("train", "recipes/curve.yaml", "data.cleaned.by=kfold", "--out", tmp_path)
    assert said.code == 2 and "has no labels" in said.err, said.err
    wild = noisy.override("data.cleaned={by: kfold, folds: 2}", "phases.0.optim.main.lr=1e6")
    with pytest.raises(Refusal, match="a run that was to find wrong labels failed"):
        run(wild, out=str(tmp_path))


def test_one_that_is_stopped_says_so_and_goes_on(noisy: Recipe, tmp_path: Path) -> None:
    recipe = noisy.override("data.cleaned={by: kfold, folds: 2}", "phases.0.epochs=2")
    finished = lambda: any(each.finished for each in results.runs(str(tmp_path / "runs")))  # noqa: E731
    pool = Pool(recipe.scale, here=True)
    stopped = Bench(str(tmp_path / "runs"), pool, finished, lambda text: None)
    dataset = feed.dataset(noisy.data)
    with pytest.raises(Refusal, match="stopped after 1 of 2 runs") as refused:
        prepare.clean(recipe, dataset, stopped)
    assert "goes on" in refused.value.remedy
    (first,) = (each for each in results.runs(str(tmp_path / "runs")) if each.finished)
    begun = first.json("env.json")["started"]
    assert prepare.clean(recipe, dataset, bench(recipe, tmp_path / "runs")).told["wrong"]
    assert first.json("env.json")["started"] == begun, "what was done is taken as it is"
