"""Studies that really run: once, gone on with after a kill, with more seeds, with runs that fail; and their cells taken as they are."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.run import Run
from datasets.refusal import Refusal
from search.studies import drive, table, writing
from search.studies.folder import Folder
from search.studies.study import Study
from tests.commands import cli
from tests.driven import Driven

LR = "phases.0.optim.main.lr"
ROOT = Path(__file__).resolve().parent.parent.parent.parent
Write = Callable[..., Path]
pytestmark = pytest.mark.timeout(300)


def runs_of(folder: Folder) -> dict[str, float]:
    """Run folder -> when its checkpoint was written: a run that is made again is another one."""
    return {
        entry.run: os.stat(Path(folder.run_url(entry), "recipe.yaml")).st_mtime_ns
        for entry in folder.entries
        if entry.status == "finished"
    }


def states(folder: Folder) -> dict[str, list[str]]:
    return {row.arm: [each.state for each in row.results] for row in table.read(folder).rows}


def test_a_study_from_its_file_to_its_report(written: Write, tmp_path: Path) -> None:
    claims = [{"arm": "lr 0.1", "value": 0.5, "tolerance": 1.0, "source": "a test", "scale": None}]
    path, out = written(claims=claims, ceiling=0.05), tmp_path / "runs"
    said = cli("study", path, "--out", out)
    assert said.code == 0, said.err
    folder = Folder.open(str(out / "small"))
    assert folder.state["status"] == "finished" and len(folder.entries) == 4
    found = table.read(folder)
    for row in found.rows:
        for result in row.results:
            run = Run.open(folder.run_url(result.entry))
            assert run.finished and run.summary["opened"] == {"test": 1}
            assert result.score == run.scores["test/accuracy"]
            assert run.recipe.seed == result.entry.seed
            assert run.recipe.phases[0].optim["main"].lr == row.values[LR]
    fast, slow = found.rows
    assert fast.mean and slow.mean and fast.mean.mean > slow.mean.mean
    assert "lr 0.1, seed 0: test/accuracy" in said.err and "(4 of 4)" in said.err
    assert "lr 0.1 has the best mean" in said.out
    assert said.out.splitlines()[-1] == str(out / "small" / "report.html")
    assert any(warning.startswith("Too good: lr 0.1, seed") for warning in found.warnings)
    page = (out / "small" / "report.html").read_text()
    assert "Which rate is better?" in page and "reproduced" in page and "<svg" in page
    for verdict in (
        "none: the arms&#39; recipes, parameter counts and loss scales differ in what is compared",
        "none among 1,797 rows",
        "opened once by 4 runs, at its end, and by none to choose anything",
        "4 runs beyond 5.0 %",
        "none of 4 runs that came to an end",
    ):
        assert verdict in page, verdict
    # Its runs are ordinary ones, and are not made again.
    assert len(json.loads(cli("results", "--out", out, "--json").out)) == 4
    before = runs_of(folder)
    again = cli("study", path, "--out", out)
    assert again.code == 0 and "runs to do" not in again.err and runs_of(folder) == before
    assert again.out == said.out


def test_more_seeds_and_one_arm_alone(written: Write, tmp_path: Path) -> None:
    path, out = written(seeds=1), str(tmp_path / "runs")
    folder = drive.run(Study.load(str(path)), out=out, only=["lr 0.02"])
    assert states(folder) == {"lr 0.1": ["missing"], "lr 0.02": ["finished"]}
    assert folder.state["status"] == "incomplete"
    drive.run(Study.load(str(path)), out=out, more_seeds=1)
    assert states(folder) == {"lr 0.1": ["finished"] * 2, "lr 0.02": ["finished"] * 2}
    drive.run(Study.load(str(path)), out=out)
    assert [entry.seed for entry in folder.entries] == [0, 0, 1, 1], "they stay"
    assert cli("study", folder.url, "--only", "lr 0.1").code == 0, "by its folder"
    drive.run(Study.load(str(path)), out=out)
    assert [entry.seed for entry in folder.entries] == [0, 0, 1, 1]
    with pytest.raises(Refusal, match="no arm 'lr 3'"):
        drive.run(Study.load(str(path)), out=out, only=["lr 3"])


def test_seeds_of_the_command_are_all_that_is_asked_for(written: Write, tmp_path: Path) -> None:
    """Whatever more an earlier call asked for; and what has run is shown to who asks for it again."""
    path, out = written(seeds=2), tmp_path / "runs"
    folder = drive.run(Study.load(str(path)), out=str(out), more_seeds=1)
    words = ["study", path, "--out", out]
    assert "(2 seeds)" in cli(*words, "table", "seeds=2").out
    assert "(3 seeds)" in cli(*words, "table").out
    said = cli(*words, "seeds=[0, 2]", "--quiet")
    assert said.code == 0 and "Left out: seed 1, of which 2 runs" in " ".join(said.out.split())
    assert [entry.seed for entry in folder.entries] == [0, 0, 2, 2]
    shown = json.loads(cli(*words, "status", "--json").out)
    assert {each["state"] for each in shown["cells"]} == {"finished"} and len(shown["cells"]) == 6


def left_out(folder: Folder) -> list[str]:
    return [line for line in table.read(folder).warnings if line.startswith("Left out: ")]


def test_seeds_that_have_run_are_not_left_out_without_a_word(
    written: Write, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    folder = drive.run(Study.load(str(written(seeds=3))), out=str(out))
    assert not left_out(folder)
    said = cli("study", written(seeds=1), "--out", out, "--quiet")
    line = "Left out: seeds 1 and 2, of which 4 runs came to an end. This table is of seed 0 alone."
    assert left_out(folder) == [line] and line in " ".join(said.out.split())
    for form in ("md", "latex", "json"):
        assert line in cli("study", folder.url, "table", "--as", form).out
    assert line in (out / "small" / "report.html").read_text()
    # With other epochs it is another study's cells that have run; back again, they are its own.
    drive.run(Study.load(str(written(seeds=1)), ["set.phases.0.epochs=1"]), out=str(out))
    assert not left_out(folder)
    drive.run(Study.load(str(written(seeds=1))), out=str(out))
    assert left_out(folder) == [line]
    drive.run(Study.load(str(written(seeds=3))), out=str(out))
    assert not left_out(folder)


def test_more_seeds_are_counted_on_when_the_file_gets_fewer(written: Write, tmp_path: Path) -> None:
    out = str(tmp_path / "runs")
    drive.run(Study.load(str(written(seeds=2))), out=out, more_seeds=1, only=["lr 0.02"])
    folder = drive.run(Study.load(str(written(seeds=1))), out=out, only=["lr 0.02"])
    assert sorted({entry.seed for entry in folder.entries}) == [0, 1, 2], "1 is in between"
    assert not left_out(folder)


def test_another_study_does_not_take_a_folder_over(written: Write, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    assert cli("study", written(seeds=1), "--only", "lr 0.02", "--out", out).code == 0
    kept = [(out / "small" / name).read_bytes() for name in ("study.yaml", "study.json")]
    for change, error in (
        ({"question": "Does momentum help?"}, "its question is 'Which rate is better?'"),
        ({"metric": "test/loss"}, "its metric is 'test/accuracy', not 'test/loss'"),
        ({"recipe": "recipes/digits.yaml"}, "its recipe is"),
    ):
        said = cli("study", written(seeds=1, **change), "--out", out)
        assert said.code == 2 and said.err.count("\n") == 1 and error in said.err
        assert "name=..." in said.err and str(out / "small") in said.err
    assert kept == [(out / "small" / name).read_bytes() for name in ("study.yaml", "study.json")]
    other = cli("study", out / "small", "question=Which rate?", "--only", "lr 0.02", "--quiet")
    assert other.code == 0 and Folder.open(str(out / "small")).study.question == "Which rate?"


def test_other_arms_of_the_same_study_are_said(written: Write, tmp_path: Path) -> None:
    words = [written(seeds=1), "--only", "lr 0.02", "--out", tmp_path / "runs"]
    assert "other arms" not in cli("study", *words).err
    wider = cli("study", *words, f"factors.{LR}=[0.02, 0.3]")
    expected = "the table now shows other arms than before: without lr 0.1, with lr 0.3"
    assert wider.code == 0 and wider.err.count(expected) == 1
    assert "other arms" not in cli("study", *words, f"factors.{LR}=[0.02, 0.3]").err


def test_other_recipes_of_the_same_arms_are_said(written: Write, tmp_path: Path) -> None:
    words = [written(seeds=1), "--only", "lr 0.02", "--out", tmp_path / "runs"]
    assert "other recipes" not in cli("study", *words).err
    expected = "of lr 0.1, lr 0.02 other recipes than before are asked for"
    assert cli("study", *words, "set.phases.0.epochs=1").err.count(expected) == 1
    assert "other recipes" not in cli("study", *words, "set.phases.0.epochs=1").err


def test_a_device_that_is_not_there_is_refused_before_anything_changes(
    written: Write, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    words = ["study", written(seeds=1), "--only", "lr 0.02", "--out", out]
    assert cli(*words).code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    number = torch.cuda.device_count()  # the first that is not there
    said = cli(*words, f"set.scale.device=cuda:{number}", "set.phases.0.epochs=1")
    assert said.code == 2 and f"no cuda:{number} here" in said.err and said.err.count("\n") == 1
    assert "arm 'lr 0.02'" in said.err
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["table", "--only", "lr 0.1"], "--only: `table` looks at what has run"),
        (["table", "--more-seeds", "2"], "--more-seeds: `table` looks at what has run"),
        (["status", "--rerun-stale"], "--rerun-stale: `status` looks at what has run"),
        (["--as", "md"], "--as: is a form of the table"),
        (["status", "--as", "md"], "--as: is a form of the table"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    written: Write, words: list[str], line: str, tmp_path: Path
) -> None:
    said = cli("study", written(seeds=1), *words, "--out", tmp_path / "runs")
    assert said.code == 2 and line in said.err and said.err.count("\n") == 1


def test_what_diverges_collapses_or_fails_is_named_and_not_averaged(
    written: Write, tmp_path: Path
) -> None:
    arms = {
        "good": {LR: 0.1},
        "diverges": {LR: 1e6},
        "sleeps": {LR: 1e-12},
    }
    path = written(arms=arms, factors={}, seeds=1)
    said = cli("study", path, "--out", tmp_path / "runs")
    folder = Folder.open(str(tmp_path / "runs" / "small"))
    found = {row.arm: row for row in table.read(folder).rows}
    assert {name: row.results[0].state for name, row in found.items()} == {
        "good": "finished",
        "diverges": "diverged",
        "sleeps": "collapsed",
    }
    assert found["good"].mean and not found["diverges"].mean and not found["sleeps"].mean
    assert said.code == 0 and "diverges, seed 0, diverged:" in said.out, said.out
    assert folder.state["status"] == "finished"
    again = cli("study", path, "--out", tmp_path / "runs")
    assert "runs to do" not in again.err and again.out == said.out, "what diverges does so again"
    assert "became" in said.out and "no better than naming the largest class" in said.out


def test_a_run_before_is_made_once_and_shared(written: Write, base: Path, tmp_path: Path) -> None:
    arms = {
        "short": {"phases.0.init": "before.pretrained"},
        "long": {"phases.0.init": "before.pretrained", LR: 0.05},
        "scratch": {LR: 0.05},
    }
    before = {"pretrained": {"recipe": str(base), "set": {"phases.0.epochs": 2, "name": "first"}}}
    asked = {
        "arms": arms,
        "factors": {},
        "before": before,
        "vary": ["phases.0.init", LR],
        "baseline": "scratch",
    }
    path = written(seeds=2, **asked)
    said = cli("study", path, "--out", tmp_path / "runs")
    folder = Folder.open(str(tmp_path / "runs" / "small"))
    assert "6 runs to do of 6, and 2 before them ->" in said.err
    assert all(state == ["finished"] * 2 for state in states(folder).values())
    first = sorted(path.name for path in (tmp_path / "runs").glob("first-*"))
    assert len(first) == 2, "once for each seed"
    for entry in folder.entries:
        init = Run(folder.run_url(entry)).recipe.phases[0].init
        assert (init is None) == (entry.arm == "scratch")
        if init:
            assert Run(init).recipe.seed == entry.seed
    html = (tmp_path / "runs" / "small" / "report.html").read_text()
    assert html.count(">before: pretrained</th>") == 2 and "2 more before them" in html
    assert all(name in html for name in first)
    told = json.loads(cli("study", folder.url, "table", "--json").out)["before"]
    assert [each["seed"] for each in told] == [0, 1] and all(each["samples"] for each in told)
    before_again = runs_of(folder)
    drive.run(Study.load(str(path)), out=str(tmp_path / "runs"))
    assert runs_of(folder) == before_again
    drive.run(Study.load(str(written(seeds=1, **asked))), out=str(tmp_path / "runs"))
    assert "seed 1, of which 3 runs came to an end" in left_out(folder)[0]


def test_stale_runs_are_told_and_made_again_when_asked(
    written: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = written(seeds=1), str(tmp_path / "runs")
    folder = drive.run(Study.load(str(path)), out=out)
    before = runs_of(folder)
    for module in (drive, table):
        monkeypatch.setattr(module, "code", lambda: "another1")
    assert states(folder) == {"lr 0.1": ["stale"], "lr 0.02": ["stale"]}
    drive.run(Study.load(str(path)), out=out)
    assert runs_of(folder) == before, "stale is no reason to lose them"
    assert any("2 runs are stale" in line for line in table.read(folder).warnings)
    drive.run(Study.load(str(path)), out=out, rerun_stale=True)
    assert runs_of(folder).keys() == before.keys() and runs_of(folder) != before
    assert len([*(tmp_path / "runs").iterdir()]) == 1 + 2 + 2, "the old ones are kept"


def test_other_data_under_finished_runs_are_refused(written: Write, tmp_path: Path) -> None:
    path, out = written(seeds=1), str(tmp_path / "runs")
    folder = drive.run(Study.load(str(path)), out=out)
    entries = folder.entries
    for entry in entries:
        entry.digest = "0" * 16
    folder.write_entries(entries)
    said = cli("study", path, "--out", out)
    assert said.code == 2 and "data of arm 'lr 0.1' have changed" in said.err
    assert cli("study", path, "--out", out, "--rerun-stale").code == 0


def test_looking_at_a_study(written: Write, tmp_path: Path) -> None:
    path, out = written(), tmp_path / "runs"
    assert "not run: 0 of 4 runs" in cli("study", path, "status", "--out", out).out
    assert cli("study", out / "small", "status").code == 2, "there is none yet"
    drive.run(Study.load(str(path)), out=str(out))
    status = cli("study", path, "status", "--out", out)
    assert status.code == 0 and "finished: 4 of 4 runs" in status.out
    told = json.loads(cli("study", out / "small", "status", "--json").out)
    assert told["done"] == told["of"] == 4
    shown = cli("study", path, "table", "--out", out)
    assert "lr 0.02" in shown.out and "verdict" in shown.out
    markdown = cli("study", out / "small", "table", "--as", "md").out
    assert markdown.splitlines()[2].startswith("| arm | n | test/accuracy") and "± " in markdown
    latex = cli("study", out / "small", "table", "--as", "latex").out
    assert r"\toprule" in latex and r"$\pm$" in latex and r"\%" in latex
    csv = cli("study", out / "small", "table", "--as", "csv").out.splitlines()
    assert csv[0].startswith(f"arm,{LR},seed,state,test/accuracy") and len(csv) == 5
    tree = json.loads(cli("study", out / "small", "table", "--json").out)
    assert [arm["mean"]["n"] for arm in tree["arms"]] == [2, 2]
    differ = cli("study", path, "diff", "lr 0.02", "lr 0.1", "--out", out)
    assert differ.code == 0 and "lr 0.02 beside lr 0.1" in differ.out and LR in differ.out
    for words, said in {
        ("diff", "lr 0.1"): "two arms",
        ("diff", "a", "b"): "no arm 'a'",
        ("diff", "lr 0.1", "lr 0.1"): "an arm beside itself",
        ("tabel",): "none of status, table, diff",
        ("table", "--as", "xml"): "none of terminal",
    }.items():
        refused = cli("study", path, *words, "--out", out)
        assert refused.code == 2 and said in refused.err, refused.err


def driven(path: Path, out: Path, *words: str) -> Driven:
    return Driven("study", path, *words, "--out", out, log=out.with_suffix(".log"))


def finished(out: Path) -> int:
    found = [json.loads(path.read_text()) for path in out.glob("base-*/summary.json")]
    return sum(summary["status"] == "finished" for summary in found)


@pytest.mark.parametrize("parallel", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_study_goes_on_and_repeats_nothing(
    written: Write, base: Path, tmp_path: Path, parallel: int
) -> None:
    text = base.read_text().replace("name: digits", "name: base", 1)
    base.write_text(text)
    path = written(seeds=3, parallel=parallel, set={"phases.0.epochs": 6})
    out = tmp_path / "runs"
    study = driven(path, out)
    study.until("its runs", lambda: out.exists() and finished(out) >= 2)
    study.kill()
    status = cli("study", path, "status", "--out", out).out
    assert "interrupted: " in status and "; the same command goes on" in status
    assert "running" not in status, "its process is dead"
    done = {
        path.parent.name: path.stat().st_mtime_ns
        for path in out.glob("base-*/predictions.parquet")
        if json.loads((path.parent / "summary.json").read_text())["status"] == "finished"
    }
    assert 2 <= len(done) < 6
    again = driven(path, out)
    assert again.ended() == 0, again.said
    folder = Folder.open(str(out / "small"))
    assert all(state == ["finished"] * 3 for state in states(folder).values())
    for name, written_at in done.items():
        assert (out / name / "predictions.parquet").stat().st_mtime_ns == written_at, "made again"
    assert len([*out.glob("base-*")]) == 6


def test_a_stopped_study_saves_and_goes_on(written: Write, base: Path, tmp_path: Path) -> None:
    base.write_text(base.read_text().replace("name: digits", "name: base", 1))
    path = written(seeds=1, set={"phases.0.epochs": 300})
    out = tmp_path / "runs"
    study = driven(path, out)
    study.until("its runs", lambda: [*out.glob("base-*/metrics.jsonl")])
    study.process.send_signal(signal.SIGINT)
    assert study.ended() == 130, study.said
    assert "the same command goes on from there" in study.said
    folder = Folder.open(str(out / "small"))
    assert folder.state["status"] == "stopped"
    (begun,) = [entry for entry in folder.entries if entry.status == "stopped"]
    assert [*Path(folder.run_url(begun), "checkpoints").glob("step-*")], "it saved"


def test_the_budget_ends_it_and_is_named(written: Write, tmp_path: Path) -> None:
    path, out = written(seconds=0.001), tmp_path / "runs"
    said = cli("study", path, "--out", out)
    spent = (
        "the 0.001 s of `seconds` are spent, 4 of 4 runs not begun: a larger seconds=... goes on"
    )
    assert said.code == 0 and said.err.splitlines()[-1] == spent, "no Ctrl-C: nobody stopped it"
    assert f"- T{spent[1:]}." in said.out
    folder = Folder.open(str(out / "small"))
    assert folder.state["status"] == "incomplete"
    assert all(state == ["missing"] * 2 for state in states(folder).values())
    assert f"incomplete: 0 of 4 runs; {spent}" in cli("study", path, "status", "--out", out).out
    whole = cli("study", path, "seconds=600", "--out", out)
    assert whole.code == 0 and "are spent" not in whole.err + whole.out
    assert all(state == ["finished"] * 2 for state in states(folder).values())


@pytest.fixture
def ray_ends() -> Iterator[None]:
    yield
    import ray

    ray.shutdown()


@pytest.mark.usefixtures("ray_ends")
def test_side_by_side_on_ray_is_the_same_as_one_by_one(written: Write, tmp_path: Path) -> None:
    one = drive.run(Study.load(str(written())), out=str(tmp_path / "one"))
    two = drive.run(Study.load(str(written(parallel=2))), out=str(tmp_path / "two"))
    frames = [writing.frame(table.read(folder)) for folder in (one, two)]
    for column in ("arm", "seed", "state", "test/accuracy", "run"):
        assert frames[0][column].tolist() == frames[1][column].tolist()


def test_two_at_once_are_refused(written: Write, tmp_path: Path) -> None:
    from cluster.lock import Lock

    out = tmp_path / "runs"
    with Lock(str(out / "small")):
        said = cli("study", written(), "--out", out)
    assert said.code == 2 and said.err.count("\n") == 1
    assert "this study is being run by process" in said.err and "recipe" not in said.err


def squared(lr: float) -> dict[str, Any]:
    return {"phases.0.task": {"name": "squared_error", "reduction": "mean"}, LR: lr}


def test_a_sum_and_a_mean_at_equal_steepness_are_one_run_and_a_tie(
    written: Write, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    arms = {
        "sum": {"phases.0.task": {"name": "squared_error", "reduction": "sum"}, LR: 0.01},
        "mean": squared(0.01 * 64 * 10),
    }
    path = written(
        arms=arms,
        factors={},
        vary=["phases.0.task", LR],
        set={"phases.0.optim.main.weight_decay": 0.0},
    )
    folder = drive.run(Study.load(str(path)), out=str(tmp_path / "runs"))
    found = table.read(folder)
    (versus,) = found.compared
    assert versus.verdict == "tie" and versus.gap.mean == 0.0
    one, two = (
        load_file(f"{Run(folder.run_url(row.results[0].entry)).best.url}/model.safetensors")
        for row in found.rows
    )
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    assert all(torch.isfinite(value).all() for value in one.values())
