"""Manta's one door: verbs/ parses, the rooms do the work.

    python launch.py train recipes/digits.yaml model.width=64

Nothing heavy is imported here: `--help`, `list` and the refusal of a misspelt recipe come without torch or ray.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

try:
    from verbs.door import app as app
except ModuleNotFoundError as error:
    if error.name != "typer":
        raise
    sys.stderr.write(
        "error: Manta's packages are not installed for this Python -- run `make install`, "
        "then use .venv/bin/python\n"
    )
    raise SystemExit(2) from None

# In the order of `--help`.
VERBS = (
    *("pack", "data", "train", "search", "study", "submit", "evaluate", "predict", "explain"),
    *("retrieve", "describe", "results", "report", "list", "doctor"),
)
for name in VERBS:
    import_module(f"verbs.{name}")

if __name__ == "__main__":
    app()
