"""Heat maps: which parts of a picture speak for a class (Grad-CAM and its kin, by the library grad-cam)."""

# B batch, C channel, S pixels a side

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datasets.batch import Batch
from trainers.explaining.layers import Layer
from trainers.task import Task

# What a person may name, and the library's class for it.
METHODS = {
    "gradcam": "GradCAM",  # arXiv 1610.02391
    "gradcam++": "GradCAMPlusPlus",  # arXiv 1710.11063
    "hirescam": "HiResCAM",  # arXiv 2011.08891
    "xgradcam": "XGradCAM",  # arXiv 2008.02312
    "layercam": "LayerCAM",  # Jiang et al., IEEE TIP 2021
    "eigengradcam": "EigenGradCAM",  # the first principal component of activations x gradients
}


class Logits(nn.Module):
    """A task as a network: pictures (B, C, S, S) -> what it predicts of each class, (B, classes)."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, image: Tensor) -> Tensor:
        ids = torch.arange(len(image), device=image.device)
        return self.task.predict(Batch({"image": image, "id": ids}, key=0))["logits"]


class Maps:
    """The maps of one layer of a network that gives logits; put away by `close`.

    `module` is the layer's own. The network is left in eval mode, without gradients of its parameters.
    """

    def __init__(self, logits: nn.Module, module: nn.Module, layer: Layer, method: str) -> None:
        import pytorch_grad_cam

        ready(logits)
        # The library goes back through the whole network, although it reads the gradient at the layer alone: cut
        # below it. Registered first, so that the library sees what is cut.
        self._cut = module.register_forward_hook(
            lambda _, __, output: output.detach().requires_grad_()
        )
        kind = getattr(pytorch_grad_cam, METHODS[method])
        self._cam: Any = kind(logits, [module], reshape_transform=layer.grid)

    def __call__(self, image_BCSS: Tensor, classes: Sequence[int]) -> NDArray[np.float32]:
        """(B, S, S) from 0 to 1: how much each place speaks for the class of its row; nowhere 1 where nothing does."""
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        targets = [ClassifierOutputTarget(number) for number in classes]
        with torch.enable_grad():
            maps: NDArray[np.float32] = self._cam(input_tensor=image_BCSS, targets=targets)
        return maps

    def close(self) -> None:
        self._cam.activations_and_grads.release()
        self._cut.remove()


def ready(network: nn.Module) -> None:
    """In eval mode, nothing learning, nothing overwritten: a layer's output must outlive the next layer."""
    network.eval().requires_grad_(False)
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
