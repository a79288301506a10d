"""Features are a picture's own: train mode is refused, said or hidden; files are shown as packed pictures are."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from datasets import pack
from datasets.refusal import Refusal
from datasets.shards import Dataset, open_dataset
from datasets.stream import EvalStream
from tests.datasets.photographs import encoded
from trainers import anatomy, build
from trainers.recipe import Recipe
from trainers.retrieval.embedder import Embedder, normalised


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("packed") / "digits"
    pack.pack("digits", {}, str(folder), splits={"test": 0.2}, seed=0)
    return open_dataset(str(folder))


@pytest.fixture
def made(digits: Recipe, packed: Dataset) -> Callable[..., Embedder]:
    shape = build.fitted(digits, packed.manifest)

    def make(network: nn.Module) -> Embedder:
        return Embedder(network, digits, shape, "raw", torch.device("cpu"))

    return make


def network(digits: Recipe, packed: Dataset, name: str = "timm:resnet18") -> nn.Module:
    recipe = digits.override(model=name)
    whole = build.model(recipe, build.fitted(recipe, packed.manifest))
    return anatomy.headless(whole).eval()


class Hidden(nn.Module):
    """Whose flags say eval, and whose arithmetic is training's."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.kind == "norm":
            x = self.norm(x)
        if self.kind == "dropout":
            x = F.dropout(x, training=True)
        return x.relu().mean((2, 3))


def test_train_mode_is_refused(
    digits: Recipe, packed: Dataset, made: Callable[..., Embedder]
) -> None:
    body = network(digits, packed)
    made(body)
    with pytest.raises(Refusal, match="^model: the network is in train mode") as caught:
        made(body.train())
    assert (caught.value.path, caught.value.value) == ("model", "train")
    body.eval()
    body.get_submodule("layer4.1.bn2").train()  # one layer of many
    with pytest.raises(Refusal, match=r"^model: 'layer4\.1\.bn2' is in train mode"):
        made(body)


@pytest.mark.parametrize(
    ("kind", "told"), [("norm", "depend on its batch"), ("dropout", "differ from call to call")]
)
def test_hidden_train_mode_is_found(
    kind: str, told: str, packed: Dataset, made: Callable[..., Embedder]
) -> None:
    torch.manual_seed(0)
    embedder = made(Hidden(kind).eval())
    with pytest.raises(Refusal, match=told):
        embedder.check(next(iter(EvalStream(packed, "test", batch=16))))
    made(Hidden("none").eval()).check(next(iter(EvalStream(packed, "test", batch=1))))


def test_a_real_network_whose_flag_alone_says_eval_is_found(
    digits: Recipe, packed: Dataset, made: Callable[..., Embedder]
) -> None:
    body = network(digits, packed)
    batch = next(iter(EvalStream(packed, "test", batch=32)))
    made(body).check(batch)
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):  # train's arithmetic with eval's flag
            module.running_mean = module.running_var = None
    with pytest.raises(Refusal, match="depend on its batch"):
        made(body).check(batch)


def test_features_do_not_hang_on_the_batch(
    digits: Recipe, packed: Dataset, made: Callable[..., Embedder]
) -> None:
    embedder = made(network(digits, packed))
    found = []
    for size in (1, 7, 64):
        batches = EvalStream(packed, "test", batch=size)
        parts = [embedder.features(batch, "cosine") for batch in batches]
        found.append(np.concatenate(parts))
    np.testing.assert_allclose(np.linalg.norm(found[0], axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)
    np.testing.assert_allclose(found[2], found[0], atol=1e-5)


def test_the_digest_moves_with_the_weights(
    digits: Recipe, packed: Dataset, made: Callable[..., Embedder]
) -> None:
    first, second = network(digits, packed), network(digits, packed)
    assert made(first).digest == made(second).digest
    with torch.no_grad():
        second.get_submodule("layer1.0.bn1").running_mean += 1e-3
    assert made(first).digest != made(second).digest


def test_a_file_is_shown_as_a_packed_one(tmp_path: Path) -> None:
    for row in range(8):
        place = tmp_path / "photos" / "ab"[row % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{row}.jpg").write_bytes(encoded(row))
    source = f"imagefolder:{tmp_path / 'photos'}"
    recipe = Recipe.check(
        {
            "name": "shown",
            "data": {"source": source, "size": 32, "splits": {"val": 0.0, "test": 0.0}},
            "model": "small_cnn",
            "phases": [
                {"task": "classify", "steps": 1, "optim": {"main": {"name": "sgd", "lr": 1}}}
            ],
        }
    )
    folder = tmp_path / "packed"
    pack.pack(
        "imagefolder", {"path": str(tmp_path / "photos")}, str(folder), splits={}, seed=0, raw=0
    )
    dataset = open_dataset(str(folder))
    shape = build.fitted(recipe, dataset.manifest)
    body = anatomy.headless(build.model(recipe, shape)).eval()
    embedder = Embedder(body, recipe, shape, dataset.manifest.codec, torch.device("cpu"))
    split = next(name for name, each in dataset.manifest.splits.items() if each.rows)
    (batch,) = EvalStream(dataset, split, batch=8, view=embedder.view)
    paths = dataset.columns(split)["path"]
    for place, path in enumerate(paths.tolist()):
        looked = embedder.look((tmp_path / "photos" / path).read_bytes(), path)
        assert torch.equal(looked, batch["image"][place])
    with pytest.raises(Refusal, match="not readable as a picture") as caught:
        embedder.look(b"no picture", "query.jpg")
    assert caught.value.path == "query.jpg"


def test_a_file_is_cut_as_raw_pixels_are(made: Callable[..., Embedder]) -> None:
    embedder = made(Hidden("none").eval())
    file = io.BytesIO()
    Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12)).save(file, "PNG")
    looked = embedder.look(file.getvalue(), "wide.png")
    assert looked.shape == (8, 8, 1)  # the central square
    assert torch.equal(looked[..., 0], torch.arange(96).reshape(8, 12)[:, 2:10].to(torch.uint8))


def test_features_without_direction_are_refused() -> None:
    rows = np.array([[1.0, 2.0], [0.0, 0.0]], np.float32)
    with pytest.raises(Refusal, match="of picture 9 are all zero") as caught:
        normalised(rows, [8, 9], "cosine")
    assert "--metric l2" in caught.value.remedy
    assert normalised(rows, [8, 9], "l2") is rows
    with pytest.raises(Refusal, match="of picture 8 are no numbers"):
        normalised(np.array([[np.nan, 1]], np.float32), [8], "l2")


def test_the_embedder_can_be_made_anew_elsewhere(made: Callable[..., Embedder]) -> None:
    embedder = made(Hidden("none").eval())
    assert dataclasses.replace(embedder).digest == embedder.digest
