"""Whether gradients can be trusted: what an attack through sound ones does (arXiv 1802.00420, 1902.06705).

A network can hide its gradients without being robust. Then attacks that follow them fail, and those that do not, or that
begin elsewhere, succeed.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainers.robustness.siege import LIMIT, Siege

SLACK = 0.01  # of the pictures: as much may differ by chance
FLAT = 0.01


@dataclass(frozen=True)
class Check:
    """One question, its answer, and what was seen."""

    name: str
    sound: bool
    seen: str


def checks(siege: Siege, num_classes: int) -> list[Check]:
    """All that the attacks tried can tell; none where PGD is not among them."""
    if "pgd" not in siege.methods or not siege.rows:
        return []
    share = siege.flat / siege.rows
    found = [
        Check(
            "every picture has a gradient",
            share <= FLAT,
            f"{siege.flat} of {siege.rows} pictures have none",
        )
    ]
    for method, words in (
        ("fgsm", "PGD is no weaker than one step"),
        ("noise", "PGD beats noise of its size"),
        ("transfer", "PGD beats pictures made for the reference"),
    ):
        if any(each == method for each, _ in siege.stood):
            found.append(_beats(siege, method, words))
    return [*found, _rises(siege), _reaches_chance(siege, num_classes)]


def _beats(siege: Siege, method: str, words: str) -> Check:
    gaps = {e: siege.accuracy("pgd", e) - siege.accuracy(method, e) for e in siege.epsilons}
    worst = max(gaps, key=lambda epsilon: gaps[epsilon])
    seen = (
        f"at {worst:g}/255 PGD leaves {100 * siege.accuracy('pgd', worst):.1f} %, "
        f"{method} {100 * siege.accuracy(method, worst):.1f} %"
    )
    return Check(words, gaps[worst] <= max(SLACK, 1.5 / siege.rows), seen)


def _rises(siege: Siege) -> Check:
    first, last, most = siege.losses[0], siege.losses[-1], max(siege.losses)
    seen = f"from {first / siege.rows:.3g} to {last / siege.rows:.3g} in {siege.steps} steps"
    # A flat line at the top is sound too: nothing was left to gain.
    return Check("the loss rises with the steps", last >= first and last >= 0.9 * most, seen)


def _reaches_chance(siege: Siege, num_classes: int) -> Check:
    left = siege.accuracy("pgd", LIMIT)
    seen = f"at {LIMIT:g}/255 PGD leaves {100 * left:.1f} %, chance is {100 / num_classes:.1f} %"
    return Check("a large attack leaves no more than chance", left <= 1 / num_classes, seen)


def verdict(found: list[Check]) -> str:
    """In words."""
    failed = [each for each in found if not each.sound]
    if not found:
        return ""
    if not failed:
        return (
            f"No sign of masked gradients in {len(found)} checks; still, accuracy under attack is an upper "
            "bound: a stronger attack may find more."
        )
    told = "; ".join(f"not so that {each.name} ({each.seen})" for each in failed)
    return (
        f"The gradients may be masked, or the attack is too weak: {told}. "
        "Do not take accuracy under these attacks for robustness."
    )
