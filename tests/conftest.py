"""What the tests of all rooms share: a cache of their own, one thread, and the shipped digits recipe made small."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cluster.session import Local
    from trainers.recipe import Recipe

pytest_plugins = ["tests.published"]
# Before torch is imported by any test: its first thread pool is as large as this says.
os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parent.parent
# Files of minutes, which wait more than they compute: begun first, so that no other process idles at the end.
LONG = ("test_places.py", "test_submit.py", "test_nodes.py", "test_resume.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Sources are packed once a session, never into the cache of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANTA_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums in one order: what is compared to the bit does not hang on the machine's cores."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits(session_cache: Path) -> Recipe:
    """recipes/digits.yaml on the CPU with a net of 8 channels: an epoch is 19 steps of 64 pictures."""
    from trainers.recipe import Recipe

    small = {
        "model.width": 8,
        "scale.device": "cpu",
        "log.tensorboard": False,
        "phases.0.epochs": 2,
    }
    return Recipe.load(str(ROOT / "recipes" / "digits.yaml")).override(small)


@pytest.fixture
def local(tmp_path: Path) -> Callable[..., Local]:
    """`local("name")`: this process as the place of a run, in a folder of its own."""

    def make(name: str = "run", **fields: Any) -> Local:
        import torch

        from cluster.session import Local

        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return Local(torch.device("cpu"), str(folder), **fields)

    return make
