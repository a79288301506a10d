"""Rows at once: a step for which memory runs out is done again with half as many, and leaves what it would have left at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datasets.refusal import Refusal
from tests.trainers.runs import Places, rows, same, summary, weights
from trainers import build
from trainers.accumulation import OutOfMemory
from trainers.engine import fit
from trainers.recipe import Recipe


@pytest.fixture
def most(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """How many rows at once the nets of this process can be given, in training and in evaluation."""
    wanted = {"train": 10**6, "eval": 10**6}
    real = build.model

    def model(*args: Any, **kwargs: Any) -> nn.Module:
        network = real(*args, **kwargs)

        def look(module: nn.Module, given: tuple[Tensor]) -> None:
            kind = "train" if module.training else "eval"
            if len(given[0]) > wanted[kind] and given[0].device.type != "meta":
                raise torch.OutOfMemoryError(f"CUDA out of memory.\\nTried {len(given[0])} rows")

        network.register_forward_pre_hook(look)
        return network

    monkeypatch.setattr(build, "model", model)
    yield wanted


def asked(digits: Recipe, micro_batch: object) -> Recipe:
    short = {"phases.0.steps": 5, "phases.0.epochs": None}
    return digits.override({"scale.micro_batch": micro_batch, **short})


def test_a_step_is_done_again_with_half_as_many_rows(
    digits: Recipe, local: Places, most: dict[str, int]
) -> None:
    most["train"] = 20
    found = local("found")
    list(fit(asked(digits, "auto"), found))
    assert summary(found)["micro_batch"] == 16
    assert any("micro-batches of 16" in note for note in summary(found)["notes"])
    said = local("said")
    list(fit(asked(digits, 16), said))
    assert same(weights(found), weights(said)), "the steps that failed left something behind"
    assert [r for r in rows(found) if r["split"] == "train"] == [
        r for r in rows(said) if r["split"] == "train"
    ]


def test_what_was_found_is_known_when_the_run_goes_on(
    digits: Recipe, local: Places, most: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    most["train"], session = 20, local()
    begun = fit(asked(digits, "auto"), session)
    next(begun)
    begun.send("stop")
    assert "64 rows at once do not fit into memory: 32 from here on" in caplog.text
    caplog.clear()
    list(fit(asked(digits, "auto"), session))
    assert "do not fit" not in caplog.text and summary(session)["status"] == "finished"


def test_a_row_that_does_not_fit_is_a_refusal(
    digits: Recipe, local: Places, most: dict[str, int]
) -> None:
    most["train"] = 0
    with pytest.raises(Refusal, match="a single row does not fit into memory"):
        list(fit(asked(digits, "auto"), local()))


@pytest.mark.parametrize("micro_batch", [None, 32])
def test_who_said_how_many_is_told_what_to_do(
    digits: Recipe, local: Places, most: dict[str, int], micro_batch: int | None
) -> None:
    most["train"] = 20
    with pytest.raises(OutOfMemory, match="too many for a worker: CUDA out of memory") as caught:
        list(fit(asked(digits, micro_batch), local()))
    assert caught.value.value == (micro_batch or 64)
    assert "scale.micro_batch=auto" in caught.value.remedy


def test_evaluation_takes_half_as_many_rows_where_they_do_not_fit(
    digits: Recipe, local: Places, most: dict[str, int]
) -> None:
    whole = local("whole")
    *_, last = fit(asked(digits, None), whole)
    most["eval"] = 50
    halved = local("halved")
    *_, again = fit(asked(digits, None), halved)
    assert again.scores == pytest.approx(dict(last.scores), rel=1e-6)
