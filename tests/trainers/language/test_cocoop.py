"""CoCoOp: each picture by prompts of its own, as one at a time would have it; what learns, and classes called anew."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.trainers.language.test_coop import NAMES, batch, coop, tiny
from trainers import rooms
from trainers.language import towers


def cocoop(model: Any, names: list[str] = NAMES, **said: Any) -> Any:
    return rooms.door("tasks", "cocoop").build({"model": model, "classes": names}, said)


def test_a_picture_is_told_by_the_prompts_that_its_own_context_makes() -> None:
    """One picture at a time, as the paper's code has it, through CoOp's own way from a context to texts."""
    task = cocoop(tiny(), words="a photo of a")
    model, image_BD = task.model, task.pictures(batch()["image"])
    found = task.logits(image_BD)
    for picture_D, logits_C in zip(image_BD, found, strict=True):
        context_MW = task.context.vectors + task.shift(picture_D)
        text_CD = towers.encode(model, task.layout(model, context_MW), task.layout.ends)
        torch.testing.assert_close(logits_C, task.scale() * text_CD @ picture_D)
    assert not torch.allclose(found[0], (task.scale() * image_BD @ task.texts().T)[0])


def test_a_context_that_no_picture_moves_is_coops() -> None:
    model = tiny()
    task, plain = cocoop(model, words="a photo of a"), coop(model, words="a photo of a")
    torch.nn.init.zeros_(task.shift[2].weight)
    torch.nn.init.zeros_(task.shift[2].bias)
    expected = plain.eval().predict(batch())["logits"]
    torch.testing.assert_close(task.eval().predict(batch())["logits"], expected)


def test_it_has_as_many_numbers_as_the_paper_says() -> None:
    """ViT-B/16: 4 vectors of 512, and 512 x 32 and 32 x 512 weights with biases: 35,360 (table 10)."""
    with torch.device("meta"):
        architecture = {"architecture": "ViT-B-16"}
        model = rooms.door("models", "clip").build({"size": 224}, architecture)
        task = cocoop(model, context=4)
    learning = [*task.context.parameters(), *task.shift.parameters()]
    assert sum(p.numel() for p in learning) == 4 * 512 + 2 * 512 * 32 + 32 + 512 == 35_360


def test_context_and_shift_learn_and_the_clip_rests() -> None:
    model = tiny().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    task = cocoop(model, context=4)
    learning = [p for p in task.parameters() if p.requires_grad]
    assert len(learning) == 5
    optimizer, losses = torch.optim.Adam(learning, 1e-2), []
    for _ in range(40):
        (step,) = task.training_step(batch())
        optimizer.zero_grad()
        step.loss.backward()
        assert all(p.grad is not None for p in learning)
        optimizer.step()
        losses.append(step.loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_what_is_judged_does_not_hang_on_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    task = cocoop(tiny(), context=4).eval()
    whole = task.predict(batch())["logits"]
    monkeypatch.setattr(towers, "ROWS", 2 * len(NAMES))
    torch.testing.assert_close(task.predict(batch())["logits"], whole)


@pytest.mark.parametrize("make", [coop, cocoop])
def test_the_same_context_with_other_classes(make: Any) -> None:
    """What base to new asks: classes that the context has not seen, and then those that it has."""
    task = make(tiny(), context=4, position="middle").eval()
    first = task.predict(batch())["logits"]
    task.call(["two", "a heron"])
    assert task.predict(batch())["logits"].shape == (6, 2)
    task.call(NAMES)
    assert torch.equal(task.predict(batch())["logits"], first)
