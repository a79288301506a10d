"""`launch.py train RECIPE --fresh ...` up to the first optimizer step; prints when that was, and what was imported by then."""

from __future__ import annotations

import time
from typing import Any, NoReturn

import launch


def main() -> None:
    """The real verb, with the engine's generator cut off after its first report."""
    import sys

    from cluster import train
    from trainers.engine import fit

    imported = time.time()

    def once(*given: Any) -> NoReturn:
        next(fit(*given))
        tell(imported)

    setattr(train, "fit", once)  # noqa: B010  a seam of this benchmark alone
    launch.app(["train", *sys.argv[1:], "--fresh", "--quiet"])


def tell(imported: float) -> NoReturn:
    """One JSON object on stdout, then the end: nothing after the step is timed."""
    at = time.time()
    import json
    import os
    import resource
    import sys

    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "at": at,
        "imported_at": imported,
        "cpu": used.ru_utime + used.ru_stime,
        "packages": packages(),
    }
    print(json.dumps(found), flush=True)
    sys.stderr.flush()
    os._exit(0)


def packages() -> list[str]:
    """Top-level third-party packages that this process has imported."""
    import sys

    found = set()
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None) or ""
        if "." not in name and "/site-packages/" in path:
            found.add(name)
    return sorted(found)


if __name__ == "__main__":
    main()
