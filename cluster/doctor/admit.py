"""What `train` makes sure of by itself before a group starts on a cluster: the part of the examination that costs a second or two."""

from __future__ import annotations

from cluster.connection import connected, on_cluster
from cluster.doctor import compare, machine, storage, visit
from cluster.doctor.check import refuse
from cluster.doctor.node import Asked

ANSWER_SECONDS = 60.0  # of a machine that is busy, too
SIGN_BYTES = 64


def admit(folder: str) -> None:
    """Raises Refusal where nodes of the cluster run other software, cannot write `folder` or see another one there, have
    another time, or do not answer. Without a cluster (RAY_ADDRESS) there is nothing to ask.
    """
    if not on_cluster():
        return
    ray = connected(1)
    with storage.signed(folder, SIGN_BYTES) as sign:
        found = visit.made(ray, visit.alive(ray), Asked(sign), seconds=ANSWER_SECONDS)
    # Who was lost meanwhile is no reason to wait for: the group is made of those that are left.
    left = {node.name for node in visit.alive(ray)}
    found = found.of(left)
    refuse(
        compare.judged(machine.software(), found), "`python launch.py doctor` looks at all of it"
    )
