"""Transforms that are not ours: what is read off torchvision's files is what importing would find; refused in one line."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from torchvision.transforms import v2

from datasets.foreign.pool import Foreign, pools
from datasets.refusal import Refusal
from trainers import catalogue, feed, foreign, rooms, shown
from trainers.build import Shape
from trainers.recipe import Recipe

DIGITS = str(rooms.ROOT / "recipes" / "digits.yaml")
SHAPE = Shape(10, channels=1, size=8, stored=(8, 8, 1))
CPU = torch.device("cpu")


def recipe(*transforms: Any, **more: Any) -> Recipe:
    return Recipe.load(DIGITS).override({"data.train.transforms": list(transforms), **more})


@pytest.mark.parametrize("name", foreign.v2())
def test_arguments_are_those_of_the_constructor(name: str) -> None:
    parameters = inspect.signature(getattr(v2, name.removeprefix("v2:"))).parameters.values()
    assert not [p for p in parameters if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert foreign.v2()[name].known == {p.name for p in parameters}
    assert foreign.v2()[name].required == {p.name for p in parameters if p.default is p.empty}


def test_every_public_transform_is_known_or_left_out_on_purpose() -> None:
    public = {
        name
        for name, kind in vars(v2).items()
        if inspect.isclass(kind) and issubclass(kind, v2.Transform)
    }
    known = {name.removeprefix("v2:") for name in foreign.v2()}
    assert known <= public and public - known <= foreign.NOT_OF_A_PICTURE


@pytest.mark.parametrize(
    ("transform", "path", "said"),
    [
        ("v2:ColorJiter", "", "v2:ColorJitter"),
        ("ColorJitter", "", "v2:ColorJitter"),
        ("pad_corp", "", "pad_crop"),
        ({"v2:ColorJitter": {"brightnes": 0.4}}, ".brightnes", "'brightness'"),
        ("v2:GaussianBlur", "", "needs 'kernel_size'"),
        ("v2:MixUp", "", "no transform of one picture of bytes -- use data.train.mix"),
        ("v2:Normalize", "", "by data.mean and data.std"),
        ("v2:Xyzzy", "", "torchvision.transforms.v2 documents them"),
        ("python:augment", "", "write python:package.module:function"),
        ("python:augment:a.b", "", "write python:package.module:function"),
        ({"v2:Compose": {"transforms": ["flip"]}}, ".transforms.0", "'flip'"),
        (
            {"v2:RandomApply": {"transforms": ["v2:RGB", "v2:GausianBlur"]}},
            ".transforms.1",
            "v2:GaussianBlur",
        ),
    ],
)
def test_a_mistake_is_refused_before_anything_is_imported(
    transform: Any, path: str, said: str
) -> None:
    with pytest.raises(Refusal) as caught:
        recipe("flip", transform)
    assert caught.value.path == f"data.train.transforms.1{path}"
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "form",
    [
        "v2:RandomGrayscale",
        {"name": "v2:RandAugment", "num_ops": 2},
        {"v2:ColorJitter": {"brightness": 0.4, "hue": 0.1}},
        {"v2:RandomApply": {"p": 0.5, "transforms": [{"v2:GaussianBlur": {"kernel_size": 3}}]}},
        "python:my_package.augment:strong",
        {"python:augment:strong": {"strength": 2}},
        {"name": "python:augment:strong", "strength": 2},
    ],
    ids=str,
)
def test_all_forms_are_taken_by_the_recipe_and_by_its_schema(form: Any) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(json.dumps(catalogue.schema())))
    checked = recipe("flip", form)
    validator.validate(checked.plain())
    tree = checked.plain()
    tree["data"]["train"]["transforms"] = ["flip", form]
    validator.validate(tree)
    assert Recipe.check(tree) == checked == Recipe.check(checked.plain())


def test_the_schema_refuses_other_names() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(json.dumps(catalogue.schema())))
    tree = recipe("flip").plain()
    for form in ("v3:Flip", "python:augment", {"flop": {}}, {"v2:RGB": {}, "v2:Pad": {}}):
        tree["data"]["train"]["transforms"] = [form]
        assert not validator.is_valid(tree), form


def test_a_pipeline_may_mix_them() -> None:
    mixed = recipe("flip", "v2:RandomGrayscale", {"pad_crop": {"padding": 2}}, "python:a:b")
    built = shown.transforms(mixed.data)
    assert [isinstance(transform, Foreign) for transform in built] == [False, True, False, True]
    assert len(pools(built)) == 1, "one process a thread, however many transforms"
    learnt = shown.view(mixed, SHAPE, CPU, index=0)
    assert (len(learnt.transforms), learnt.views, learnt.decoded_bytes) == (4, 1, 0)
    judged = shown.view(mixed, SHAPE, CPU)
    assert (len(judged.transforms), judged.views) == (0, 1)


def test_processes_decode_beside_a_gpu_and_where_the_recipe_says_so() -> None:
    gpu = torch.device("cuda", 0)
    for words, asked in (
        (None, (False, True)),
        ("threads", (False, False)),
        ("processes", (True, True)),
    ):
        said = recipe(**({"scale.decode_in": words} if words else {}))
        found = tuple(shown.view(said, SHAPE, device).processes for device in (CPU, gpu))
        assert found == asked
        assert said.identity("d") == recipe().identity("d"), "the same run, however it is read"


def test_what_is_shown_is_said_by_the_recipe() -> None:
    said = recipe(**{"data.train.views": 3, "scale.decoded_bytes": 10**9})
    learnt = shown.view(said, SHAPE, CPU, index=0)
    assert (learnt.views, learnt.decoded_bytes) == (3, 10**9)
    assert shown.view(said, SHAPE, CPU).views == 1, "judged by one"
    assert (
        said.identity("d")
        != recipe().identity("d")
        == recipe(**{"scale.decoded_bytes": 10**9}).identity("d")
    )


@pytest.mark.parametrize("place", ["data.train", "phases.0.data.train"])
def test_refusals_name_the_place_in_the_recipe(place: str) -> None:
    wrong = Recipe.load(DIGITS).override(
        {place: {"transforms": ["flip", {"erase": {"share": 2.0}}]}}
    )
    with pytest.raises(Refusal) as caught:
        shown.view(wrong, SHAPE, CPU, index=0)
    assert caught.value.path == f"{place}.transforms.1.share"
    framed = Recipe.load(DIGITS).override({place: {"frame": {"center": {"share": 2.0}}}})
    with pytest.raises(Refusal) as caught:
        shown.view(framed, SHAPE, CPU, index=0)
    assert caught.value.path == f"{place}.frame.share"


def test_foreign_transforms_are_tried_on_the_shape_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cutting.py").write_text(
        "def cut(image, *, rows):\n    return image[: len(image) - rows]\n"
    )
    monkeypatch.chdir(tmp_path)
    manifest = feed.dataset(recipe().data).manifest
    shown.check(recipe("flip", {"python:cutting:cut": {"rows": 0}}), manifest, SHAPE)
    with pytest.raises(Refusal, match=r"makes uint8 \(6, 8, 1\) of uint8 \(8, 8, 1\)") as caught:
        shown.check(recipe("flip", {"python:cutting:cut": {"rows": 2}}), manifest, SHAPE)
    assert caught.value.path == "data.train.transforms.1"


@pytest.mark.parametrize("place", ["data.train", "data.eval", "phases.0.data.train"])
def test_pixels_of_one_size_have_no_frame(place: str) -> None:
    framed = recipe(**{f"{place}.frame": "center"})
    with pytest.raises(Refusal, match="pixels of one size") as caught:
        shown.check(framed, feed.dataset(framed.data).manifest, SHAPE)
    assert caught.value.path == f"{place}.frame"


def test_views_that_no_task_looks_at_are_told(caplog: pytest.LogCaptureFixture) -> None:
    manifest = feed.dataset(recipe().data).manifest
    for views, told in ((1, 0), (3, 1)):
        caplog.clear()
        shown.check(recipe(**{"data.train.views": views}), manifest, SHAPE)
        assert [record.levelname for record in caplog.records] == ["WARNING"] * told
    assert "'classify' does not look at image_2, image_3" in caplog.text
