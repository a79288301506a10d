"""A search in the browser: read and never changed, on this machine alone."""

from __future__ import annotations

import importlib.util
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from search.tune.folder import Folder
from search.tune.storage import Journal
from search.tune.watching import only_reading
from tests.commands import cli
from trainers.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent.parent.parent
LR = "phases.0.optim.main.lr"
needs_dashboard = pytest.mark.skipif(
    importlib.util.find_spec("optuna_dashboard") is None,
    reason="optuna-dashboard is not installed (the extra: dashboard)",
)


@pytest.fixture(params=["journal", "database"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, digits: Recipe) -> Folder:
    """A search whose driver is at work: one trial has ended, one runs."""
    found = Folder(str(tmp_path / "runs" / "digits-1a2b3c4d"))
    Path(found.url).mkdir(parents=True)
    tree = digits.plain()
    tree["search"] = {"space": {LR: "loguniform(1e-3, 1)"}}
    url = f"sqlite:///{tmp_path}/search.db"
    if request.param == "database":
        tree["search"]["storage"] = url
    Path(found.url, "search.yaml").write_text(yaml.safe_dump(tree))
    study = optuna.create_study(
        study_name=found.name,
        storage=url if request.param == "database" else Journal(found.url).storage(),
    )
    for value in (0.5, None):
        trial = study.ask()
        trial.suggest_float(LR, 1e-3, 1, log=True)
        if value:
            study.tell(trial, value)
    return found


def answer(url: str, method: str = "GET") -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as got:
            return got.status, got.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@needs_dashboard
def test_a_search_is_watched_and_left_as_it_is(folder: Folder) -> None:
    command = [sys.executable, "launch.py", "search", folder.url, "--dashboard", "--port", "0"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        page = process.stdout.readline().strip()
        assert page.startswith("http://127.0.0.1:") and "/dashboard/studies/" in page
        root, _, number = page.partition("/dashboard/studies/")
        assert answer(page)[0] == 200
        status, said = answer(f"{root}/api/studies/{number}")
        assert status == 200
        states = [trial["state"] for trial in json.loads(said)["trials"]]
        assert states == ["Complete", "Running"]
        assert answer(f"{root}/api/studies/{number}", "DELETE")[0] == 405
        assert answer(f"{root}/api/studies", "POST")[0] == 405
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr and "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


@needs_dashboard
def test_a_port_that_is_taken(folder: Folder) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = cli("search", folder.url, "--dashboard", "--port", taken.getsockname()[1])
    assert said.code == 2 and "--port" in said.err and said.err.count("\n") == 1


def test_without_the_package_one_line_says_so(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    said = cli("search", folder.url, "--dashboard")
    assert said.code == 2 and "pip install" in said.err and said.err.count("\n") == 1


@pytest.mark.parametrize(("method", "passes"), [("GET", True), ("PUT", False), ("POST", False)])
def test_only_looking_passes(method: str, passes: bool) -> None:
    said: list[str] = []

    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        start("200 OK", [])
        return [b"page"]

    body = only_reading(app)(
        {"REQUEST_METHOD": method}, lambda status, headers: said.append(status)
    )
    assert (said, body == [b"page"]) == (["200 OK" if passes else "405 Method Not Allowed"], passes)
