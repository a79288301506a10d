"""CoOp (arXiv 2109.01134): the words around the classes' names are vectors that are learnt; CLIP stays as it is."""

# B batch, C class, D embedding, L tokens, M context, W width of the text tower
from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from trainers.language import towers
from trainers.language.context import Context, Layout
from trainers.language.prompted import Prompted

NEEDS = ("image", "label")  # columns of the data
PREDICTS = "classes"
KEEPS_MODEL = True  # only what the task adds to the model learns


class CoOp(Prompted):
    def __init__(
        self,
        model: nn.Module,
        classes: list[str],
        *,
        context: PositiveInt | None = None,
        per_class: bool = False,
        position: Literal["end", "middle", "front"] = "end",
        words: str = "",
        names: list[str] = [],
    ) -> None:
        """`context` tokens (16, or as many as `words` has) before, around or behind the class; `per_class` learns some for each.

        They begin at random (deviation .02), or the last ones as `words`. Raises Refusal, with the class, for a prompt
        that is longer than the model reads.
        """
        towers.check_open(model)
        super().__init__(model, classes, names=names, templates=["{}"])
        self.position = position
        self.context = Context(
            model, words=words, count=context, classes=len(self.names) if per_class else None
        )
        self.call(self.names)

    def call(self, names: list[str]) -> None:
        """The same context with these classes, which it need not have seen. Raises Refusal as at the beginning."""
        (model,) = self._plain
        self.names, self._known = names, None
        layout = Layout(model, names, count=self.context.count, position=self.position)
        self.layout = layout.to(self.context.vectors.device)

    def texts(self) -> Tensor:
        """(C, D) of the learnt prompts, with their gradient."""
        if self._known is not None and not self.training:
            return self._known
        (model,) = self._plain
        found = towers.encode(model, self.layout(model, self.context()), self.layout.ends).float()
        if not self.training:
            self._known = found.detach()
        return found


build = CoOp
