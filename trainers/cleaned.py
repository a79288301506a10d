"""What a recipe says of wrong labels: a list of them, or how they are found before the run begins."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from datasets.refusal import Refusal
from trainers.model_part import ModelPart
from trainers.part import Frozen

if TYPE_CHECKING:
    from trainers.recipe import Recipe

By = Literal["kfold", "loss", "neighbours"]
Action = Literal["drop", "relabel", "downweight"]
FOLDS, NEIGHBOURS = 5, 10  # where nothing is said

_SAID = ("action", "share", "folds", "neighbours", "model", "run", "set")
# What each way of finding them may be told beside `action` and `share`.
_OWN = {
    "kfold": {"folds", "set"},
    "loss": {"set"},
    "neighbours": {"model", "run", "neighbours", "set"},
}
# What the runs that find them cannot have otherwise: it would be other labels, or other samples.
_FIXED = re.compile(
    r"^(seed$|search\b|data\.(?!train\b|batch$|lanes$|order\b|tail$|class_weights$))|^data$"
)


class Cleaned(Frozen):
    """`labels.csv`, `{path: labels.csv}`, or `{by: kfold, action: drop}`, whose list is made when the run begins."""

    path: str | None = Field(
        None, description="a list that `data clean` wrote; beside `by`, where a run put its own"
    )
    by: By | None = Field(
        None,
        description="kfold: what models say that did not learn from a sample; loss: how long it stays high; neighbours: what similar pictures are called",
    )
    action: Action | None = Field(None, description="what becomes of a wrong label; default drop")
    share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="of all labels, that is called wrong; default: as many as it seems"
    )
    folds: int | None = Field(None, ge=2, description=f"of kfold; default {FOLDS}")
    neighbours: PositiveInt | None = Field(
        None, description=f"that vote on a sample; default {NEIGHBOURS}"
    )
    model: ModelPart | None = Field(
        None, description="whose features tell what is similar; pretrained where it has weights"
    )
    set: dict[str, Any] | None = Field(
        None,
        description="dotted.path: value, of the runs that find them: augmentation, say, so that they memorise less",
    )
    run: str | None = Field(
        None, description="a run folder whose network's features tell what is similar"
    )

    @model_validator(mode="before")
    @classmethod
    def _by_its_path(cls, given: Any) -> Any:
        return {"path": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_way(self) -> Cleaned:
        said = {name for name in _SAID if getattr(self, name) is not None}
        if self.by is None:
            if self.path is None:
                raise ValueError("say path (a list of labels) or by (how to find wrong ones)")
            if said:
                raise ValueError(
                    f"say by with {', '.join(sorted(said))}: a list alone says what it wants"
                )
            return self
        if foreign := sorted(said - {"action", "share"} - _OWN[self.by]):
            raise ValueError(f"by={self.by} takes no {' and no '.join(foreign)}")
        if fixed := sorted(path for path in self.set or {} if _FIXED.match(path)):
            raise ValueError(f"the runs that find wrong labels keep the recipe's {fixed[0]}")
        if self.by == "loss" and self.action == "relabel":
            raise ValueError(
                "a loss tells which label is wrong, not which is right: drop it or weigh it down"
            )
        if self.model and self.run:
            raise ValueError("say either model or run")
        return self


def finder(recipe: Recipe) -> Recipe:
    """What the runs are made of that find a recipe's wrong labels: itself, uncleaned, with what is `set` for them.

    Raises Refusal where that does not fit the recipe.
    """
    said = recipe.data.cleaned
    plain = recipe.override({"data.cleaned": None, "search": None})
    if not said or not said.set:
        return plain
    try:
        return plain.override(said.set)
    except Refusal as refusal:
        refusal.path = f"data.cleaned.set: {refusal.path}"
        raise
