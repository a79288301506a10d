"""Where a free name goes in a recipe: `learning_rate` is `phases.0.optim.main.lr`.

A name has a place where the recipe has exactly one for it; else its owner says which.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from datasets.refusal import Refusal, nearest
from trainers import rooms
from trainers.part import Part
from trainers.recipe import Recipe, parts

# A pattern of the recipe's paths -> what people call that.
WORDS = {
    "phases.*.optim.*.name": "optimizer optimiser optim opt optimizer_name optimizer_type optimizer.name optimizer.type",
    "phases.*.optim.*.lr": "learning_rate learningrate base_lr init_lr initial_lr lr_init max_lr",
    "phases.*.optim.*.weight_decay": "wd weightdecay l2 l2_reg l2_regularization",
    "phases.*.optim.*.beta1": "b1 beta_1 adam_beta1",
    "phases.*.optim.*.beta2": "b2 beta_2 adam_beta2",
    "phases.*.optim.*.clip": "grad_clip gradient_clip clip_grad clip_norm max_grad_norm gradient_clip_val",
    "phases.*.schedule.name": "schedule scheduler lr_scheduler lr_schedule scheduler.name scheduler.type",
    "phases.*.schedule.warmup_steps": "warmup num_warmup_steps",
    "phases.*.epochs": "epoch n_epochs num_epochs nb_epochs max_epochs",
    "phases.*.steps": "max_steps num_steps n_steps",
    "phases.*.ema": "ema_decay",
    "data.batch": "batch_size batchsize bs train_batch_size global_batch_size",
    "data.size": "image_size img_size input_size resolution",
    "data.source": "dataset dataset_name",
    "model.name": "model model_name model_type arch architecture backbone network net model.type",
    "model.dropout": "dropout_rate drop_rate drop dropout_p p_dropout dropout_prob",
    "seed": "random_seed",
}
PATTERNS = {word: pattern for pattern, words in WORDS.items() for word in words.split()}
PATTERNS |= {last: p for p in WORDS if (last := p.rpartition(".")[2]) not in ("name", "seed")}
# What a free name may mean; other paths are named in full.
WHERE = ("seed", "data", "model", "phases")
# Rooms whose names are checked here; a model may be a library's.
CALLED = ("optimizers", "schedules")


@dataclass(frozen=True)
class Place:
    """A path of the recipe, "" of what is left out; with the condition under which the path is there."""

    path: str
    condition: str = ""  # " if phases.0.optim.main.name == sgd"
    room: str = ""  # of the part whose name stands there


def places(
    recipe: Recipe, listed: Mapping[str, Sequence[Any]], said: Mapping[str, str]
) -> dict[str, Place]:
    """`{name: place}` of each name; `listed` has the values of those that list them, `said` what a person says.

    Raises Refusal for a name that has no place, or more than one, and for two with the same.
    """
    known = _known(recipe, {})
    found = {name: _place(name, known, said) for name in listed if _of_a_part(name, known, said)}
    drawn = {
        place.path.removesuffix(".name"): [called(value, place.room, name) for value in values]
        for name, place in found.items()
        if (values := listed[name])
    }
    known = _known(recipe, drawn)
    everywhere = {name: _place(name, known, said) for name in listed}
    first: dict[str, str] = {}
    for name, place in everywhere.items():
        if place.path and first.setdefault(place.path, name) != name:
            raise Refusal(
                f"'{first[place.path]}' and '{name}' are both {place.path}",
                path=f"parameters.{name}",
                value=name,
                remedy=f"say where one goes: --name {name}=dotted.path, or --name {name}= to leave it out",
            )
    return everywhere


def called(value: Any, room: str, name: str) -> Any:
    """A part as our room calls it: `Adam` and `torch.optim.Adam` are `adam`. Raises Refusal for one that is not there."""
    if not isinstance(value, str):
        return value
    known, word = rooms.doors(room), value.rpartition(".")[2].lower()
    if value in known or (word not in known and room not in CALLED):
        return value
    if word not in known:
        raise Refusal(
            f"no {room.rstrip('s')} is called '{value}'",
            path=f"parameters.{name}",
            value=value,
            remedy=nearest(word, known),
        )
    return word


def _of_a_part(name: str, known: Mapping[str, Place], said: Mapping[str, str]) -> bool:
    if name in said or name in known:
        return bool(known.get(said.get(name, name), Place("")).room)
    return PATTERNS.get(_word(name), "").endswith(".name")


def _place(name: str, known: Mapping[str, Place], said: Mapping[str, str]) -> Place:
    if name in said:
        return known.get(said[name], Place(said[name]))
    if name in known and name not in PATTERNS:
        return known[name]
    found: list[Place] = []
    for word in (_word(name), _word(name.rpartition(".")[2])):
        found = found or [place for path, place in known.items() if _means(word, path)]
    if len(found) == 1:
        return found[0]
    some = f"more than one place for '{name}': {', '.join(place.path for place in found[:4])}"
    raise Refusal(
        f"the recipe has {some if found else f'no place for {name!r}'}",
        path=f"parameters.{name}",
        value=name,
        remedy=f"say where it goes: --name {name}={found[0].path if found else 'dotted.path'}, "
        f"or --name {name}= to leave it out",
    )


def _means(word: str, path: str) -> bool:
    if path.partition(".")[0] not in WHERE:
        return False
    pattern = PATTERNS.get(word)
    return fnmatchcase(path, pattern) if pattern else path.rpartition(".")[2] == word


def _word(name: str) -> str:
    return name.lower().replace("-", "_")


def _known(recipe: Recipe, drawn: Mapping[str, Sequence[Any]]) -> dict[str, Place]:
    """Every path that may be searched, where parts may be any of those that are `drawn`."""
    there = dict(parts(recipe))
    found = {}
    for path, value in _leaves(recipe.plain()):
        above, dot, key = path.rpartition(".")
        unsaid = value is None and re.fullmatch(r"phases\.\d+\.(data\..+|epochs|steps)", path)
        argument = above in there and key in there[above].arguments
        if (dot or path == "seed") and not unsaid and not argument:
            found[path] = Place(path)
    for path, part in there.items():
        found |= {path: Place(path), **_arguments(path, part, drawn.get(path, [part.name]))}
    return found


def _arguments(path: str, part: Part, names: Sequence[Any]) -> dict[str, Place]:
    """A part's own: those that only some of the names have are there on a condition."""
    takers: dict[str, list[str]] = {}
    for name in names:
        door = rooms.doors(part.room).get(name) if isinstance(name, str) else None
        for key in door.schema.model_fields if door else part.arguments:
            takers.setdefault(key, []).append(str(name))
    found = {f"{path}.name": Place(f"{path}.name", room=part.room)}
    for key, having in takers.items():
        where = f"== {having[0]}" if len(having) == 1 else f"in ({', '.join(having)})"
        place = Place(f"{path}.{key}")
        if len(having) < len(names):
            place = replace(place, condition=f" if {path}.name {where}")
        found[place.path] = place
    return found


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    children: dict[Any, Any] = {}
    if isinstance(node, dict):
        children = node
    elif isinstance(node, list) and any(isinstance(each, dict) for each in node):
        children = dict(enumerate(node))
    if path and not children:
        yield path, node
    for key, child in children.items():
        yield from _leaves(child, f"{path}.{key}" if path else str(key))
