"""A search for TensorBoard's HParams tab: what each trial drew, what came of it, how it ended.

There a search is an experiment (the columns) and its trials are sessions (the rows), each a TensorBoard run,
`tensorboard/NNNN`. Nothing there means ended early, so `state` is a column beside those that were searched.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from datasets import store
from search.trials import found
from search.trials.found import Found
from search.tune.records import CHANGES
from trainers.space import Dimension

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.api_pb2 import HParamInfo

FOLDER = "tensorboard"
# One name for ever: written again it replaces what was there, and no trial is shown twice.
FILE = "events.out.tfevents.0000000000.search"
STATE, REACHED = "state", "reached"
STATUS = {"complete": "SUCCESS", "pruned": "SUCCESS", "fail": "FAILURE", "running": "RUNNING"}


def write(url: str) -> str:
    """Write the events of a search folder, local or s3://, anew; where they are. Raises Refusal where it is no search."""
    search = found.read(url)
    folder = store.join(search.folder.url, FOLDER)
    store.write_bytes(store.join(folder, FILE), _recorded(experiment(search)))
    for trial in search.trials:
        events = _recorded(*session(search, trial))
        store.write_bytes(store.join(folder, f"{trial.number:04d}", FILE), events)
    return folder


def experiment(search: Found) -> Event:
    """The columns: what was searched, and the goals."""
    from tensorboard.plugins.hparams import api_pb2, metadata

    state = api_pb2.HParamInfo(name=STATE, type=api_pb2.DATA_TYPE_STRING, differs=True)
    state.domain_discrete.extend(STATUS)
    searched = [_column(each, search.labels[each.path]) for each in search.space.dimensions]
    tags = [*(goal.metric for goal in search.goals), REACHED]
    said = api_pb2.Experiment(
        name=search.folder.name,
        hparam_infos=[state, *searched],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in tags],
    )
    begun = [each.datetime_start.timestamp() for each in search.trials if each.datetime_start]
    return _event(metadata.EXPERIMENT_TAG, min(begun, default=0.0), experiment=said)


def session(search: Found, trial: FrozenTrial) -> list[Event]:
    """A row: what was drawn, what was `reached` by evaluation, the goals of a trial that ran to its end, and its status."""
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo, SessionStartInfo

    row: Any = search.table.loc[trial.number]
    begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    ended = trial.datetime_complete.timestamp() if trial.datetime_complete else begun
    start = SessionStartInfo(start_time_secs=begun)
    start.hparams[STATE].string_value = row["state"]
    drawn = json.loads(trial.user_attrs[CHANGES])
    for dimension in search.space.dimensions:
        if dimension.path in drawn:
            _set(start.hparams[dimension.path], _plain(dimension, drawn[dimension.path]))
    curve = sorted(trial.intermediate_values.items())
    scores = [(goal.metric, row[goal.metric]) for goal in search.goals]
    end = SessionEndInfo(
        status=api_pb2.Status.Value(f"STATUS_{STATUS[row['state']]}"),
        end_time_secs=ended if trial.datetime_complete else 0.0,
    )
    return [
        _event(metadata.SESSION_START_INFO_TAG, begun, session_start_info=start),
        *(_scalar(REACHED, begun, step, value) for step, value in curve),
        *(_scalar(name, ended, len(curve), value) for name, value in scores if value == value),
        _event(metadata.SESSION_END_INFO_TAG, ended, session_end_info=end),
    ]


def _column(dimension: Dimension, label: str) -> HParamInfo:
    from tensorboard.plugins.hparams import api_pb2

    column = api_pb2.HParamInfo(name=dimension.path, display_name=label, differs=True)
    values = [_plain(dimension, value) for value in dimension.values]
    kinds = {bool: api_pb2.DATA_TYPE_BOOL, str: api_pb2.DATA_TYPE_STRING}
    column.type = kinds.get(type(values[0]) if values else float, api_pb2.DATA_TYPE_FLOAT64)
    if values:
        column.domain_discrete.extend(values)
    elif "normal" not in dimension.kind:  # which has no ends
        least, most = dimension.numbers[:2]
        column.domain_interval.min_value, column.domain_interval.max_value = least, most
    return column


def _plain(dimension: Dimension, value: Any) -> bool | float | str:
    """As the page can hold it: values of a choice that are not all of one plain type become text."""
    kinds = {type(each) for each in dimension.values}
    if not kinds or kinds <= {int, float} or kinds in ({bool}, {str}):
        return value
    return value if isinstance(value, str) else json.dumps(value)


def _set(field: Any, value: bool | float | str) -> None:
    if isinstance(value, str):
        field.string_value = value
    elif isinstance(value, bool):
        field.bool_value = value
    else:
        field.number_value = value


def _event(tag: str, moment: float, **said: Any) -> Event:
    """One of the plugin's messages, which stand in the metadata of an empty tensor."""
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    about = metadata.create_summary_metadata(HParamsPluginData(**said))
    value = summary_pb2.Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
    return event_pb2.Event(wall_time=moment, summary=summary_pb2.Summary(value=[value]))


def _scalar(tag: str, moment: float, step: int, value: float) -> Event:
    from tensorboard.compat.proto import event_pb2, summary_pb2

    summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, simple_value=value)])
    return event_pb2.Event(wall_time=moment, step=step, summary=summary)


def _recorded(*events: Event) -> bytes:
    """An event file."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = io.BytesIO()
    writer = RecordWriter(file)
    for event in (Event(file_version="brain.Event:2"), *events):
        writer.write(event.SerializeToString())
    return file.getvalue()
