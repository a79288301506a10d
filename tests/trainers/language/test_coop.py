"""CoOp: as many numbers as the paper counts, prompts in the order that is said, and a CLIP that stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from datasets.batch import Batch
from datasets.formats import tokens as encoding
from datasets.order import Plan
from datasets.refusal import Refusal
from trainers import build, rooms
from trainers.build import Shape
from trainers.describe import preview
from trainers.recipe import Recipe
from trainers.stage import Stage

NAMES = ["zero", "one", "horned puffin"]


def tiny(**said: Any) -> Any:
    torch.manual_seed(0)
    return rooms.door("models", "clip").build({"size": 8}, {"layers": 1, **said})


def coop(model: Any, names: list[str] = NAMES, **said: Any) -> Any:
    return rooms.door("tasks", "coop").build({"model": model, "classes": names}, said)


def batch(rows: int = 6) -> Batch:
    image = torch.randn(rows, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    ids = torch.arange(rows)
    return Batch({"image": image, "label": ids % len(NAMES), "id": ids}, key=0)


@pytest.mark.parametrize(("per_class", "numbers"), [(False, 8_192), (True, 1_638_400)])
def test_sixteen_vectors_of_512_are_as_many_numbers(per_class: bool, numbers: int) -> None:
    names = [f"bird {number}" for number in range(200)]
    with torch.device("meta"):
        model = tiny(text_width=512)
        task = coop(model, names, per_class=per_class)
    assert sum(p.numel() for p in task.context.parameters()) == numbers


@pytest.mark.parametrize("architecture", ["ViT-B-32", "RN50", "ViT-B-16-quickgelu"])
def test_of_the_paper_s_models_it_is_8192(architecture: str) -> None:
    with torch.device("meta"):
        model = rooms.door("models", "clip").build({"size": 224}, {"architecture": architecture})
        task = coop(model, context=16)
    assert sum(p.numel() for p in task.context.parameters()) == 8_192


@pytest.mark.parametrize(
    ("position", "expected"),
    [("end", "[ 1 2 3 4 horned puffin . ]"), ("middle", "[ 1 2 horned puffin 3 4 . ]"),
     ("front", "[ horned puffin 1 2 3 4 . ]")],
)  # fmt: skip
def test_the_name_stands_where_it_is_said(position: str, expected: str) -> None:
    task = coop(tiny(), context=4, position=position)
    words, places = task.layout.words[2].tolist(), task.layout.places[2].tolist()
    start, end = encoding.ends()
    (horned,), (stop,) = encoding.encoded("horned")[:1], encoding.encoded(".")
    known = {start: "[", end: "]", stop: ".", horned: "horned"}
    puffin = encoding.encoded("horned puffin")[1:]
    known |= {puffin[0]: "puffin", **dict.fromkeys(puffin[1:], "")}
    said = [str(place) if place else known[word] for word, place in zip(words, places, strict=True)]
    length = int(task.layout.ends[2]) + 1
    assert " ".join(filter(None, said[:length])) == expected


def test_words_to_begin_with_are_the_prompt_of_these_words() -> None:
    model = tiny().eval()
    task = coop(model, words="a photo of a").eval()
    assert task.context.count == 4
    prompts = model.tokens([f"a photo of a {name}." for name in NAMES])
    expected = model.encode_text(prompts, normalize=True)
    torch.testing.assert_close(task.texts(), expected, rtol=1e-4, atol=1e-5)
    longer = coop(model, words="a photo of a", context=6)
    table = model.token_embedding.weight[encoding.encoded("a photo of a")]
    assert torch.equal(longer.context.vectors[2:], table) and longer.context.vectors.shape[0] == 6
    assert coop(model, words="a photo of a", per_class=True).context.vectors.shape == (3, 4, 64)


def learnt(task: Any, steps: int) -> list[float]:
    optimizer = torch.optim.Adam(task.context.parameters(), 1e-2)
    losses = []
    for _ in range(steps):
        (step,) = task.training_step(batch())
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        losses.append(step.loss.item())
    return losses


@pytest.mark.parametrize("per_class", [False, True])
def test_the_context_learns_and_nothing_else(per_class: bool) -> None:
    model = tiny().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    task = coop(model, context=4, per_class=per_class)
    losses = learnt(task, 60)
    assert losses[-1] < 0.98 * losses[0]
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    first = task.eval().predict(batch())["logits"]
    task.train()
    learnt(task, 5)
    assert not torch.equal(first, task.eval().predict(batch())["logits"]), "not what it knew before"


def staged(recipe: Recipe) -> Stage:
    net = build.model(recipe, Shape(3, channels=3, size=8))
    plan, device = Plan(6, 6, 1), torch.device("cpu")
    return Stage(recipe, 0, net, plan=plan, device=device, bf16=False, classes=NAMES)


@pytest.fixture
def recipe() -> Recipe:
    task = {"name": "coop", "context": 4}
    return Recipe.load(
        str(rooms.ROOT / "recipes" / "coop_digits.yaml"),
        ["scale.device=cpu", "data.size=8"],
    ).override({"phases.0.task": task})


def test_the_engine_steps_the_context_alone(recipe: Recipe) -> None:
    stage = staged(recipe)
    learning = {n for n, p in stage.task.named_parameters() if p.requires_grad}
    assert learning == {"context.vectors"}
    assert not stage.task.get_submodule("model").training and stage.task.training
    before = stage.task.get_parameter("context.vectors").detach().clone()
    logs = stage.spend(batch(), 0, ())
    assert logs["chance"] == pytest.approx(1.0986, abs=1e-3)
    assert not torch.equal(before, stage.task.get_parameter("context.vectors"))


def test_what_of_the_model_learns_is_not_asked(recipe: Recipe) -> None:
    with pytest.raises(Refusal) as caught:
        preview(recipe.override("phases.0.train=[visual.*]"))
    assert caught.value.path == "phases.0.train" and caught.value.remedy == "leave it out"


def test_a_class_whose_name_is_too_long_is_named() -> None:
    long = "bird with a name that nobody remembers " * 4
    with pytest.raises(Refusal) as caught:
        coop(tiny(), ["zero", long], context=8)
    assert caught.value.value == long and "32" in caught.value.error and long in caught.value.error
    with pytest.raises(Refusal, match="class 'one' is 33 tokens") as caught:
        coop(tiny(), ["one"], context=29)
    assert "context=28 or fewer" in caught.value.remedy


def test_more_words_than_vectors_are_refused() -> None:
    with pytest.raises(Refusal) as caught:
        coop(tiny(), context=2, words="a photo of a")
    assert caught.value.path == "context" and caught.value.value == 2
