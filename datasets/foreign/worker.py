"""`python -m datasets.foreign.worker`: transforms pictures for whoever holds the other ends of its pipes, then ends.

A process of its own, not `multiprocessing`'s: nothing is forked under threads, and a user's script needs no
`if __name__ == "__main__"`.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from queue import SimpleQueue
from typing import Any, BinaryIO

import numpy as np

from datasets.foreign import load, wire
from datasets.foreign.spec import Spec
from datasets.refusal import Refusal
from datasets.transforms import Images

Request = tuple[dict[str, Any], Images | None]


def main() -> None:
    # Ctrl-C reaches the whole group; the one that is served decides when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = _pipes()
    todo: SimpleQueue[Request] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests, todo), daemon=True).start()
    calls: dict[str, load.Call] = {}
    while True:
        head, images = todo.get()
        try:
            wire.send(answers, {}, _transformed(head, images, calls))
        except Refusal as refusal:
            wire.send(answers, {"refusal": {**refusal.as_dict(), "value": str(refusal.value)}})


def _transformed(
    head: dict[str, Any], images: Images | None, calls: dict[str, load.Call]
) -> Images:
    """The pictures of a request, each for itself."""
    assert images is not None
    spec = Spec(**head["spec"])
    known = json.dumps(head["spec"])
    if known not in calls:
        calls[known] = load.build(spec)
    done = np.empty_like(images)
    for place, sample in enumerate(head["ids"]):
        done[place] = load.apply(spec, calls[known], images[place], key=head["key"], sample=sample)
    return done


def _listen(requests: BinaryIO, todo: SimpleQueue[Request]) -> None:
    """In a thread, so that the end of whoever is served ends this process in the midst of a slow transform too."""
    while True:
        try:
            todo.put(wire.receive(requests))
        except EOFError:
            os._exit(0)


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes, moved out of the way of code that prints or reads."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return requests, answers


if __name__ == "__main__":
    main()
