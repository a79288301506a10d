"""A training step of the engine against the same step by hand, in this process, on one thread."""

from __future__ import annotations

from benchmarks import fair, plain, workloads
from benchmarks.clock import interleaved, ratios
from benchmarks.reading import Reading, summed_up, total_ratio
from benchmarks.workloads import Workload

ROUNDS = 21
TARGETS = (("", "<= 150"), ("<= 1.05", ""))  # of the ratio and of the µs more a step, by workload


def run(rounds: int | None = None) -> list[Reading]:
    with workloads.on_one_thread() as both:
        return [
            reading
            for one, targets in zip(both, TARGETS, strict=True)
            for reading in _compared(one, rounds or ROUNDS, targets)
        ]


def _compared(work: Workload, rounds: int, targets: tuple[str, str]) -> list[Reading]:
    worst = _equal_work(work)
    recipe, title, steps = work.recipe(work.steps * (rounds + 2)), work.title, work.steps
    theirs = plain.loop(recipe)
    with fair.engine(recipe, fair.local(recipe, work.folder / "timed")) as reports:
        interleaved(reports.__next__, theirs, steps=steps, rounds=1)  # warm-up
        a, b = interleaved(reports.__next__, theirs, steps=steps, rounds=rounds)
    note = f"first {fair.STEPS} losses agree to {worst:.0e}"
    readings = []
    for clock, ours, others in (("wall", a.wall, b.wall), ("CPU time", a.cpu, b.cpu)):
        more = [(x - y) * 1e6 for x, y in zip(ours, others, strict=True)]
        readings += [
            summed_up(
                "step",
                f"{title}: step, {clock}",
                ratios(ours, others),
                target=targets[0],
                note=note,
            ),
            total_ratio("step", f"{title}: step, {clock}, sum over sum", ours, others),
            summed_up("step", f"{title}: more a step, {clock}", more, unit="µs", target=targets[1]),
            summed_up("step", f"{title}: by hand, {clock}", [y * 1e6 for y in others], unit="µs"),
        ]
    return readings


def _equal_work(work: Workload) -> float:
    recipe = fair.shortened(work.recipe(100))
    ours = fair.logged_losses(recipe, fair.local(recipe, work.folder / "fair"))
    advance = plain.loop(recipe)
    return fair.check(ours, [float(advance().detach()) for _ in range(fair.STEPS)])
