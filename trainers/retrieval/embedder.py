"""Pictures -> features: a network without its head, in eval mode, and how it is shown its pictures."""

# B batch, D features, C channels

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datasets import order, stream
from datasets.batch import Batch
from datasets.packed.manifest import Codec
from datasets.packing import raw
from datasets.pictures import decode
from datasets.pictures.decode import Channels, Undecodable
from datasets.refusal import Refusal
from trainers import build, shown
from trainers.build import Shape
from trainers.recipe import Recipe

Features = NDArray[np.float32]
Metric = Literal["cosine", "l2"]

COMPANIONS = 8  # pictures beside which one is looked at again
_FRAME = order.key("evaluation", "frame")  # as EvalStream draws it
SAME = 1e-3  # of its length, by which a picture's features may differ in other company: rounding stays below 1e-5


@dataclass(frozen=True)
class Embedder:
    """`network` gives features (B, D) for the inputs that `recipe` and `shape` make of pictures stored as `codec` says.

    Raises Refusal for a network that is in train mode, in whole or in part.
    """

    network: nn.Module
    recipe: Recipe
    shape: Shape
    codec: Codec
    device: torch.device

    def __post_init__(self) -> None:
        training = [name for name, module in self.network.named_modules() if module.training]
        if training:
            named = f"'{training[0]}'" if training[0] else "the network"
            raise Refusal(
                f"{named} is in train mode: what it says of a picture depends on the others of its batch",
                path="model",
                value="train",
                remedy="call model.eval() before",
            )
        self.network.to(self.device)

    @cached_property
    def view(self) -> stream.View:
        """How pictures are shown: as when the model is judged."""
        return shown.view(self.recipe, self.shape, self.device)

    @cached_property
    def ready(self) -> Callable[[Batch], Batch]:
        """Makes a batch of pixels the network's input, on its device."""
        return build.readying(self.shape, self.device)

    def features(self, batch: Batch, metric: Metric) -> Features:
        """(B, D) of a batch as the stream makes it; of length 1 for cosine."""
        found = self._embedded(self.ready(batch)["image"])
        return normalised(found, batch["id"].tolist(), metric)

    def picture(self, pixels: Tensor, metric: Metric, name: str) -> Features:
        """(1, D) of one picture as `look` made it; `name` is what people know it by."""
        input_BCHW = build.inputs(self.shape, self.device)(pixels[None].to(self.device))
        return normalised(self._embedded(input_BCHW), [name], metric)

    def look(self, data: bytes, name: str) -> Tensor:
        """What the model is shown of a picture's file, (H, W, C) uint8: the same as of one that is packed.

        Raises Refusal where it does not decode.
        """
        height, width, channels = self.shape.stored
        told: Channels = 1 if channels == 1 else 3
        try:
            pixels = decode.decode(data, told)
        except Undecodable as error:
            raise Refusal(
                f"not readable as a picture: it {error}", path=name, remedy="use JPEG or PNG"
            ) from None
        if self.codec == "raw":  # as `pack --raw` stores it
            return torch.from_numpy(np.array(raw.fitted(pixels, height, width)))
        assert self.view.frame is not None
        tall, wide = pixels.shape[:2]
        sizes, ids = (np.array([tall]), np.array([wide])), np.zeros(1, np.int64)
        top, left, high, broad, mirror = self.view.frame(*sizes, ids, _FRAME)[0].tolist()
        out = torch.empty(height, width, channels, dtype=torch.uint8)
        decode.cut(pixels, (top, left, high, broad), out, mirror=bool(mirror))
        return out

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the network's weights and running statistics, and of their names."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return found.hexdigest()

    def check(self, batch: Batch) -> None:
        """Looks at a picture again, beside others and alone. Raises Refusal where its features are not its own.

        This finds what no flag tells: batch norm without running statistics, dropout with training=True.
        """
        first = self.ready(batch)["image"][:COMPANIONS]
        company = torch.cat([first, torch.zeros_like(first[:1])])
        once, again = self._embedded(company)[0], self._embedded(company)[0]
        alone = self._embedded(company[[0, 0]])[0]
        length = float(np.linalg.norm(once))
        for other, why in ((again, "differ from call to call"), (alone, "depend on its batch")):
            apart = float(np.linalg.norm(once - other))
            if not apart <= SAME * length:
                raise Refusal(
                    f"the features of a picture {why}: the network computes as it does in training",
                    path="model",
                    value=type(self.network).__name__,
                    remedy="use batch norm with running statistics, and no dropout in eval mode",
                )

    def _embedded(self, input_BCHW: Tensor) -> Features:
        with torch.inference_mode():
            found: Tensor = self.network(input_BCHW)
        told: Features = found.float().flatten(1).cpu().numpy()
        return told


def normalised(features_BD: Features, names: Sequence[Any], metric: Metric) -> Features:
    """Of length 1 for cosine, else as they are. Raises Refusal for features that are no numbers, or have no direction."""
    lengths = np.sqrt(np.square(features_BD, dtype=np.float64).sum(1))
    bad = ~np.isfinite(lengths) | ((lengths == 0) & (metric == "cosine"))
    if bad.any():
        place = int(bad.argmax())
        zero = lengths[place] == 0
        raise Refusal(
            f"the features of picture {names[place]} are {'all zero' if zero else 'no numbers'}",
            path="model",
            value=float(lengths[place]),
            remedy="use --metric l2" if zero else "use another checkpoint",
        )
    if metric == "l2":
        return features_BD
    found: Features = (features_BD / lengths[:, None]).astype(np.float32)
    return found
