"""What crosses ranks, on two and three real processes with gloo: the same as one process on the whole batch."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from cluster.session import Local
from datasets.batch import Batch
from datasets.fetching.ranges import Stats
from datasets.order import Plan
from datasets.refusal import Refusal
from tests.trainers.ranks import CUTS, Found, Scenario, drawn, met, share, told
from trainers import build, parallel, rooms
from trainers.accumulation import Fitting
from trainers.activations import checkpoint_blocks
from trainers.build import Shape
from trainers.meter import Done, Meter
from trainers.parallel import SyncBatchNorm
from trainers.recipe import Recipe
from trainers.stage import Stage, scaled
from trainers.task import Scalar, Step, Task

# --- what each rank does; everything it returns is compared with one process below


def sums(rank: int, world: int) -> Found:
    ragged = torch.arange(6.0).view(3, 2)[: (3, 0, 1)[rank]] + 10 * rank
    return {
        "sum": parallel.summed(torch.tensor([rank + 1.0, 2.0**40], dtype=torch.float64)),
        "rows": parallel.gathered_rows(ragged),
        "integers": parallel.gathered_rows(torch.full((rank,), rank)),
        "none": parallel.gathered_rows(torch.zeros(0, 4)),
        "world": torch.tensor([parallel.rank(), parallel.world_size()]),
    }


def batch_norm(rank: int, world: int) -> Found:
    """Uneven ranks, a far-off mean (cancellation), and a rank whose rows do not count."""
    found: Found = {}
    for name, counted, shape in (
        ("all", True, (4, 3, 3)),
        ("last_out", rank < world - 1, (4, 3, 3)),
        ("flat", True, (4,)),
    ):
        norm = normal(nn.BatchNorm1d(4) if name == "flat" else nn.BatchNorm2d(4))
        holder = nn.Sequential(norm)
        SyncBatchNorm.convert(holder)
        norm.counted = counted  # type: ignore[assignment]
        rows = sum(CUTS[world])
        x = (drawn(rows, *shape) * 2 + 1000)[share(rank, world)].requires_grad_()
        out = norm(x)
        grad = drawn(rows, *shape, seed=1)[share(rank, world)]
        out.backward(grad if counted else torch.zeros_like(grad))
        for parameter in norm.parameters():
            dist.all_reduce(parameter.grad)
        found[name] = {
            "out": out.detach(),
            "x_grad": x.grad,
            "parameters": [p.grad for p in norm.parameters()],
            "buffers": [b.clone() for b in norm.buffers()],
            "eval": norm.eval()(x).detach(),
        }
    return found


def with_activation(rank: int, world: int) -> Found:
    """timm's batch norm that is also an activation keeps it when it is synchronised."""
    from timm.layers import BatchNormAct2d

    holder = nn.Sequential(BatchNormAct2d(4))
    SyncBatchNorm.convert(holder)
    rows = sum(CUTS[world])
    x = drawn(rows, 4, 3, 3)[share(rank, world)]
    return {"train": holder(x).detach(), "eval": holder.eval()(x).detach()}


def normal(norm: nn.Module) -> nn.Module:
    with torch.no_grad():
        for seed, parameter in enumerate(norm.parameters()):
            parameter.copy_(drawn(*parameter.shape, seed=seed + 5))
    return norm


