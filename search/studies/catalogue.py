"""The studies that are shipped, and the schema of their files for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets.refusal import Refusal
from search.studies import arms
from search.studies.study import Study
from trainers.rooms import ROOT

STUDIES = ROOT / "studies"


def rows() -> list[dict[str, Any]]:
    """`[{name, kind, path, rows, doc}]`; `rows` are those of the experiments that a study serves, `doc` its question."""
    return [_row(path) for path in sorted(STUDIES.glob("*.yaml"))]


def schema() -> dict[str, Any]:
    """The JSON Schema of a study."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Manta study",
        **Study.model_json_schema(),
    }


def _row(path: Path) -> dict[str, Any]:
    """A study that does not load is listed with what is wrong: one bad file hides no other."""
    row = {"name": path.stem, "kind": "studies", "path": str(path.relative_to(ROOT))}
    try:
        study = Study.load(str(path))
        arms.arms(study)
    except Refusal as refusal:
        return {**row, "rows": [], "doc": f"does not load: {refusal}"}
    return {**row, "rows": study.rows, "doc": study.question}
