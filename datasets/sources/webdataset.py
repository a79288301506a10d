"""WebDataset shards: tars in which key.jpg, key.cls, key.json and key.txt make a sample."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from datasets import store
from datasets.formats import files, rows, tars, trees
from datasets.formats.tars import Member, TarPictures
from datasets.refusal import Refusal
from datasets.remote import redact
from datasets.source import Source

SHARDS = (".tar", ".tar.gz", ".tgz")
TEXTS = (".cls", ".json", ".txt")
NAMES = ("classnames.txt", "classes.txt")


@dataclass(frozen=True, slots=True)
class _Sample:
    path: str  # shard/key.jpg
    shard: int
    picture: Member
    label: str | int | None
    caption: str | None


def build(*, path: str = "", image: str = "", label: str = "label") -> Source:
    """`path` is a shard, a folder of shards or a pattern such as s3://bucket/train-*.tar or train-{000..009}.tar.

    The picture is the member whose extension is `image`, or any known one. The label is in key.cls, else in key.json
    under `label`: a number, named by a line of classnames.txt beside the shards if there is one, or a word. The text
    column `caption` is key.txt. Shards named after train, val or test (in a folder or in their names) are official splits.

    Raises Refusal where some samples have a picture, label or caption and others not, and for damaged shards.
    """
    folder, shards = files.parts_of(path, "webdataset", SHARDS)
    urls = [store.join(folder, name) for name in shards]
    plain = [tars.decompressed(url) for url in urls]
    samples = [
        sample
        for number, name in enumerate(shards)
        for sample in _samples(plain[number], urls[number], number, name, image, label)
    ]
    where = redact(folder)
    labels, classes = _labels(samples, where, _class_names(folder))
    of_shard = rows.splits_of(shards)
    captions = [sample.caption for sample in samples]
    _refuse_some(samples, captions, "caption (key.txt)", where)
    return rows.picture_source(
        "webdataset",
        TarPictures(
            plain,
            urls,
            [sample.shard for sample in samples],
            [sample.picture for sample in samples],
        ),
        [sample.path for sample in samples],
        labels=labels,
        classes=classes,
        splits=[of_shard[sample.shard] for sample in samples] if of_shard else None,
        more={"caption": np.array(captions, dtype=object)}
        if captions and captions[0] is not None
        else None,
    )


def _samples(plain: str, url: str, number: int, name: str, image: str, label: str) -> list[_Sample]:
    keys: dict[str, dict[str, tuple[Member, bytes]]] = {}
    members = tars.members_of(plain, where=url, small=lambda member: member.lower().endswith(TEXTS))
    for member, data in members:
        if member.name.endswith("/") or trees.is_hidden(member.name):
            continue
        folder, slash, last = member.name.rpartition("/")
        stem, _, extension = last.partition(".")
        held = keys.setdefault(f"{folder}{slash}{stem}", {})
        if extension.lower() in held:
            raise Refusal(
                f"two members of one sample end in .{extension.lower()}",
                path=f"{redact(url)}/{member.name}",
                value=member.name,
                remedy="make the shard again",
            )
        held[extension.lower()] = (member, data)
    found = []
    for key, held in keys.items():
        where = f"{redact(url)}/{key}"
        extension = _picture(held, image, where)
        found.append(
            _Sample(
                path=f"{name}/{held[extension][0].name}",
                shard=number,
                picture=held[extension][0],
                label=_label(held, label, where),
                caption=" ".join(trees.text(held["txt"][1], f"{where}.txt").split())
                if "txt" in held
                else None,
            )
        )
    return found


def _picture(held: Mapping[str, object], image: str, where: str) -> str:
    """The extension of the sample's picture."""
    if image:
        found = [image.lower().lstrip(".")] if image.lower().lstrip(".") in held else []
    else:
        found = [extension for extension in held if f".{extension}" in trees.PICTURES]
    if len(found) != 1:
        raise Refusal(
            f"the sample has {len(found) or 'no'} pictures among {', '.join(sorted(held))}",
            path=where,
            value=sorted(held),
            remedy="say with data.source.image which extension is the picture",
        )
    return found[0]


def _label(held: Mapping[str, tuple[Member, bytes]], key: str, where: str) -> str | int | None:
    if "cls" in held:
        word = trees.text(held["cls"][1], f"{where}.cls").strip()
        digits = word.isascii() and word.removeprefix("-").isdigit() and len(word) < 10
        return int(word) if digits else word or None
    if "json" not in held:
        return None
    text = trees.text(held["json"][1], f"{where}.json")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal(
            f"is no JSON: {error}", path=f"{where}.json", remedy="write an object"
        ) from error
    value = record.get(key) if isinstance(record, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise Refusal(
            f"'{key}' is neither a number nor a word",
            path=f"{where}.json",
            value=value,
            remedy="say with data.source.label which key is the label",
        )
    return value


def _labels(
    samples: list[_Sample], where: str, names: list[str]
) -> tuple[list[int] | None, tuple[str, ...]]:
    found = [sample.label for sample in samples]
    _refuse_some(samples, found, "label (key.cls, or a key of key.json)", where)
    if not found or found[0] is None:
        return None, ()
    numbers = [value for value in found if isinstance(value, int)]
    if len(numbers) == len(found):
        return numbers, rows.named(numbers, names, where)
    classes, labels = rows.numbered([str(value) for value in found])
    return labels, classes


def _refuse_some(
    samples: list[_Sample], values: list[str | None] | list[str | int | None], what: str, where: str
) -> None:
    """Either all samples have it or none has."""
    missing = [sample.path for sample, value in zip(samples, values, strict=True) if value is None]
    if missing and len(missing) < len(samples):
        raise Refusal(
            f"{len(missing)} of {len(samples)} samples have no {what}, '{missing[0]}' among them",
            path=where,
            value=missing[0],
            remedy="remove them, or make the shards again",
        )


def _class_names(folder: str) -> list[str]:
    for name in NAMES:
        file = store.join(folder, name)
        if store.exists(file):
            text = trees.text(store.read_bytes(file), redact(file))
            return [line.strip() for line in text.splitlines() if line.strip()]
    return []