class Pairs(Task):
    """Three networks, a loss each: a mean, one with weights of its own, a sum."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.three = nn.Linear(3, 2), nn.Linear(3, 1), nn.Linear(3, 1)

    def losses(self, x: Tensor) -> list[Step]:
        weight = x[:, 0].abs() + 0.1
        error = self.two(x)[:, 0].square()
        return [
            Step(self.one(x).square().mean()),
            Step((error * weight).sum() / weight.sum(), weight=weight.sum()),
            Step(1e-2 * self.three(x).square().mean(), summed=True),
        ]


def gradients(rank: int, world: int) -> Found:
    task, rows = Pairs(), sum(CUTS[world])
    wrapped = parallel.wrap(task)
    with parallel.through(task, wrapped):
        for step in task.losses(drawn(rows, 3)[share(rank, world)]):
            scaled(step, CUTS[world][rank], rows, world).backward()
    return {
        "grads": [p.grad for p in task.parameters()],
        "wrapped": sorted(wrapped),
        "plain": type(task.one).__name__,
    }


def keeping_step(rank: int, world: int) -> Found:
    """The last rank has no rows of its own in this batch: one that weighs nothing keeps it in step."""
    task = Pairs()
    own = 4 if rank < world - 1 else 0
    with parallel.through(task, parallel.wrap(task)):
        x = drawn(4, 3, seed=rank) if own else drawn(1, 3, seed=99) * 1e3
        for step in task.losses(x):
            scaled(step, own, 4 * (world - 1), world).backward()
    return {"grads": [p.grad for p in task.parameters()]}


def meters(rank: int, world: int) -> Found:
    stats = Stats()
    stats.count(num_bytes=100 + rank, requests=rank)
    meter = Meter(stats, {"fetched_bytes": 1000})

    def add(step: int, loss: float, own: int) -> None:
        meter.add(Done(step, 0, 0, {}, 0.0, 0.0, 0, {"loss": torch.tensor(loss)}, own))

    for step in range(3):
        add(step, float(rank + step), CUTS[world][rank])
    add(3, float("nan") if rank == 0 else 7.0, 0 if rank == 0 else 2)
    rows, wishes = meter.flush(stop=rank == world - 1, save=False)
    return {
        "rows": rows,
        "wishes": (wishes.stop, wishes.save),
        "every": meter.every,
        **meter.fetched,
    }


def skipping(rank: int, world: int) -> Found:
    """Three steps, of which the second has one picture of one rank that is no number."""
    changes = {"model.width": 4, "scale.device": "cpu", "phases.0.nonfinite": "skip"}
    recipe = Recipe.load(str(rooms.ROOT / "recipes" / "digits.yaml")).override(changes)
    network = build.model(recipe, Shape(10, channels=1, size=8))
    stage = staged(recipe, network, world)
    states = []
    for step in range(3):
        stage.spend(drawn_batch(rank, world, step, spoilt=step == 1), step, ())
        states.append({name: value.clone() for name, value in network.state_dict().items()})
    return {"states": states}


def computed_again(rank: int, world: int) -> Found:
    """Two steps with synchronised norms, whose blocks keep their activations or compute them again."""
    found: Found = {}
    for again in (False, True):
        changes = {"model.width": 4, "scale.device": "cpu"}
        recipe = Recipe.load(str(rooms.ROOT / "recipes" / "digits.yaml")).override(changes)
        network = build.model(recipe, Shape(10, channels=1, size=8))
        if again:
            checkpoint_blocks(network)
        stage = staged(recipe, network, world)
        for step in range(2):
            stage.spend(drawn_batch(rank, world, step), step, ())
        found[str(again)] = {n: v.clone() for n, v in network.state_dict().items()}
    return found


def staged(recipe: Recipe, network: nn.Module, world: int) -> Stage:
    """A phase whose ranks have as many rows as CUTS says."""
    rows, cuts = sum(CUTS[world]), (0, *itertools.accumulate(CUTS[world]))
    plan, device = Plan(rows * 3, rows, world, cuts=cuts), torch.device("cpu")
    return Stage(recipe, 0, network, plan=plan, device=device, bf16=False)


def drawn_batch(rank: int, world: int, step: int, *, spoilt: bool = False) -> Batch:
    """This rank's share of a batch of noise; `spoilt` has one pixel that is no number."""
    rows, own = torch.arange(sum(CUTS[world])), share(rank, world)
    image = drawn(len(rows), 1, 8, 8, seed=step)
    if spoilt:
        image[-1, 0, 0, 0] = torch.nan
    columns = {"image": image[own], "label": rows[own] % 10, "id": rows[own]}
    return Batch(columns, key=step)


def fitting(rank: int, world: int) -> Found:
    """Two steps of a net that takes three rows at once, found out and said beforehand."""
    found: Found = {}
    with tempfile.TemporaryDirectory() as folder:
        for said in ("auto", 2):
            changes = {"model.width": 4, "scale.device": "cpu", "scale.micro_batch": said}
            recipe = Recipe.load(str(rooms.ROOT / "recipes" / "digits.yaml")).override(changes)
            network = narrow(build.model(recipe, Shape(10, channels=1, size=8)), 3)
            stage = staged(recipe, network, world)
            fit = Fitting(recipe, Local(stage.device, folder, rank=rank, world=world))
            fit.begin(stage)
            for step in range(2):
                fit.spend(stage, drawn_batch(rank, world, step), step, (), lambda: None)
            found[str(said)] = {n: v.clone() for n, v in network.state_dict().items()}
            found["rows"] = stage.micro.rows
        again = Fitting(recipe.override("scale.micro_batch=auto"), fit.session)
        found["known"] = again.found
    return found


