"""The documents are true: their Python runs, their commands parse, their files exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

import launch
from search.studies import arms
from search.studies.study import Study
from trainers import feed
from trainers.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def test_python_md_runs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = blocks(ROOT / "docs" / "python.md", "python")
    assert len(found) >= 5
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in found:
        exec(compile(block, "docs/python.md", "exec"), namespace)
    scores = namespace["done"].scores  # type: ignore[attr-defined]
    assert scores["test/accuracy"] > 0.3
    assert len(namespace["table"]) == 1  # type: ignore[arg-type]
    assert (tmp_path / "runs").is_dir()


def test_studies_md_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("recipes", "studies"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (text,) = blocks(ROOT / "docs" / "studies.md", "yaml")
    (tmp_path / "study.yaml").write_text(text)
    study = Study.load("study.yaml")
    assert len(arms.arms(study)) == 6 and study.compare == "defence"
    namespace: dict[str, object] = {}
    (block,) = blocks(ROOT / "docs" / "studies.md", "python")
    exec(compile(block, "docs/studies.md", "exec"), namespace)
    assert len(namespace["found"].rows) == 2  # type: ignore[attr-defined]


def test_retrieval_md_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(ROOT / "docs" / "retrieval.md", "python")
    namespace: dict[str, object] = {}
    exec(compile(block, "docs/retrieval.md", "exec"), namespace)
    assert namespace["made"].features.shape == (270, 64)  # type: ignore[attr-defined]


def test_the_recipe_of_the_docs_loads(tmp_path: Path) -> None:
    (text,) = blocks(ROOT / "docs" / "recipes.md", "yaml")
    (tmp_path / "recipe.yaml").write_text(text)
    assert Recipe.load(str(tmp_path / "recipe.yaml")).name == "digits"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_verbs_and_options_that_exist(page: Path) -> None:
    verbs = get_command(launch.app).commands  # type: ignore[attr-defined]
    for line in re.findall(r"python launch\.py ([^`\n]+)", page.read_text()):
        words = shlex.split(line.split("#")[0])
        cut = words.index("--") if "--" in words else len(words)
        for verb, *rest in filter(
            None, (words[:cut], words[cut + 1 :])
        ):  # a job's words are another command
            assert verb in verbs, line
            group = getattr(verbs[verb], "commands", {})
            command = group[rest[0]] if group else verbs[verb]
            known = {option for parameter in command.params for option in parameter.opts}
            for word in rest:
                if word.startswith("--"):
                    assert word in known, line
                elif word.startswith("recipes/") and word.endswith(".yaml"):
                    assert (ROOT / word).exists(), line


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_examples_name_the_folder_that_the_demo_leaves() -> None:
    recipe = Recipe.load(str(ROOT / "recipes" / "digits.yaml"))
    digest = feed.dataset(recipe.data).manifest.digest
    folder = f"runs/digits-{recipe.identity(digest)}"
    for page in [ROOT / "README.md", *(ROOT / "verbs").glob("*.py")]:
        named = set(re.findall(r"runs/digits-\w+", page.read_text()))
        assert named <= {folder}, page
        assert named or page.name != "README.md"
