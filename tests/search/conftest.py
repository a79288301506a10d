"""Run folders that a test may read, damage and multiply."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.search.fabricate import RECIPE, put, train


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "digits-1a2b3c4d"
    train(folder)
    return folder


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    """A finished run that a test may damage."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / trained.name))


@pytest.fixture
def variant(trained: Path, tmp_path: Path) -> Callable[..., Path]:
    """Another run beside it: `variant("name-hash", recipe={"data.batch": 128}, summary={...})`."""

    def make(
        name: str,
        recipe: dict[str, Any] | None = None,
        summary: dict[str, Any] | None = None,
        env: dict[str, Any] | None = None,
    ) -> Path:
        folder = Path(shutil.copytree(trained, tmp_path / "runs" / name))
        tree = json.loads(json.dumps(RECIPE))
        for path, value in (recipe or {}).items():
            *parents, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
            node: Any = tree
            for key in parents:
                node = node[key]
            node[last] = value
        put(folder, "recipe.yaml", tree)
        for file, changes in (("summary.json", summary), ("env.json", env)):
            put(folder, file, json.loads((folder / file).read_text()) | (changes or {}))
        return folder

    return make
