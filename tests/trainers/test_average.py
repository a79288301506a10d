"""The moving average of the weights: what it is, that it is judged and saved, and that a run goes on with it to the bit."""

from __future__ import annotations

import torch
from safetensors.torch import load_file
from torch import nn

from tests.trainers.runs import Places, rows, same, weights
from trainers import checkpoint
from trainers.average import Average
from trainers.engine import fit
from trainers.recipe import Recipe


def asked(digits: Recipe, *changes: str) -> Recipe:
    return digits.override("phases.0.ema=0.9", "keep.every_steps=5", *changes)


def test_it_is_the_mean_that_it_says() -> None:
    net = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    net[0].bias.requires_grad_(False)
    average = Average(net, 0.5)
    expected = net[0].weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            net[0].weight.fill_(step)
            net[1].running_mean.fill_(step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    torch.testing.assert_close(average.held["0.weight"], expected)
    assert "0.bias" not in average.held, "what is frozen has no average"
    assert "1.num_batches_tracked" not in average.held
    with average.judged():
        torch.testing.assert_close(net[0].weight.detach(), expected)
        assert 1 < float(net[1].running_mean) < 5
        assert float(average.held["0.weight"][0, 0]) == 5
    assert net[0].weight.detach().unique().item() == 5 and net[1].running_mean.item() == 5


def test_what_is_saved_is_what_was_judged(digits: Recipe, local: Places) -> None:
    session, plain = local(), local("plain")
    *_, last = fit(asked(digits), session)
    *_, other = fit(asked(digits, "phases.0.ema=null"), plain)
    url = checkpoint.latest(session.folder)
    found, raw = load_file(f"{url}/model.safetensors"), load_file(f"{url}/raw.safetensors")
    trained = load_file(f"{checkpoint.latest(plain.folder)}/model.safetensors")
    for name, tensor in trained.items():
        if tensor.is_floating_point():
            assert torch.equal(raw[f"model.{name}"], tensor), "the average moved what is trained"
            assert not torch.equal(found[name], tensor)
    assert dict(last.scores) != dict(other.scores)
    ours = [r for r in rows(session) if r["split"] == "train"]
    assert [r["loss"] for r in ours] == [r["loss"] for r in rows(plain) if r["split"] == "train"]


def test_a_run_goes_on_with_its_average_to_the_bit(digits: Recipe, local: Places) -> None:
    whole, cut = local("whole"), local("cut")
    list(fit(asked(digits), whole))
    begun = fit(asked(digits), cut)
    for _ in range(8):
        next(begun)
    begun.close()  # as if killed: the checkpoint of step 5 is all there is
    list(fit(asked(digits), cut))
    assert same(weights(whole), weights(cut))
    raws = [load_file(f"{checkpoint.latest(p.folder)}/raw.safetensors") for p in (whole, cut)]
    assert same(raws[0], raws[1])
    assert rows(whole) == rows(cut)


def test_the_next_phase_goes_on_from_the_average(quick: Recipe, local: Places) -> None:
    session = local()
    averaged = quick.override({"phases.0.ema": 0.9, "keep.last": 99, "keep.every_steps": 1})
    list(fit(averaged, session))
    steps = quick.phases[0].steps
    assert steps
    end = load_file(f"{checkpoint.folder(session.folder, steps)}/model.safetensors")
    resumed = local("resumed")
    first = fit(averaged, resumed)
    for report in first:
        if report.step == steps:
            break
    first.send("save")
    first.close()
    list(fit(averaged, resumed))
    assert same(weights(session), weights(resumed))
    ours = load_file(f"{checkpoint.folder(session.folder, steps + 1)}/model.safetensors")
    moved = [n for n in end if not torch.equal(end[n], ours[n])]
    assert moved, "the second phase learns from there"
