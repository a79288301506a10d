"""metrics.jsonl is the truth: one row per (step, split), whatever has been killed in between."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from cluster.session import Local
from datasets import store
from trainers.engine import fit
from trainers.recipe import Recipe
from trainers.track import Track, forget

Row = dict[str, Any]


def rows_of(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def train(step: int, **more: Any) -> Row:
    return {"step": step, "split": "train", "phase": 0, "epoch": 0, "loss": 1.0 / step, **more}


@pytest.fixture
def shown() -> list[Row]:
    return []


@pytest.fixture
def track(tmp_path: Path, shown: list[Row]) -> Iterator[Track]:
    made = Track(str(tmp_path), resumed_step=0, tensorboard=False, show=shown.extend)
    yield made
    made.close()


def test_rows_are_written_at_once_and_shown(track: Track, tmp_path: Path, shown: list[Row]) -> None:
    track.write([train(1), train(2)])
    track.write([])
    track.write([{"step": 2, "split": "val", "val/accuracy": 0.5}])
    assert rows_of(tmp_path / "metrics.jsonl") == shown
    assert [(r["step"], r["split"]) for r in shown] == [(1, "train"), (2, "train"), (2, "val")]


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(
        json.dumps(train(1)) + "\n" + json.dumps(train(2)) + "\n" + json.dumps(train(3))[:17]
    )
    forget(metrics, after=3)
    assert [r["step"] for r in rows_of(metrics)] == [1, 2]
    assert metrics.read_text().endswith("\n")


@pytest.mark.parametrize(
    "torn", ['{"step": 3', '{"ste', "{", '{"step": 2, "split": "train", "loss": 0.', "\x00\x00\x00"]
)
def test_whatever_a_crash_left_is_dropped(torn: str, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(json.dumps(train(1)) + "\n" + torn)
    forget(metrics, after=3)
    assert rows_of(metrics) == [train(1)]


def test_bytes_that_are_no_text_are_dropped(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_bytes(json.dumps(train(1)).encode() + b"\n\xff\xfe\x80")
    forget(metrics, after=3)
    assert rows_of(metrics) == [train(1)]


def test_rows_past_the_resumed_step_are_forgotten(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    rows = [
        train(1),
        train(2),
        {"step": 2, "split": "val", "val/accuracy": 0.1},
        train(3),
        {"step": 3, "split": "val"},
    ]
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    Track(str(tmp_path), resumed_step=2, tensorboard=False, show=lambda rows: None).close()
    assert rows_of(metrics) == rows[:3]


def test_test_rows_are_forgotten_for_they_are_written_at_the_end(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(
        json.dumps(train(4))
        + "\n"
        + json.dumps({"step": 4, "split": "test", "test/accuracy": 1.0})
        + "\n"
    )
    forget(metrics, after=4)
    assert [r["split"] for r in rows_of(metrics)] == ["train"]


def test_a_new_run_begins_empty(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(train(5)) + "\n")
    track = Track(str(tmp_path), resumed_step=0, tensorboard=False, show=lambda rows: None)
    track.write([train(1)])
    track.close()
    assert rows_of(tmp_path / "metrics.jsonl") == [train(1)]


def test_tables_and_figures(track: Track, tmp_path: Path) -> None:
    track.table("val_classes", {"class": ["a,b", 'c"d', "é"], "f1": [0.5, 1.0, 0.0]})
    with (tmp_path / "tables" / "val_classes.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["class", "f1"],
            ["a,b", "0.5"],
            ['c"d', "1.0"],
            ["é", "0.0"],
        ]
    track.figure("val_fit", Figure(figsize=(1, 1)), step=3)
    assert (tmp_path / "figures" / "val_fit.png").read_bytes().startswith(b"\x89PNG")


def test_tensorboard_sees_the_scalars(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track = Track(str(tmp_path), resumed_step=0, tensorboard=True, show=lambda rows: None)
    track.write([train(1), train(2), {"step": 2, "split": "val", "val/accuracy": 0.5}])
    track.hyperparameters({"model.name": "mlp", "lr": 0.1, "rows": [1]}, {"test/accuracy": 0.9})
    track.close()
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in found.Scalars("val/accuracy")] == [(2, 0.5)]
    assert found.Scalars("train/loss")[-1].step == 2
    assert "final/test/accuracy" in found.Tags()["scalars"]


def test_tensorboard_compares_runs_of_different_hyperparameters(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, get_experiment
    from tensorboard.plugins.hparams.backend_context import Context

    for name, values in (("a", {"lr": 0.1, "momentum": 0.9}), ("b", {"lr": 0.1, "beta": 0.5})):
        (tmp_path / name).mkdir()
        track = Track(
            str(tmp_path / name), resumed_step=0, tensorboard=True, show=lambda rows: None
        )
        track.hyperparameters(values, {"test/accuracy": 0.9})
        track.close()
    events = EventMultiplexer()
    events.AddRunsFromDirectory(str(tmp_path))
    events.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(events, str(tmp_path))))
    asked = api_pb2.GetExperimentRequest()
    found = get_experiment.Handler(RequestContext(), context, "", asked).run()
    assert {each.name for each in found.hparam_infos} == {"lr", "momentum", "beta"}
    assert {each.name.tag for each in found.metric_infos} == {"final/test/accuracy"}


@pytest.mark.parametrize("opens_test", [True, False], ids=["a run", "a trial"])
def test_a_trial_leaves_its_hyperparameters_to_its_search(
    digits: Recipe, local: Callable[..., Local], opens_test: bool
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    session = local(opens_test=opens_test, draws=opens_test)
    for _ in fit(digits.override({"phases.0.epochs": 1, "log.tensorboard": True}), session):
        pass
    found = EventAccumulator(f"{session.folder}/tensorboard").Reload()
    told = "_hparams_/session_start_info" in found.summary_metadata
    assert told is opens_test and found.Scalars("val/accuracy")


def test_a_remote_folder_is_mirrored_and_taken_up_again() -> None:
    url = "memory://track-test/run"
    track = Track(url, resumed_step=0, tensorboard=False, show=lambda rows: None)
    local = track.local
    track.write([train(1), train(2), train(3)])
    track.settle()
    assert len(store.read_bytes(f"{url}/metrics.jsonl").splitlines()) == 3
    track.put("tables/x.csv", b"a\n")
    track.close()
    assert store.read_bytes(f"{url}/tables/x.csv") == b"a\n"
    assert not local.exists()
    again = Track(url, resumed_step=2, tensorboard=False, show=lambda rows: None)
    again.write([train(3, loss=9.0)])
    again.close()
    rows = [json.loads(line) for line in store.read_bytes(f"{url}/metrics.jsonl").splitlines()]
    assert [(r["step"], r["loss"]) for r in rows] == [(1, 1.0), (2, 0.5), (3, 9.0)]
    store.remove(url)


def test_a_whole_row_that_lacks_only_its_line_end_stays(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(json.dumps(train(1)) + "\n" + json.dumps(train(2)))
    track = Track(str(tmp_path), resumed_step=2, tensorboard=False, show=lambda rows: None)
    track.write([train(3)])
    track.close()
    assert rows_of(metrics) == [train(1), train(2), train(3)]
