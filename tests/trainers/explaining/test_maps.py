"""Maps agree with the library's own, used as its makers show it, whatever is cut off for speed."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from trainers.explaining import layers
from trainers.explaining.maps import METHODS, Logits, Maps, ready
from trainers.models import small_cnn
from trainers.tasks import classify


def nets() -> dict[str, tuple[nn.Module, int]]:
    import timm

    torch.manual_seed(0)
    vit = timm.create_model("test_vit", num_classes=3, img_size=64)
    return {"small_cnn": (small_cnn.build(3, 3, width=8), 16), "vit": (vit, 64)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["small_cnn", "vit"])
def test_agrees_with_the_library_used_directly(name: str, method: str) -> None:
    network, size = nets()[name]
    task = classify.build(network)
    image = torch.randn(5, 3, size, size, generator=torch.Generator().manual_seed(1))
    ready(task)
    layer = layers.chosen(layers.mapped(network, image, Logits(task)), network, None)
    maps = Maps(Logits(task), network.get_submodule(layer.name), layer, method)
    ours = maps(image, [0, 1, 2, 0, 1])
    maps.close()

    plain, _ = nets()[name]
    plain.load_state_dict(network.state_dict())
    kind = getattr(pytorch_grad_cam, METHODS[method])
    cam = kind(plain.eval(), [plain.get_submodule(layer.name)], reshape_transform=layer.grid)
    theirs = cam(input_tensor=image, targets=[ClassifierOutputTarget(n) for n in (0, 1, 2, 0, 1)])
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert ours.shape == (5, size, size) and ours.min() >= 0 and ours.max() <= 1
    assert ours.max() > 0.9


def test_maps_are_put_away() -> None:
    network, size = nets()["small_cnn"]
    task = classify.build(network)
    ready(task)
    image = torch.randn(2, 3, size, size)
    layer = layers.chosen(layers.mapped(network, image), network, None)
    module = network.get_submodule(layer.name)
    Maps(Logits(task), module, layer, "gradcam").close()
    assert not module._forward_hooks


def test_the_map_lies_where_the_evidence_is() -> None:
    """Of a network that counts the brightness of one corner, the map is that corner."""
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2)
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].weight[:, :, 1, 1] = 1  # type: ignore[index, union-attr, operator]
        corner = torch.zeros(4, 8, 8)
        corner[:, :4, :4] = 1
        network[3].weight[1] = corner.flatten()  # type: ignore[index, operator]
        network[3].weight[0] = -corner.flatten()  # type: ignore[index, operator]
    task = classify.build(network)
    ready(task)
    image = torch.zeros(2, 1, 8, 8)
    image[0, 0, 1, 2] = image[0, 0, 6, 6] = 1  # one bright pixel that counts, one that does not
    image[1, 0, 2, 0] = 1
    found = layers.mapped(network, image + 0.1, Logits(task))
    layer = layers.chosen(found, network, "1")
    maps = Maps(Logits(task), network[1], layer, "hirescam")
    heat = maps(image, [1, 1])
    assert [divmod(int(each.argmax()), 8) for each in heat] == [(1, 2), (2, 0)]
    assert heat[0, 6, 6] == 0
