"""What gives the features by which generated pictures are judged: a run of ours, Inception, or a network that learnt nothing."""

# B batch, C channels, H height, W width, D features

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.refusal import Refusal
from trainers import anatomy, build, checkpoint, remembered
from trainers.inputs import Inputs

WORDS = ("random", "inception")
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"  # as torch-fidelity calls it
_LAYERS, _WIDTH, _GRID = 6, 64, 2
_SMALL = 8  # pixels a side at which the untrained network ends


@dataclass(frozen=True)
class Extractor:
    """`features` of pictures (B, C, H, W) uint8 -> (B, D) float32; `said` is what people are told that they are."""

    features: Callable[[Tensor], Tensor]
    said: str


def extractor(features: str, device: torch.device) -> Extractor:
    """By a word, or by the folder of a run (its best checkpoint), or of a checkpoint. Raises Refusal, on `features`."""
    if features == "random":
        return _random(str(device))
    if features == "inception":
        return _inception(str(device))
    try:
        url = checkpoint.chosen(features)
        run = url.rstrip("/").partition("/checkpoints/step-")[0]
        return _run(url, run, str(device))
    except Refusal as refusal:
        raise Refusal(
            f"gives no features: {refusal.path + ' ' if refusal.path != features else ''}{refusal.error}",
            path="features",
            value=features,
            remedy=f"name the folder of a run that classifies pictures, or one of {', '.join(WORDS)}",
        ) from None


@lru_cache(maxsize=4)
def _run(url: str, run: str, device: str) -> Extractor:
    """What a run's network holds before its head. It is shown pictures at its own size, normalised as it knows them."""
    recipe, shape = remembered.recipe(run), remembered.shape(run)
    if not shape.size:
        raise Refusal("it was trained on a table, not on pictures", path=run)
    with torch.random.fork_rng(devices=[]):
        network = build.model(recipe, shape, pretrained=False)
    checkpoint.load_model(url, network)
    body = anatomy.headless(network).eval().requires_grad_(False).to(device)
    inputs = Inputs(
        stored_channels=1,
        channels=shape.channels,
        size=shape.size,
        mean=list(shape.mean),
        std=list(shape.std),
        device=device,
    )
    gray = shape.channels == 1

    def features(picture_BCHW: Tensor) -> Tensor:
        shown_BHWC = picture_BCHW.permute(0, 2, 3, 1)
        if gray:
            shown_BHWC = shown_BHWC.float().mean(3, keepdim=True)
        found: Tensor = body(inputs(shown_BHWC)).float().flatten(1)
        return found

    try:
        features(torch.zeros(2, shape.channels, shape.size, shape.size, dtype=torch.uint8))
    except RuntimeError:  # a generator takes noise, say
        raise Refusal("its network takes no pictures", path=run) from None
    name = run.rstrip("/").rpartition("/")[2]
    return Extractor(features, f"{name}, before its head")


@lru_cache(maxsize=2)
def _random(device: str) -> Extractor:
    """Convolutions with fixed random weights: no data, no training, the same everywhere (arXiv 2002.09797 tries such)."""
    draw = torch.Generator().manual_seed(0)
    weights = []
    for layer in range(_LAYERS):
        inputs = _WIDTH if layer else 3
        weight = torch.randn(_WIDTH, inputs, 3, 3, generator=draw) * (2 / (9 * inputs)) ** 0.5
        weights.append(weight.to(device))

    def features(picture_BCHW: Tensor) -> Tensor:
        x = picture_BCHW.float().div(127.5).sub(1).expand(-1, 3, -1, -1)
        for number, weight in enumerate(weights):
            x = F.relu(F.conv2d(x, weight, padding=1))
            if number and x.shape[-1] <= _SMALL:
                break
            x = F.avg_pool2d(x, 2, ceil_mode=True)
        return F.adaptive_avg_pool2d(x, _GRID).flatten(1)

    return Extractor(features, "an untrained network (fixed random weights)")


@lru_cache(maxsize=1)
def _inception(device: str) -> Extractor:
    """Inception v3 as torch-fidelity has it, whose 2,048 pooled features published FID and KID are of."""
    hub = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch"), "hub", "checkpoints")
    weights = hub / INCEPTION
    if not find_spec("torch_fidelity") or not weights.exists():
        lacking = "its weights are" if find_spec("torch_fidelity") else "torch-fidelity is"
        raise Refusal(
            f"Inception cannot be had: {lacking} not at hand",
            path="features",
            value="inception",
            remedy=f"pip install torch-fidelity, and put its {INCEPTION} into {hub}; or name a run",
        )
    from torchmetrics.image.fid import NoTrainInceptionV3

    network: nn.Module = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights))
    network.requires_grad_(False).to(device)

    def features(picture_BCHW: Tensor) -> Tensor:
        found: Tensor = network(picture_BCHW.expand(-1, 3, -1, -1)).float()
        return found

    return Extractor(features, "Inception v3 (torch-fidelity)")


def is_place(features: str) -> bool:
    """Whether it is the folder of a run, and none of the words."""
    return features not in WORDS
