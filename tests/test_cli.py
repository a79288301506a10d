"""The command line: help that can be pasted, mistakes told in one line with exit code 2, nothing heavy for nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command

import launch
from cluster.lock import Lock
from datasets import pack
from tests.commands import Said, cli
from trainers import rooms

ROOT = Path(__file__).resolve().parent.parent
DIGITS = str(ROOT / "recipes" / "digits.yaml")
SMALL = ["model.width=8", "scale.device=cpu", "log.tensorboard=false", "phases.0.epochs=1"]
VERBS = {
    *("pack", "train", "evaluate", "predict", "describe", "results", "report", "list", "doctor"),
}


def verbs() -> list[str]:
    return sorted(str(command.name) for command in launch.app.registered_commands)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def one_line(said: Said) -> str:
    """The refusal, once it is sure that it is one."""
    assert said.code == 2, said
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in said.err + said.out
    return lines[0]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits in a folder."""
    folder = tmp_path_factory.mktemp("packed") / "digits"
    pack.pack("digits", {}, str(folder), splits={"val": 0.15, "test": 0.15}, seed=0)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch."""
    out = tmp_path_factory.mktemp("finished")
    assert cli("train", DIGITS, *SMALL, "--out", out, "--quiet").code == 0
    (folder,) = out.iterdir()
    return folder


def test_the_verbs_are_there() -> None:
    assert set(verbs()) >= VERBS


@pytest.mark.parametrize("verb", verbs())
def test_help_of_a_verb_has_an_example_that_parses(verb: str) -> None:
    said = cli(verb, "--help")
    assert said.code == 0
    text = " ".join(said.out.split())
    example = re.search(r"Example: python launch\.py (.*)$", text)
    assert example, text
    words = shlex.split(example[1])
    assert words[0] == verb
    # A word of the example that the verb does not know is a mistake in it, which parsing finds.
    command = get_command(launch.app).commands[verb]  # type: ignore[attr-defined]
    command.make_context(verb, words[1:])
    for word in words:
        if word.startswith("recipes/"):
            assert (ROOT / word).exists()


def test_what_needs_no_torch_imports_neither_torch_nor_ray() -> None:
    commands = [
        *(
            ["--help"],
            *([verb, "--help"] for verb in verbs()),
            ["list"],
            ["list", "models"],
            ["list", "--schema"],
        ),
        *(
            ["train", DIGITS, f"{key}=1"]
            for key in ("modle", "data.bacth", "phases.0.optim.main.lrr")
        ),
        *(["train", DIGITS, f"model={name}"] for name in ("small_cn", "timm:resnet1888")),
        *(
            ["train", DIGITS, word]
            for word in ("phases.0.task=clasify", "data.batch=many", "scale.workers=0")
        ),
        *(["train", DIGITS, word] for word in ("phases.0.optim.main.name=sdg", "model.widht=8")),
        ["train", str(ROOT / "recipes" / "absent.yaml")],
    ]
    script = f"""
