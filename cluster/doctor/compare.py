"""What only shows when nodes stand side by side: versions, clocks, GPUs."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.doctor.check import Check, gathered
from cluster.doctor.visit import Clock, Round

MOST_APART_SECONDS = 1.0
SHOWN = ("python", "torch", "ray", "pyarrow", "checkout")  # of versions that agree


def software(driver: Mapping[str, str], by_node: Mapping[str, Mapping[str, str]]) -> list[Check]:
    """Nodes run what the driver runs, or their lines say what they have instead."""
    return gathered({node: [_software(driver, found)] for node, found in by_node.items()})


def _software(driver: Mapping[str, str], found: Mapping[str, str]) -> Check:
    differ = [
        f"{name} {found.get(name) or 'none'} (driver {driver.get(name) or 'none'})"
        for name in dict.fromkeys([*driver, *found])
        if found.get(name) != driver.get(name)
    ]
    if not differ:
        same = ", ".join(f"{name} {found[name]}" for name in SHOWN if found.get(name))
        return Check("versions", "ok", same)
    code = found.get("checkout") != driver.get("checkout")
    remedy = "`submit` ships one checkout to all" if code else "start all nodes from one image"
    return Check("versions", "BAD", f"{', '.join(differ)} -- {remedy}")


def clocks(by_node: Mapping[str, Clock]) -> list[Check]:
    """Clocks agree with the driver's to a second, beyond what the way there leaves unknown."""
    return gathered({node: [_clock(clock)] for node, clock in by_node.items()})


def _clock(clock: Clock) -> Check:
    if abs(clock.ahead) <= MOST_APART_SECONDS + clock.trip / 2:
        most = (abs(clock.ahead) + clock.trip / 2) * 1000
        return Check("clocks", "ok", "", (), most, most, "ms from the driver's at most")
    side = "ahead of" if clock.ahead > 0 else "behind"
    return Check(
        "clocks",
        "BAD",
        f"{abs(clock.ahead):,.1f} s {side} the driver's -- run chrony or ntpd there: locks and signatures go by the time",
    )


def gpus(by_node: Mapping[str, tuple[str, ...]]) -> list[Check]:
    """A warning where nodes that have GPUs have others, or more: the slowest sets the pace."""
    sets = {node: names for node, names in by_node.items() if names}
    if len({*sets.values()}) < 2:
        return []
    told = "; ".join(f"{node} {len(names)} x {names[0]}" for node, names in sets.items())
    return [Check("gpus", "warn", f"nodes differ ({told}): every step waits for the slowest")]


def judged(driver: Mapping[str, str], made: Round) -> list[Check]:
    """All that a round found, of each node and of all together."""
    answered = {node: [Check("nodes", "ok", "answered")] for node in made.seen}
    silent = {node: [Check("nodes", "BAD", why)] for node, why in made.failed.items()}
    seen = made.seen.items()
    return [
        *gathered({**silent, **answered}),
        *software(driver, {node: each.software for node, each in seen}),
        *clocks(made.clocks),
        *gathered({node: each.checks for node, each in seen}),
        *gpus({node: each.gpus for node, each in seen}),
    ]
