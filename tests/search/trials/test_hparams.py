"""A search in TensorBoard: read back by the code that answers its HParams page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context

from datasets import store
from search.trials import hparams
from search.tune import samplers, schedulers
from search.tune.folder import Folder
from search.tune.records import Records
from search.tune.storage import Journal
from tests.commands import cli
from trainers.recipe import Recipe
from trainers.searching import Objective
from trainers.space import Space

NAME, LR = "phases.0.optim.main.name", "phases.0.optim.main.lr"
MOMENTUM, SYNC = "phases.0.optim.main.momentum", "scale.sync_bn"
SPACE = {
    NAME: "choice(sgd, adamw)",
    LR: "loguniform(1e-3, 1)",
    MOMENTUM: f"uniform(0.5, 0.99) if {NAME} == sgd",
    "model": "choice({name: small_cnn, width: 8}, resnet20)",
    "data.batch": "choice(32, 64)",
    SYNC: "choice(true, false)",
}
COMMON = {"model": "resnet20", "data.batch": 64, SYNC: True}
POINTS: list[dict[str, Any]] = [
    {NAME: "sgd", LR: 0.1, MOMENTUM: 0.9, **COMMON, "model": {"name": "small_cnn", "width": 8}},
    {NAME: "adamw", LR: 0.01, **COMMON},
    {NAME: "adamw", LR: 0.5, **COMMON, SYNC: False},
    {NAME: "sgd", LR: 0.2, MOMENTUM: 0.5, **COMMON},
]


@pytest.fixture
def searched(tmp_path: Path, digits: Recipe) -> str:
    """A search with a trial of each end: complete, pruned, failed and still running."""
    folder = Folder(str(tmp_path / "digits-1a2b3c4d"))
    Path(folder.url).mkdir()
    tree = digits.plain() | {"search": {"space": SPACE}}
    Path(folder.url, "search.yaml").write_text(yaml.safe_dump(tree))
    records = Records.open(
        folder.name,
        Journal(folder.url).storage(),
        [Objective(metric="val/accuracy")],
        sampler=samplers.random,
        pruner=schedulers.none(),
        space=Space.parse(SPACE),
        tree=tree,
        owner=folder.name,
    )
    records.enqueue(POINTS)
    for number, curve in enumerate(([0.25, 0.75], [0.125], [])):
        asked = records.ask()
        assert asked and asked.number == number and asked.changes == POINTS[number]
        for evaluation, value in enumerate(curve, start=1):
            records.report(number, evaluation, value)
    records.complete(0, [0.75])
    records.prune(1)
    records.fail(2, "it caught fire")
    assert records.ask()
    return folder.url


def page(folder: str) -> tuple[Any, dict[str, Any]]:
    """What TensorBoard answers for its HParams tab: the experiment, and the rows by their run."""
    events = EventMultiplexer()
    events.AddRunsFromDirectory(folder)
    events.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(events, folder)))
    asked = api_pb2.ListSessionGroupsRequest(slice_size=100, allowed_statuses=[0, 1, 2, 3])
    rows = list_session_groups.Handler(RequestContext(), context, "", asked).run().session_groups
    wanted = api_pb2.GetExperimentRequest()
    experiment = get_experiment.Handler(RequestContext(), context, "", wanted).run()
    assert all(len(row.sessions) == 1 for row in rows)
    return experiment, {row.sessions[0].name: row for row in rows}


def values(row: Any) -> dict[str, Any]:
    return {name: getattr(each, each.WhichOneof("kind")) for name, each in row.hparams.items()}


def metrics(row: Any) -> dict[str, float]:
    return {each.name.tag: each.value for each in row.metric_values}


def test_the_page_has_every_trial_with_what_it_drew_and_how_it_ended(searched: str) -> None:
    hparams.write(searched)
    experiment, rows = page(searched)
    columns = {each.name: each for each in experiment.hparam_infos}
    assert {*columns} == {"state", *SPACE} and columns[LR].display_name == "lr"
    assert columns[LR].domain_interval.max_value == 1 and columns[SYNC].type == 2  # bool
    assert [each.name.tag for each in experiment.metric_infos] == ["val/accuracy", "reached"]
    assert [*sorted(rows)] == [f"tensorboard/{number:04d}" for number in range(4)]
    done, pruned, failed, running = (rows[name] for name in sorted(rows))
    assert values(done) == {
        **POINTS[0],
        "state": "complete",
        "model": '{"name": "small_cnn", "width": 8}',
    }
    assert metrics(done) == {"val/accuracy": 0.75, "reached": 0.75}
    assert values(pruned) == {**POINTS[1], "state": "pruned"} and MOMENTUM not in values(pruned)
    assert metrics(pruned) == {"reached": 0.125}
    assert values(failed)["state"] == "fail" and values(failed)[SYNC] is False
    ended = [api_pb2.Status.Name(row.sessions[0].status) for row in (done, pruned, failed, running)]
    assert ended == [f"STATUS_{word}" for word in ("SUCCESS", "SUCCESS", "FAILURE", "RUNNING")]


def test_written_again_nothing_is_there_twice(searched: str) -> None:
    folder = hparams.write(searched)
    before = {name: store.read_bytes(f"{folder}/{name}") for name, *_ in store.listing(folder)}
    said = cli("report", searched)
    assert said.code == 0, said.err
    after = {name: store.read_bytes(f"{folder}/{name}") for name, *_ in store.listing(folder)}
    assert before == after and len(after) == 5
    curve = EventAccumulator(f"{folder}/0000").Reload().Scalars("reached")
    assert [(each.step, each.value) for each in curve] == [(1, 0.25), (2, 0.75)]


def test_a_search_in_object_storage_has_it_there(searched: str, tmp_path: Path) -> None:
    url = "memory://hparams-test/digits-1a2b3c4d"
    store.upload(searched, url)
    try:
        store.download(hparams.write(url), tmp_path / "copy")
    finally:
        store.remove(url)
    assert [*sorted(page(str(tmp_path / "copy"))[1])] == ["0000", "0001", "0002", "0003"]