import contextlib, io, sys
sys.path.insert(0, {str(ROOT)!r})
import launch
heavy = ("torch", "ray", "torchvision", "timm", "open_clip", "sklearn", "matplotlib", "pandas", "pyarrow")
for words in {commands!r}:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            launch.app(words)
            code = 0
        except SystemExit as exit_:
            code = exit_.code or 0
    found = [name for name in heavy if name in sys.modules]
    assert not found, (words, found)
    assert code == (2 if words[0] == "train" and "--help" not in words else 0), (words, code)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "path", "hint"),
    [
        (["modle=resnet20"], "modle", "did you mean 'model'"),
        (["data.bacth=3"], "data.bacth", "did you mean 'batch'"),
        (["model.widht=8"], "model.widht", "did you mean 'width'"),
        (["data.batch=many"], "data.batch", "many"),
        (["data.batch=-1"], "data.batch", "-1"),
        (["phases.0.optim.main.lr=fast"], "phases.0.optim.main.lr", "fast"),
        (["seed=1.5"], "seed", "1.5"),
        (["model=resnet21"], "model", "resnet2"),
        (["model=nothing_like_it_at_all"], "model", "nothing_like_it_at_all"),
        (["phases.0.task=clasify"], "phases.0.task", "did you mean 'classify'"),
        (["phases.0.optim.main.name=sdg"], "phases.0.optim.main", "sgd"),
        (["phases.0.schedule=cosin"], "phases.0.schedule", "did you mean 'cosine'"),
        (["phases.3.epochs=1"], "phases.3.epochs", "count from 0"),
        (["keep.metric=test/accuracy"], "keep.metric", "never chosen by a test metric"),
        (["keep.metric=val/acuracy"], "keep.metric", "val/accuracy"),
        (["batch"], "batch", "dotted.path=value"),
        (["model=timm:resnet18", "model.no_such_thing=1"], "model", "no_such_thing"),
        (["data.lanes=2", "scale.workers=3", "scale.device=cpu"], "scale.workers", "data.lanes"),
        (["data.lanes=128"], "data.lanes", "data.batch"),
        (
            ["scale.workers=9999", "data.batch=1200", "data.lanes=1200", "scale.device=cpu"],
            "scale.workers",
            "fewer workers",
        ),
        (["scale.device=cuda:7"], "scale.device", "cuda:7"),
        (["scale.device=cuda", "scale.workers=2"], "scale.workers", "GPU"),
        (["scale.device=tpu"], "scale.device", "tpu"),
        (["data.batch=100000"], "data", "100000"),
        (["phases.0.train.0=nothing.*"], "phases.0.train", "matches no parameter"),
        (["phases.0.optim={critic: {name: sgd, lr: 0.1}}"], "phases.0.optim", "main"),
        (["phases.0.init=/nowhere/step-00000001"], "/nowhere", "step-00000001"),
        (["data.source=curve"], "phases.0.task", "curve"),
        (["scale.micro_batch=8", "model.width=8", "phases.0.task=gan"], "phases.0", "gan"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_in_a_recipe_is_one_line(
    words: list[str], path: str, hint: str, tmp_path: Path
) -> None:
    import torch

    if "cuda" in " ".join(words) and torch.cuda.device_count() > 7:
        pytest.skip("there are that many GPUs here")
    out = tmp_path / "runs"
    line = one_line(cli("train", DIGITS, *words, "--out", out))
    assert path in line
    assert hint in line
    assert not out.exists(), "something was written"
    said = cli("train", DIGITS, *words, "--out", out, "--json")
    told = json.loads(said.out)
    assert set(told) == {"error", "path", "value", "remedy"}
    assert told["error"]
    assert said.err.splitlines() == [line]


def cut_shard(folder: Path) -> None:
    shard = max(folder.rglob("*.arrow"), key=lambda path: path.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:-1000])


def drop_shard(folder: Path) -> None:
    max(folder.rglob("*.arrow"), key=lambda path: path.stat().st_size).unlink()


def alter_shard(folder: Path) -> None:
    shard = max(folder.rglob("*.arrow"), key=lambda path: path.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)


def lie_about_rows(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["splits"]["train"]["rows"] += 1
    path.write_text(json.dumps(manifest))


def lie_in_batches(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    train = manifest["splits"]["train"]
    train["rows"] += 1
    train["shards"][0]["rows"] += 1
    train["shards"][0]["batches"][0]["rows"] += 1
    path.write_text(json.dumps(manifest))


def drop_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def tear_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:200])


@pytest.mark.parametrize(
    "damage",
    [
        cut_shard,
        drop_shard,
        alter_shard,
        lie_about_rows,
        lie_in_batches,
        drop_manifest,
        tear_manifest,
    ],
)
def test_damaged_data_are_one_line_and_leave_no_run(
    damage: Callable[[Path], None], packed: Path, tmp_path: Path
) -> None:
    shutil.copytree(packed, copy := tmp_path / "data")
    damage(copy)
    out = tmp_path / "runs"
    line = one_line(cli("train", DIGITS, *SMALL, f"data.url={copy}", "--out", out))
    assert str(copy) in line
    assert not out.exists(), "something was written"


def test_a_checkpoint_of_another_model_is_one_line(finished: Path, tmp_path: Path) -> None:
    (other,) = (finished / "checkpoints").glob("step-*")
    out = tmp_path / "runs"
    words = [*SMALL, "model.width=16", f"phases.0.init={other}"]
    line = one_line(cli("train", DIGITS, *words, "--out", out))
    assert "a checkpoint of another model" in line
    assert str(other) in line
    assert not out.exists(), "something was written"
    before = tree(finished.parent)
    assert "another model" in one_line(cli("train", finished, "model.width=16", "--quiet"))
    assert tree(finished.parent) == before


def test_a_head_of_other_outputs_begins_anew_and_that_is_said(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [*SMALL, f"phases.0.init={finished}", "phases.0.epochs=1", "--out", tmp_path, "--quiet"]
    assert cli("train", DIGITS, *words, "data.subset={classes: ['0', '1', '2']}").code == 0
    assert caplog.messages == [
        "phases.0.init: the head has 10 outputs there and 3 here, so it begins anew"
    ]
    caplog.clear()
    assert cli("train", DIGITS, *words).code == 0 and not caplog.messages


def test_a_checkpoint_of_another_model_in_the_runs_own_folder(
    finished: Path, tmp_path: Path
) -> None:
    words = ["train", DIGITS, *SMALL, "model.width=16", "--out", tmp_path, "--quiet"]
    assert cli(*words).code == 0
    (folder,) = tmp_path.iterdir()
    shutil.rmtree(folder / "checkpoints")
    shutil.copytree(finished / "checkpoints", folder / "checkpoints")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "status": "stopped"}))
    assert "another model" in one_line(cli(*words))


