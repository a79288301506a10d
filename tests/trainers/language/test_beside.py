"""What learns beside a CLIP that rests: a cache of pictures, a linear head, a temperature."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from datasets.batch import Batch
from datasets.refusal import Refusal
from trainers import rooms
from trainers.task import Scalar, Task

NAMES = ["zero", "one", "two"]


def made(name: str, counts: list[int] | None = None, **said: Any) -> Any:
    torch.manual_seed(0)
    model = rooms.door("models", "clip").build({"size": 8}, {"layers": 1}).requires_grad_(False)
    context = {"model": model, "classes": NAMES, "counts": counts or []}
    task: Task = rooms.door("tasks", name).build(context, said)
    return task


def batch(rows: slice = slice(0, 6)) -> Batch:
    image = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    columns = {"image": image, "label": torch.arange(6) % 3, "id": 10 + torch.arange(6)}
    return Batch({n: c[rows] for n, c in columns.items()}, key=0)


def spent(task: Any, given: Batch, lr: float = 1e-2) -> Any:
    optimizer = torch.optim.AdamW(
        [p for p in task.parameters() if p.requires_grad], lr, weight_decay=0
    )
    (step,) = task.training_step(given)
    step.loss.backward()
    optimizer.step()
    return step


def test_the_cache_by_hand() -> None:
    """arXiv 2111.03930, equation 4, with the values of a class summed."""
    task = made("tip_adapter", shots=2, alphas=[1.5], betas=[2.0])
    for rows in (slice(0, 4), slice(4, 6)):
        step = spent(task, batch(rows))
    assert float(step.logs["cached"]) == 6
    task.eval()
    shown = batch().columns["image"].flip(0) * 0.5
    with torch.no_grad():
        image = task.model(shown)
        keys = task.model(batch()["image"])
        values = torch.nn.functional.one_hot(batch()["label"], 3).float()
        cached = torch.exp(-2.0 * (1 - image @ keys.T)) @ values
        expected = task.model.logit_scale.exp() * image @ task.texts().T + 1.5 * cached
        asked = Batch({**batch().columns, "image": shown}, key=0)
        found = task.predict(asked)["logits"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_without_learning_a_pass_leaves_the_cache_as_it_is() -> None:
    task = made("tip_adapter", shots=2)
    spent(task, batch())
    before = task.cache.keys.detach().clone()
    step = spent(task, batch())
    assert torch.equal(before, task.cache.keys) and float(step.loss.detach()) > 0


def test_each_pass_is_judged_with_the_next_pair() -> None:
    task = made("tip_adapter", shots=2, alphas=[0.5, 1.0], betas=[3.0])
    seen = []
    for _ in range(3):
        for rows in (slice(0, 4), slice(4, 6)):
            spent(task, batch(rows))
        seen.append(task.pair)
    assert seen == [(0.5, 3.0), (1.0, 3.0), (1.0, 3.0)]
    other = made("tip_adapter", shots=2, alphas=[0.5, 1.0], betas=[3.0])
    other.load_state_dict(task.state_dict())
    assert other.pair == (1.0, 3.0)
    torch.testing.assert_close(
        other.eval().predict(batch())["logits"], task.eval().predict(batch())["logits"]
    )


def test_cached_features_may_learn() -> None:
    task = made("tip_adapter", shots=2, learn=True)
    spent(task, batch())
    filled = task.cache.keys.detach().clone()
    torch.testing.assert_close(filled[0, 0], task.model(batch()["image"])[0])
    losses = [float(spent(task, batch()).loss.detach()) for _ in range(40)]
    assert losses[-1] < 0.9 * losses[0] and not torch.equal(filled, task.cache.keys)


def test_more_pictures_than_places_are_refused() -> None:
    with pytest.raises(Refusal, match="class 'one' has 3 pictures") as caught:
        made("tip_adapter", [2, 3, 2], shots=2)
    assert caught.value.path == "data.subset.shots" and caught.value.value == 3
    with pytest.raises(Refusal, match="2 pairs"):
        made("tip_adapter", alphas=[1.0, 2.0], learn=True)
    with pytest.raises(Refusal, match="0 pairs"):
        made("tip_adapter", alphas=[])


def test_a_linear_probe_may_begin_with_the_texts() -> None:
    zero, probe = made("zero_shot").eval(), made("clip_linear", begin="texts").eval()
    torch.testing.assert_close(
        probe.predict(batch())["logits"], zero.predict(batch())["logits"], rtol=1e-4, atol=1e-4
    )
    plain = made("clip_linear")
    assert not plain.eval().predict(batch())["logits"].any()
    plain.train()
    losses = [float(spent(plain, batch()).loss.detach()) for _ in range(30)]
    assert losses[-1] < losses[0]


def test_a_temperature_turns_no_prediction() -> None:
    task = made("zero_shot")
    before = task.eval().predict(batch())
    task.train()
    for _ in range(20):
        spent(task, batch())
    after = task.eval().predict(batch())
    assert torch.equal(before["prediction"], after["prediction"])
    assert not torch.equal(before["logits"], after["logits"])


def recalls(pictures: Tensor, captions: Tensor, said: Tensor) -> dict[str, float]:
    evaluator = rooms.door("evals", "caption_retrieval").build({}, {})
    for part in (slice(0, 2), slice(2, None)):
        outputs = {"embedding": pictures[part], "text": captions[part]}
        evaluator.update(outputs, Batch({"tokens": said[part], "id": said[part, 0]}, key=0))
    return {each.name: each.value for each in evaluator.findings() if isinstance(each, Scalar)}


def test_captions_that_read_the_same_are_the_same() -> None:
    eye, said = torch.eye(4), torch.tensor([[1, 2], [1, 2], [3, 0], [4, 0]])
    assert recalls(eye, eye, said) == {"text_recall_at_1": 1.0, "image_recall_at_1": 1.0}
    swapped = eye[[1, 0, 2, 3]]  # the first two change places, and read the same
    assert recalls(eye, swapped, said)["text_recall_at_1"] == 1.0
    turned = eye[[0, 1, 3, 2]]
    assert recalls(eye, turned, said) == {"text_recall_at_1": 0.5, "image_recall_at_1": 0.5}
