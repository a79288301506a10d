"""Parts: names in a recipe that stand for a file of a room, with that file's arguments beside them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema

from datasets.foreign.spec import PYTHON, V2
from datasets.refusal import Refusal, nearest
from trainers import foreign, rooms
from trainers.grammar import pairs, refusal


class Frozen(BaseModel):
    """Every node of a recipe: closed to unknown keys and never changed in place."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Part(Frozen):
    """`resnet20`, `{name: resnet20, width: 8}` or `{resnet20: {width: 8}}`: all three mean the same."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    room: ClassVar[str]
    name: str

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and len(value) == 1:
            (name, arguments), *_ = value.items()
            if name not in cls.model_fields and (arguments is None or isinstance(arguments, dict)):
                return {"name": name, **(arguments or {})}
        return value

    @property
    def arguments(self) -> dict[str, Any]:
        """What the recipe says to the part's own door."""
        return dict(self.model_extra or {})

    def checked(self, path: str) -> dict[str, Any]:
        """The part's tree with its arguments coerced by the door's schema."""
        door = rooms.door(self.room, self.name, path)
        own = {key: getattr(self, key) for key in type(self).model_fields}
        return {**own, **door.check(self.arguments)}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """For editors: every part of the room with its own arguments, or its bare name."""
        plain = handler.resolve_ref_schema(handler(core))
        if not hasattr(cls, "room"):
            return plain
        own = {key: value for key, value in plain["properties"].items() if key != "name"}
        needed = [key for key in plain.get("required", []) if key != "name"]
        forms: list[dict[str, Any]] = [] if needed else cls._bare_names()
        for name, door in rooms.doors(cls.room).items():
            described = door.schema.model_json_schema()
            arguments = described.get("properties", {})
            required = described.get("required", [])
            forms.append(
                {
                    "type": "object",
                    "title": name,
                    "description": door.doc,
                    "properties": {"name": {"const": name}, **own, **arguments},
                    "required": ["name", *needed, *required],
                    "additionalProperties": False,
                }
            )
            if not own or cls.room == "models":  # {pad_crop: {padding: 1}}
                beneath = {**own, **arguments}
                short = {"type": ["object", "null"], "properties": beneath, "required": required}
                forms.append(
                    {
                        "type": "object",
                        "properties": {name: {**short, "additionalProperties": False}},
                        "required": [name],
                        "additionalProperties": False,
                    }
                )
        return {"anyOf": [*forms, *cls._foreign()]}

    @classmethod
    def _bare_names(cls) -> list[dict[str, Any]]:
        return [{"enum": list(rooms.doors(cls.room))}]

    @classmethod
    def _foreign(cls) -> list[dict[str, Any]]:
        """Forms for parts that are no file of the room."""
        return []


class TaskPart(Part):
    """A file of trainers/tasks."""

    room = "tasks"


class SchedulePart(Part):
    """A function of trainers/schedules.py."""

    room = "schedules"


class SamplerPart(Part):
    """A function of search/tune/samplers.py."""

    room = "samplers"


class SchedulerPart(Part):
    """A function of search/tune/schedulers.py."""

    room = "schedulers"


class FramePart(Part):
    """A function of datasets/frames.py."""

    room = "frames"


class OrderPart(Part):
    """A function of datasets/orders.py."""

    room = "orders"


class NoisePart(Part):
    """A function of datasets/noise.py."""

    room = "noises"


class MixerPart(Part):
    """A function of datasets/mixing.py."""

    room = "mixers"


class TransformPart(Part):
    """A function of datasets/transforms.py, torchvision's `v2:ColorJitter`, or one's own `python:package.module:function`."""

    room = "transforms"

    def checked(self, path: str) -> dict[str, Any]:
        if self.name.startswith(V2):
            foreign.check_v2(self.name, self.arguments, path)
            inner = self.arguments.get("transforms")
            if self.name not in foreign.CONTAINERS or not isinstance(inner, list):
                return self.model_dump()
            parts = [type(self).model_validate(part) for part in inner]
            places = [f"{path}.transforms.{place}" for place in range(len(parts))]
            foreign.check_inner([part.name for part in parts], places)
            inner = [part.checked(at) for part, at in zip(parts, places, strict=True)]
            return {**self.model_dump(), "transforms": inner}
        if self.name.startswith(PYTHON):
            foreign.check_python(self.name, path)
            return self.model_dump()
        if self.name not in rooms.doors(self.room):
            raise Refusal(
                f"no transform is called '{self.name}'",
                path=path,
                value=self.name,
                remedy=nearest(self.name, {*rooms.doors(self.room), *foreign.v2()}),
            )
        return super().checked(path)

    @classmethod
    def _bare_names(cls) -> list[dict[str, Any]]:
        return [*super()._bare_names(), {"type": "string", "pattern": foreign.PATTERN}]

    @classmethod
    def _foreign(cls) -> list[dict[str, Any]]:
        name = {"type": "string", "pattern": foreign.PATTERN}
        short = {foreign.PATTERN: {"type": ["object", "null"]}}
        return [
            {"type": "object", "properties": {"name": name}, "required": ["name"]},
            {
                "type": "object",
                "patternProperties": short,
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
            },
        ]


class SourcePart(Part):
    """A file of datasets/sources; `name:path` is short for `{name: name, path: path}`."""

    room = "sources"

    @model_validator(mode="before")
    @classmethod
    def _with_path(cls, value: Any) -> Any:
        if isinstance(value, str) and ":" in value:
            name, _, path = value.partition(":")
            return {"name": name, "path": path}
        return value

    @classmethod
    def said(cls, words: str, more: Iterable[str]) -> tuple[str, dict[str, Any]]:
        """The name and arguments of a source that is said in words: `listed:/my/list.csv`, and `image=path`, ...

        Raises Refusal for an unknown name or argument.
        """
        named, given = cls.model_validate(words), dict(pairs(more))
        if "name" in given:
            raise Refusal("the source is named already", path="name", value=given["name"])
        try:
            part = cls.model_validate(named.model_dump() | given)
            arguments = part.checked("source")
        except ValidationError as error:
            raise refusal(error, rooms.door(cls.room, named.name).schema, "source") from None
        return arguments.pop("name"), arguments

    @classmethod
    def _bare_names(cls) -> list[dict[str, Any]]:
        return [{"type": "string", "examples": [*rooms.doors("sources"), "imagefolder:/my/photos"]}]