@pytest.mark.parametrize("place", ["/proc/nope", "/dev/null/runs", "a file"])
def test_a_folder_that_cannot_be_written_is_one_line(place: str, tmp_path: Path) -> None:
    if place == "a file":
        (tmp_path / "file").write_text("not a folder")
        place = str(tmp_path / "file")
    line = one_line(cli("train", DIGITS, *SMALL, "--out", place))
    assert place in line


def test_a_second_launch_into_a_running_run_is_one_line(tmp_path: Path) -> None:
    words = ["train", DIGITS, *SMALL, "seed=7", "--out", tmp_path, "--quiet"]
    assert cli(*words).code == 0
    (folder,) = tmp_path.iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "status": "running"}))
    with Lock(str(folder)):
        before = tree(folder)
        for more in ([], ["--fresh"]):
            line = one_line(cli(*words, *more))
            assert f"process {os.getpid()}" in line
            assert str(folder) in line
        assert tree(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    "words",
    [
        *(
            ["evaluate", "{tmp}"],
            ["predict", "{tmp}", "x.png"],
            ["report", "{tmp}"],
            ["train", "{tmp}"],
        ),
        *(["evaluate", "{run}", "--on", "tset"], ["evaluate", "{run}", "--checkpoint", "worst"]),
        *(
            ["predict", "{run}", "{tmp}/absent.png"],
            ["results", "{tmp}"],
            ["results", "--where", "model"],
        ),
        *(["results", "--since", "soon"], ["list", "modells"], ["pack", "digitz", "{tmp}/x"]),
        *(
            ["pack", "digits", "/proc/nope"],
            ["describe", "{tmp}/absent.yaml"],
            ["results", "--sort", "val/x", "--out", "{out}"],
        ),
        ["pack", "digits", "{tmp}/x", "--val", "0.9", "--test", "0.9"],
        *(["pack", "digits", "seed=5"], ["pack", "digits", "{tmp}/x", "data.splits.seed=5"]),
    ],
    ids=" ".join,
)
def test_mistakes_of_the_other_verbs_are_one_line(
    words: list[str], finished: Path, tmp_path: Path
) -> None:
    before = tree(finished)
    named = {"tmp": str(tmp_path), "run": str(finished), "out": str(finished.parent)}
    filled = [word.format(**named) for word in words]
    line = one_line(cli(*filled))
    said = cli(*filled, "--json")
    assert set(json.loads(said.out)) == {"error", "path", "value", "remedy"}
    assert said.err.splitlines() == [line]
    assert tree(finished) == before
    assert not list(tmp_path.iterdir())


