"""What a recipe says of its model: the network, the weights that it begins with, how large it shall be."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    PositiveInt,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from datasets.refusal import Refusal, nearest
from trainers import library, rooms
from trainers.grammar import refusal
from trainers.part import Frozen, Part

WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")  # how files of weights end


class NetworkPart(Part):
    """A file of trainers/models, else a model of timm, torchvision or open_clip, and nothing but its arguments."""

    room = "models"

    def checked(self, path: str) -> dict[str, Any]:
        if self.name in rooms.doors("models"):
            return super().checked(path)
        if library.find(self.name) is None:
            names = {*rooms.doors("models"), *library.known()}
            prefix, colon, _ = self.name.partition(":")
            if colon and prefix in library.LIBRARIES:
                names = {f"{prefix}:{name}" for name in library.names(prefix)}
            raise Refusal(
                f"no model is called '{self.name}'",
                path=path,
                value=self.name,
                remedy=nearest(self.name, names),
            )
        # A library's arguments are checked by building on the meta device (trainers/describe.py).
        return self.model_dump()

    @classmethod
    def _bare_names(cls) -> list[dict[str, Any]]:
        return [{"type": "string", "examples": [*rooms.doors("models"), "timm:resnet18"]}]

    @classmethod
    def _foreign(cls) -> list[dict[str, Any]]:
        name = {"type": "string", "not": {"enum": list(rooms.doors("models"))}}
        return [{"type": "object", "properties": {"name": name}, "required": ["name"]}]


# For editors: all forms of all models a second time would double the schema.
_PLAIN = WithJsonSchema({"type": ["string", "object"]})


class MatchParams(Frozen):
    """How many parameters a model shall have: another's count, or a number; trainers/sizing.py finds the argument for it.

    A number or a model's name alone is short for either.
    """

    model: Annotated[NetworkPart, _PLAIN] | None = Field(
        None, description="built for the same data, then counted"
    )
    params: PositiveInt | None = None
    by: str | None = Field(None, description="the argument that is found; default the model's own")
    step: PositiveInt = Field(1, description="the argument is a multiple of it")
    within: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.01, description="share of the count")

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"params": value}
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_measure(self) -> MatchParams:
        if (self.model is None) == (self.params is None):
            raise ValueError("say either model or params")
        return self


def _weights(value: Any) -> Any:
    if value is not None and not isinstance(value, bool) and not (isinstance(value, str) and value):
        raise ValueError("should be true, false, a name of weights, or where a file of them is")
    return value


class ModelPart(NetworkPart):
    """A network, the weights that it begins with, and how large it shall be."""

    pretrained: Annotated[bool | str | None, BeforeValidator(_weights)] = Field(
        None,
        description="true: the weights that come with the model, or their name in its library; "
        "or a file, local or s3://, or a run of Manta's",
    )
    match_params: MatchParams | None = None

    def checked(self, path: str) -> dict[str, Any]:
        plain = super().checked(path)
        self._check_pretrained(path)
        if self.match_params is None:
            return plain
        sized = self.match_params.model_dump()
        if other := self.match_params.model:
            at = f"{path}.match_params.model"
            try:
                sized["model"] = other.checked(at)
            except ValidationError as error:
                raise refusal(error, rooms.door(self.room, other.name).schema, at) from None
        sized["by"] = self._sized_by(path)
        return {**plain, "match_params": sized}

    @property
    def file(self) -> str | None:
        """The file, or the run, that the weights are read from; None where they come with the model, or there are none."""
        said = self.pretrained
        place = isinstance(said, str) and ("/" in said or said.lower().endswith(WEIGHTS))
        return str(said) if place else None

    @property
    def bare(self) -> NetworkPart:
        """The network alone."""
        return NetworkPart.model_validate({"name": self.name, **self.arguments})

    def _check_pretrained(self, path: str) -> None:
        """Refuse weights that a model of ours does not have; a library says so itself."""
        door = rooms.doors("models").get(self.name)
        if door is None or not self.pretrained or self.file or "ARCHITECTURES" in door.constants:
            return  # of an architecture of a library's, the library says what there is
        if self.pretrained is not True or "MEAN" not in door.constants:
            own = sorted(n for n, d in rooms.doors("models").items() if "MEAN" in d.constants)
            raise Refusal(
                f"no weights come with '{self.name}'"
                + ("" if self.pretrained is True else f" under the name '{self.pretrained}'"),
                path=f"{path}.pretrained",
                value=self.pretrained,
                remedy=f"name a file ({', '.join(WEIGHTS)}) or a run; weights come with "
                f"{', '.join(own)} and most models of timm and torchvision",
            )

    def _sized_by(self, path: str) -> str:
        """The argument that `match_params` changes: as it is said, else as the model's file has it."""
        assert self.match_params
        door, by = rooms.doors("models").get(self.name), self.match_params.by
        known = sorted(door.schema.model_fields) if door else []
        by = by or (door.constants.get("SIZED_BY") if door else None)
        if by is None or (door and by not in known):
            raise Refusal(
                f"which argument of {self.name} shall change?"
                if by is None
                else f"{self.name} takes no argument '{by}'",
                path=f"{path}.match_params.by",
                value=by,
                remedy=nearest(by or "", known, "for example by=width")
                if door
                else "name one that its library takes, such as embed_dim",
            )
        if by in self.arguments and not isinstance(self.arguments[by], list):
            raise Refusal(
                f"match_params finds '{by}', so it cannot be said as well",
                path=f"{path}.{by}",
                value=self.arguments[by],
                remedy=f"leave {path}.{by} out, or name another argument in {path}.match_params.by",
            )
        return by
