"""The notebooks as they are stored: with their outputs, which a repository's page shows (`make notebook` runs them anew)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
PLACE = re.compile(r"(?<![\w.:/])/(?:tmp|home|root|Users|usr|work|opt)/")
LARGEST = 500_000


def outputs(notebook: Path) -> list[dict[str, Any]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [each for cell in cells for each in cell.get("outputs", ())]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_as_it_was_run(notebook: Path) -> None:
    told = outputs(notebook)
    assert any("image/png" in each.get("data", {}) for each in told), "no picture is stored"
    assert not [each for each in told if each["output_type"] == "error"]
    words = [each.get("text", "") for each in told]
    words += [
        each.get("data", {}).get(kind, "") for each in told for kind in ("text/plain", "text/html")
    ]
    assert not PLACE.search("\n".join("".join(each) for each in words)), "a path of one machine"
    assert notebook.stat().st_size < LARGEST
