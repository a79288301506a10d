"""What a job takes along: as git sees the checkout, the same bytes each time, no secret, not too much."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from cluster import shipping
from cluster.shipping import cargo
from datasets.refusal import Refusal


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small one: tracked files, a new one, and what git ignores."""
    root = tmp_path / "checkout"
    for name in (
        "launch.py",
        "pyproject.toml",
        "recipes/a.yaml",
        "notes/long name.md",
        "bin/run.sh",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{name}\n")
    (root / "bin" / "run.sh").chmod(0o755)
    (root / ".gitignore").write_text("/runs/\n.venv\n__pycache__/\n")
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    for name in ("recipes/new.yaml", "runs/x/weights.bin", ".venv/bin/python"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_it_is_what_git_sees(checkout: Path) -> None:
    found = cargo(checkout)
    assert set(found.files) == {
        *(".gitignore", "launch.py", "pyproject.toml", "recipes/a.yaml", "recipes/new.yaml"),
        *("notes/long name.md", "bin/run.sh"),
    }
    assert found.bytes == sum((checkout / name).stat().st_size for name in found.files)
    (checkout / ".rayignore").write_text("notes/\nrecipes/new.yaml\n")
    (checkout / "recipes" / "a.yaml").unlink()
    assert set(cargo(checkout).files) == {
        *(".gitignore", ".rayignore", "launch.py", "pyproject.toml", "bin/run.sh")
    }


def test_without_git_caches_and_runs_stay(checkout: Path) -> None:
    (checkout / "__pycache__").mkdir()
    (checkout / "__pycache__" / "x.pyc").write_bytes(b"")
    with_git = set(cargo(checkout).files)
    (checkout / ".git").rename(checkout.parent / "elsewhere")
    assert set(cargo(checkout).files) == with_git


def test_an_unchanged_tree_is_the_same_archive(checkout: Path, tmp_path: Path) -> None:
    one = cargo(checkout).pack(tmp_path / "one.zip")
    (checkout / "launch.py").touch()
    two = cargo(checkout).pack(tmp_path / "two.zip")
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as packed:
        assert packed.read("notes/long name.md") == b"notes/long name.md\n"
        assert packed.getinfo("bin/run.sh").external_attr >> 16 & 0o777 == 0o755


@pytest.mark.parametrize(
    "name", [".env", "deploy/id_rsa", "aws/credentials", "tls/host.pem", "a.key"]
)
def test_what_looks_like_a_secret_is_refused(name: str, checkout: Path) -> None:
    (checkout / name).parent.mkdir(parents=True, exist_ok=True)
    (checkout / name).write_text("s3cr3t")
    with pytest.raises(Refusal, match="looks like a secret") as caught:
        cargo(checkout)
    assert caught.value.value == name
    (checkout / ".rayignore").write_text(f"{name}\n")
    assert name not in cargo(checkout).files


def test_what_every_job_needs_must_be_there(checkout: Path) -> None:
    (checkout / ".rayignore").write_text("launch.py\n")
    with pytest.raises(Refusal, match="'launch.py' would not be shipped"):
        cargo(checkout)


def test_too_much_is_refused_with_the_largest(checkout: Path, tmp_path: Path) -> None:
    draws = bytes(range(256)) * 40
    for number in range(8):
        (checkout / f"blob-{number}.bin").write_bytes(draws * (number + 1))
    with pytest.raises(Refusal, match=r"the largest: blob-7.bin \(0 MB\), blob-6.bin") as caught:
        cargo(checkout).pack(tmp_path / "x.zip", most=500)
    assert ".rayignore" in caught.value.remedy


def test_a_checkout_that_git_cannot_read_is_a_refusal(checkout: Path) -> None:
    (checkout / ".git" / "HEAD").unlink()
    with pytest.raises(Refusal, match="git cannot list"):
        shipping.cargo(checkout)
