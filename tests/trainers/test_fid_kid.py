"""FID and KID against numpy and scipy, features of a run, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from cluster.run import Run, run
from datasets.refusal import Refusal
from trainers import build, extractors, rooms
from trainers.evals import fid_kid
from trainers.extractors import extractor
from trainers.recipe import Recipe

CPU = torch.device("cpu")


def features(rows: int, shift: float, seed: int, wide: int = 5) -> Tensor:
    return torch.randn(rows, wide, generator=torch.Generator().manual_seed(seed)) + shift


def test_kid_is_the_unbiased_squared_mmd() -> None:
    real, fake = features(30, 0.0, 0).double(), features(30, 0.7, 1).double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    own = sum(
        float(k.sum() - k.diag().sum()) / (30 * 29)
        for k in (kernel(real, real), kernel(fake, fake))
    )
    by_hand = own - 2 * float(kernel(real, fake).mean())
    assert fid_kid.kid(real, fake, subset=1000, subsets=10) == pytest.approx(by_hand, rel=1e-9)


def test_fid_is_the_distance_of_two_normal_distributions() -> None:
    real, fake = features(60, 0.0, 0).double().numpy(), features(60, 0.5, 1).double().numpy() * 1.3
    means = np.square(real.mean(0) - fake.mean(0)).sum()
    one, two = np.cov(real.T), np.cov(fake.T)
    root = scipy.linalg.sqrtm(one @ two).real
    by_hand = means + np.trace(one) + np.trace(two) - 2 * np.trace(root)
    found = fid_kid.fid(torch.from_numpy(real), torch.from_numpy(fake))
    assert found == pytest.approx(by_hand, rel=1e-6)


def test_kid_of_many_pictures_is_a_mean_over_the_same_subsets_every_time() -> None:
    real, fake = features(200, 0.0, 0), features(200, 0.7, 1)
    state = torch.get_rng_state()
    one = fid_kid.kid(real, fake, subset=50, subsets=20)
    torch.manual_seed(99)
    assert fid_kid.kid(real, fake, subset=50, subsets=20) == one
    assert one == pytest.approx(fid_kid.kid(real, fake, subset=200, subsets=1), rel=0.3)
    torch.set_rng_state(state)
    fid_kid.kid(real, fake, subset=50, subsets=2)
    assert torch.equal(torch.get_rng_state(), state), "nothing else is moved"


def test_samples_of_one_distribution_have_a_kid_around_zero() -> None:
    found = [fid_kid.kid(features(80, 0, s), features(80, 0, 100 + s), subset=1000, subsets=1) for s in range(20)]  # fmt: skip
    assert min(found) < 0 < max(found) and abs(np.mean(found)) < 3 * np.std(found) / 20**0.5


@pytest.mark.parametrize("size", [4, 8, 28, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_untrained_features_are_fixed_and_tell_pictures_apart(size: int, channels: int) -> None:
    draw = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (6, channels, size, size), generator=draw, dtype=torch.uint8)
    torch.manual_seed(5)
    one = extractor("random", CPU)
    found = one.features(picture)
    extractors._random.cache_clear()
    torch.manual_seed(6)
    again = extractor("random", CPU).features(picture)
    assert torch.equal(found, again) and found.shape == (6, 256) and "untrained" in one.said
    torch.testing.assert_close(one.features(picture[2:4]), found[2:4])
    assert float(torch.cdist(found, found).add(torch.eye(6) * 9).min()) > 0.1


@pytest.fixture(scope="module")
def classifier(digits: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(digits, out=str(tmp_path_factory.mktemp("classifier")))


def test_features_of_a_run_are_those_before_its_head(classifier: Run) -> None:
    saved = classifier.best
    network, shape = saved.model(), saved.shape
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (5, 1, 8, 8), generator=draw, dtype=torch.uint8)
    with torch.no_grad():
        logits = network(build.inputs(shape)(pixels.permute(0, 2, 3, 1)))
        found = extractor(classifier.url, CPU)
        head = network.get_submodule("head")
        torch.testing.assert_close(head(found.features(pixels)), logits)
    assert classifier.name in found.said
    rgb = found.features(pixels.expand(-1, 3, -1, -1))
    torch.testing.assert_close(rgb, found.features(pixels), rtol=1e-3, atol=1e-3)
    larger = torch.nn.functional.interpolate(pixels, scale_factor=2)
    assert found.features(larger).shape == rgb.shape


def gan(**changes: object) -> Recipe:
    quick = {
        "model.width": 8,
        "phases.0.epochs": None,
        "phases.0.steps": 19,
        "scale.device": "cpu",
        "log.tensorboard": False,
    }
    path = str(rooms.ROOT / "recipes" / "dcgan_digits.yaml")
    return Recipe.load(path).override({**quick, **changes})


def test_a_gan_is_judged_in_the_features_of_a_run(
    classifier: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(classifier.url).parent)
    judged = {"evals": {"own": {"name": "fid_kid", "features": f"./{classifier.name}"}}}
    done = run(gan(**judged, **{"keep.metric": "val/kid", "keep.mode": "min"}), out=str(tmp_path))
    assert done.scores["test/kid"] > 0 and done.scores["test/fid"] > 0
    assert done.recipe.evals["own"].arguments["features"] == classifier.url, "workers are elsewhere"
    assert (Path(done.url) / "figures" / "test_features.png").exists()


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ("runs/none", "neither a checkpoint nor a run that has one"),
        ("inception", "Inception cannot be had"),
    ],
)
def test_features_that_cannot_be_had_are_refused_before_anything(
    features: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    out = tmp_path / "runs"
    with pytest.raises(Refusal, match=words) as caught:
        run(gan(**{"evals": {"own": {"name": "fid_kid", "features": features}}, "keep.metric": None}), out=str(out))  # fmt: skip
    assert caught.value.path == "evals.own.features"
    assert str(caught.value.value).endswith(features) and caught.value.remedy
    assert not out.exists()


def test_a_run_without_pictures_and_a_gan_give_no_features(tmp_path: Path) -> None:
    fitted = Recipe.load(str(rooms.ROOT / "recipes" / "curve.yaml")).override(
        {"phases.0.epochs": None, "phases.0.steps": 2, "scale.device": "cpu"}
    )
    for recipe, words in ((fitted, "trained on a table"), (gan(), "takes no pictures")):
        done = run(recipe, out=str(tmp_path))
        with pytest.raises(Refusal, match=words) as caught:
            extractor(done.url, CPU)
        assert (caught.value.path, caught.value.value) == ("features", done.url)
        assert "classifies pictures" in caught.value.remedy


def test_two_in_one_recipe_are_told_apart(tmp_path: Path) -> None:
    """In features of two networks; the first one's scores are called as ever."""
    two = {
        "fid_kid": {"name": "fid_kid"},
        "own": {"name": "fid_kid", "subset": 20, "subsets": 3},
        "samples": {"name": "samples"},
    }
    short = {"phases.0.epochs": None, "phases.0.steps": 2, "evals": two, "scale.device": "cpu"}
    recipe = Recipe.load("recipes/dcgan_digits.yaml").override(
        {**short, "keep.metric": "val/own_kid", "keep.mode": "min", "log.tensorboard": False}
    )
    done = run(recipe, out=str(tmp_path / "two"))
    alone = {"evals": {"fid_kid": {"name": "fid_kid"}}, "keep.metric": "val/kid"}
    single = run(recipe.override(alone), out=str(tmp_path / "one"))
    assert {"test/kid", "test/fid", "test/own_kid", "test/own_fid"} <= {*done.scores}
    assert done.scores["test/kid"] == single.scores["test/kid"] != done.scores["test/own_kid"]
    pictures = {path.name for path in Path(done.url, "figures").iterdir()}
    assert {"test_features.png", "test_own_features.png"} <= pictures