def test_as_a_process_the_same_and_debug_shows_where(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "launch.py"), "train", DIGITS, "modle=x"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert one_line(Said(done.returncode, done.stdout, done.stderr)).startswith("error: modle: ")
    done = subprocess.run(
        [*command, "--debug"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "unknown key 'modle'" in done.stderr
    assert not list(tmp_path.iterdir())


def test_train_tells_what_the_summary_holds(finished: Path) -> None:
    said = cli("train", DIGITS, *SMALL, "--out", finished.parent, "--json")
    assert said.code == 0
    told, summary = json.loads(said.out), json.loads((finished / "summary.json").read_text())
    assert set(told) == {
        "scores",
        "steps",
        "samples",
        "seconds",
        "images_per_second",
        "wait_seconds",
        "run",
    }
    assert {key: summary[key] for key in told} == told
    assert "test/accuracy" in told["scores"]
    assert said.err == ""


def test_evaluate_describe_list_and_report_tell_json(finished: Path) -> None:
    told = json.loads(cli("evaluate", finished, "--json").out)
    summary = json.loads((finished / "summary.json").read_text())
    assert told["scores"] == {k: v for k, v in summary["scores"].items() if k.startswith("val/")}
    told = json.loads(cli("describe", DIGITS, "model=mynetpro", "--classes", 19, "--json").out)
    assert set(told) >= {"parameters", "trainable", "modules", "multiply_adds"}
    assert sum(module["parameters"] for module in told["modules"]) == told["parameters"]
    told = json.loads(cli("list", "models", "--json").out)
    assert {row["name"] for row in told} == set(rooms.doors("models"))
    assert set(told[0]) >= {"name", "kind", "path", "rows"}
    told = json.loads(cli("report", finished, "--json").out)
    assert Path(told["report"]).stat().st_size > 1000


def test_help_of_list_names_every_kind() -> None:
    said = cli("list", "--help").out
    assert [kind for kind in ("recipes", *rooms.ROOMS) if kind not in said] == []


def test_the_last_line_is_the_reports_path(finished: Path) -> None:
    said = cli("train", DIGITS, *SMALL, "--out", finished.parent)
    assert said.out.splitlines()[-1] == str(finished / "report.html")


def test_doctor_is_content_with_this_machine_and_not_with_a_bad_place(tmp_path: Path) -> None:
    said = cli("doctor", DIGITS, "scale.device=cpu", "--out", tmp_path / "runs", "--json")
    found = {check["name"]: check["ok"] for check in json.loads(said.out)["checks"]}
    # Whether the disk has room is this machine's affair.
    assert {name for name, ok in found.items() if not ok} <= {"run folders", "cache"}
    here = {"versions", "device", "run folders", "cache", "shared memory", "network"}
    assert set(found) - {"gpu"} == here | {"model", "workers", "data", "memory"}
    assert not (tmp_path / "runs").exists(), "doctor leaves nothing behind"
    said = cli("doctor", DIGITS, f"data.url={tmp_path}/none", "--json")
    assert said.code == 2
    wrong = [check for check in json.loads(said.out)["checks"] if not check["ok"]]
    assert [check["name"] for check in wrong] == ["data"], "said once"
    said = cli("doctor", "--out", "/proc/nope", "--json")
    assert said.code == 2
    checks = {check["name"]: check for check in json.loads(said.out)["checks"]}
    assert not checks["run folders"]["ok"]
    assert "/proc/nope" in checks["run folders"]["found"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'? -- see `"),
        (["train"], "Missing argument 'RECIPE' -- see `"),
        (
            ["data", "replay", "runs/x", "--step", "abc"],
            "for '--step': should be a whole number --",
        ),
        (["study", "x.yaml", "--more-seeds", "-1"], "for '--more-seeds': should be 0 or more --"),
    ],
)
def test_a_wrong_word_is_one_line(words: list[str], told: str) -> None:
    said = cli(*words)
    assert said.code == 2 and said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ") and told in line and line.endswith("--help`")