def narrow(network: nn.Module, most: int) -> nn.Module:
    """A net that runs out of memory when it is trained on more rows than this."""

    def look(module: nn.Module, given: tuple[Tensor]) -> None:
        if module.training and len(given[0]) > most:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {len(given[0])} rows")

    network.register_forward_pre_hook(look)
    return network


def scores(rank: int, world: int) -> Found:
    """Rank 0 has every row but two, the last rank has none."""
    rows = {0: slice(0, 10), 1: slice(10, 12), world - 1: slice(12, 12)}[rank]
    return {
        name: evaluated(name, rows) for name in ("accuracy", "regression", "samples", "fid_kid")
    }


def evaluated(name: str, rows: slice) -> Found:
    context = {"classes": list("abcdefg"), "mean": [0.5], "std": [0.5]}
    evaluator = rooms.door("evals", name).build(context, {})
    outputs = {"logits": drawn(12, 7), "prediction": drawn(12, 1), "sample": drawn(12, 1, 4, 4)}
    columns = {
        "label": torch.arange(12) % 7,
        "x": drawn(12, seed=2),
        "y": drawn(12, seed=3),
        "image": drawn(12, 1, 4, 4, seed=4),
        "id": torch.arange(12),
    }
    evaluator.update(
        {k: v[rows] for k, v in outputs.items()},
        Batch({k: v[rows] for k, v in columns.items()}, key=0),
    )
    return {f.name: f.value for f in evaluator.findings() if isinstance(f, Scalar)}


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        *(sums, batch_norm, with_activation, gradients, keeping_step, meters),
        *(skipping, computed_again, fitting, scores),
    )
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each process found."""
    return met(tmp_path_factory.mktemp("ranks"), SCENARIOS)


@pytest.fixture(params=CUTS)
def ranks(request: pytest.FixtureRequest, folder: Path) -> list[Found]:
    return told(folder, request.param)


def each(ranks: list[Found], scenario: str) -> list[Found]:
    return [found[scenario] for found in ranks]


def test_sums_and_rows(ranks: list[Found]) -> None:
    world = len(ranks)
    rows = torch.cat([torch.arange(6.0).view(3, 2)[: (3, 0, 1)[r]] + 10 * r for r in range(world)])
    for rank, found in enumerate(each(ranks, "sums")):
        assert found["sum"].tolist() == [world * (world + 1) / 2, world * 2.0**40]
        assert torch.equal(found["rows"], rows)
        assert found["integers"].tolist() == [r for r in range(world) for _ in range(r)]
        assert found["none"].shape == (0, 4)
        assert found["world"].tolist() == [rank, world]


@pytest.mark.parametrize("case", ["all", "last_out", "flat"])
def test_synchronised_batch_norm_is_one_norm_over_the_whole_batch(
    ranks: list[Found], case: str
) -> None:
    world = len(ranks)
    rows = sum(CUTS[world])
    counted = rows - (CUTS[world][-1] if case == "last_out" else 0)
    shape = (4,) if case == "flat" else (4, 3, 3)
    norm = normal(nn.BatchNorm1d(4) if case == "flat" else nn.BatchNorm2d(4)).double()
    x = (drawn(rows, *shape) * 2 + 1000).double()[:counted].requires_grad_()
    out = norm(x)
    out.backward(drawn(rows, *shape, seed=1).double()[:counted])
    found = [rank["batch_norm"][case] for rank in ranks]
    outs, grads = torch.cat([f["out"] for f in found]), torch.cat([f["x_grad"] for f in found])
    close = {"rtol": 1e-4, "atol": 2e-3}  # at a mean of 1000 float32 itself has 6e-5
    torch.testing.assert_close(outs[:counted].double(), out.detach(), **close)
    torch.testing.assert_close(grads[:counted].double(), x.grad, **close)
    assert not grads[counted:].any() and torch.isfinite(outs).all()
    for rank in found:
        for mine, parameter in zip(rank["parameters"], norm.parameters(), strict=True):
            torch.testing.assert_close(mine.double(), parameter.grad, **close)
        for mine, buffer in zip(rank["buffers"], norm.buffers(), strict=True):
            torch.testing.assert_close(mine.double(), buffer.double(), rtol=1e-5, atol=1e-4)
        assert all(
            torch.equal(a, b) for a, b in zip(rank["buffers"], found[0]["buffers"], strict=True)
        )
    expected = norm.eval()(x).detach()
    torch.testing.assert_close(
        torch.cat([f["eval"] for f in found])[:counted].double(), expected, **close
    )


def test_a_norm_with_an_activation_keeps_it(ranks: list[Found]) -> None:
    from timm.layers import BatchNormAct2d

    x = drawn(sum(CUTS[len(ranks)]), 4, 3, 3)
    norm = BatchNormAct2d(4)
    for mode, expected in (("train", norm(x)), ("eval", norm.eval()(x))):
        found = torch.cat([rank["with_activation"][mode] for rank in ranks])
        torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)


def test_a_norm_of_an_unknown_kind_is_refused() -> None:
    class Odd(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).exp()

    with pytest.raises(Refusal, match="Odd"):
        SyncBatchNorm.convert(nn.Sequential(Odd(3)))


def test_gradients_of_uneven_ranks_are_those_of_the_whole_batch(ranks: list[Found]) -> None:
    task = Pairs()
    rows = sum(CUTS[len(ranks)])
    for step in task.losses(drawn(rows, 3)):
        scaled(step, rows, rows, 1).backward()
    for found in each(ranks, "gradients"):
        assert (found["wrapped"], found["plain"]) == (["one", "three", "two"], "Linear")
        for mine, parameter in zip(found["grads"], task.parameters(), strict=True):
            torch.testing.assert_close(mine, parameter.grad, rtol=1e-5, atol=1e-6)


def test_a_rank_that_only_keeps_step_adds_nothing(ranks: list[Found]) -> None:
    task = Pairs()
    x = torch.cat([drawn(4, 3, seed=rank) for rank in range(len(ranks) - 1)])
    for step in task.losses(x):
        scaled(step, len(x), len(x), 1).backward()
    for found in each(ranks, "keeping_step"):
        for mine, parameter in zip(found["grads"], task.parameters(), strict=True):
            torch.testing.assert_close(mine, parameter.grad, rtol=1e-5, atol=1e-6)


def test_meters_are_means_over_the_global_batch_and_ranks_agree(ranks: list[Found]) -> None:
    cuts = CUTS[len(ranks)]
    for found in each(ranks, "meters"):
        for step in range(3):
            mean = sum(n * (rank + step) for rank, n in enumerate(cuts)) / sum(cuts)
            assert found["rows"][step]["step"] == step
            assert found["rows"][step]["loss"] == pytest.approx(mean)
        assert found["rows"][3]["loss"] == 7.0
        assert found["wishes"] == (True, False), "one rank's wish is everybody's"
        assert found["every"] == ranks[0]["meters"]["every"]
        own = sum(range(len(ranks)))
        assert found["fetch_requests"] == found["rows"][0]["fetch_requests"] == own
        assert found["fetched_bytes"] == 1000 + 100 * len(ranks) + own


@pytest.mark.parametrize("name", ["accuracy", "regression", "samples", "fid_kid"])
def test_scores_are_those_of_one_process(ranks: list[Found], name: str) -> None:
    # Of two ranks the second is the last one, which has no row.
    expected = evaluated(name, slice(0, 12 if len(ranks) == 3 else 10))
    for found in each(ranks, "scores"):
        assert found[name] == pytest.approx(expected, rel=1e-5)


def test_ranks_skip_a_step_together_that_is_no_number_for_one_of_them(ranks: list[Found]) -> None:
    found = each(ranks, "skipping")
    for one in found:
        first, second, third = one["states"]
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert not all(torch.equal(second[name], third[name]) for name in first)
        assert all(value.isfinite().all() for value in third.values())
        for step, state in enumerate(one["states"]):
            for name, value in state.items():
                torch.testing.assert_close(value, found[0]["states"][step][name], msg=name)


def test_alone_everything_is_itself() -> None:
    rows = torch.arange(4.0)
    assert parallel.summed(rows) is rows and parallel.gathered_rows(rows) is rows
    assert (parallel.rank(), parallel.world_size()) == (0, 1)
    assert parallel.wrap(Pairs()) == {}
    parallel.barrier()


def test_ranks_take_as_many_rows_at_once_as_fit_on_each(ranks: list[Found]) -> None:
    for found in each(ranks, "fitting"):
        assert found["rows"] == found["known"] == 2
        for name, value in found["auto"].items():
            assert torch.equal(value, found["2"][name]), f"{name}: the trials left something behind"


def test_activations_computed_again_move_norms_once(ranks: list[Found]) -> None:
    for found in each(ranks, "computed_again"):
        for name, value in found["False"].items():
            torch.testing.assert_close(value, found["True"][name], rtol=1e-6, atol=1e-7)
