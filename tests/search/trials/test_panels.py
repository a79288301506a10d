"""What the pictures of a search show: read from the axes that they draw on."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from search.canvas import Panel
from search.trials import importance, panels
from tests.search.trials.conftest import Make
from tests.search.trials.searched import BATCH, LR, NAME, Searched


def drawn(panel: Panel | None) -> Axes:
    assert panel
    axes = Figure(figsize=(4.9, 2.7)).add_subplot()
    panel.draw(axes)
    return axes


def shown(axes: Axes, which: str = "x") -> list[str]:
    """The ticks that can be seen."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    places = axis.get_majorticklocs()
    named = axis.get_major_formatter().format_ticks(places)
    return [name for place, name in zip(places, named, strict=True) if low <= place <= high]


def slices(search: Searched) -> dict[str, Axes]:
    return {panel.title: drawn(panel) for panel in panels.slices(search.read())}


def test_the_history_shows_the_best_so_far(make: Make) -> None:
    search = make(metric="val/loss", mode="min")
    for value in (0.5, 0.7, 0.4, 0.45):
        search.ended(value)
    lines = {line.get_label(): line for line in drawn(panels.history(search.read())).lines}
    assert [*lines["finished"].get_ydata()] == [0.5, 0.7, 0.4, 0.45]
    assert [*lines["best so far"].get_ydata()] == [0.5, 0.5, 0.4, 0.4]
    assert "ended early" not in lines


def test_curves_end_where_the_trials_ended(seen: Searched) -> None:
    lines = drawn(panels.curves(seen.read())).lines
    best = next(line for line in lines if line.get_label() == "trial 0001, the best")
    assert [*best.get_ydata()] == pytest.approx([0.75, 0.85, 0.95])
    crosses = [line for line in lines if line.get_marker() == "x"]
    assert [[*cross.get_xdata()] for cross in crosses] == [[1]]


@pytest.mark.parametrize(
    ("said", "ticks"),
    [
        ("loguniform(1e-4, 1e-1)", ["0.0001", "0.001", "0.01", "0.1"]),
        ("loguniform(2e-3, 8e-3)", ["0.002", "0.003", "0.005"]),
        ("loguniform(0.011, 0.09)", ["0.02", "0.03", "0.05"]),
    ],
)
def test_a_logarithm_has_ticks_however_narrow(make: Make, said: str, ticks: list[str]) -> None:
    search = make(space={LR: said})
    search.ended(0.5)
    axes = slices(search)["lr"]
    assert (shown(axes), axes.get_xscale()) == (ticks, "log")


@pytest.mark.parametrize(
    ("space", "title", "ticks"),
    [
        ({"data.batch": "choice(32, 64)"}, "batch", ["32", "64"]),
        ({"phases.0.optim.main.clip": "choice(null, 0.5)"}, "clip", ["null", "0.5"]),
        ({"scale.sync_bn": "choice(true, false)"}, "sync_bn", ["true", "false"]),
        (
            {"model": "choice({name: small_cnn, width: 8}, {name: small_cnn, width: 16}, resnet20)"},
            "model",
            ["small_cnn, width 8", "small_cnn, width 16", "resnet20"],
        ),
    ],
)  # fmt: skip
def test_values_are_named(make: Make, space: dict, title: str, ticks: list[str]) -> None:
    search = make(space=space)
    for _ in range(6):
        search.ended(0.5)
    axes = slices(search)[title]
    assert shown(axes) == ticks
    places = np.asarray(axes.collections[0].get_offsets())[:, 0]
    assert len(places) == 6 and abs(places - places.round()).max() < 0.2, "null is a place, too"


def test_many_values_are_named_now_and_then(make: Make) -> None:
    search = make(space={"seed": f"choice({', '.join(map(str, range(40)))})"})
    search.ended(0.5)
    assert shown(slices(search)["seed"]) == [str(seed) for seed in range(0, 40, 4)]


def test_long_names_keep_their_ends(make: Make) -> None:
    long = [f"a_very_long_name_of_an_initialisation_{place}.safetensors" for place in range(3)]
    values = ", ".join(f"['{name}']" for name in long)
    search = make(space={"phases.0.train": f"choice({values})"})
    search.ended(0.5)
    named = shown(slices(search)["train"])
    assert all(len(name) <= 20 and "…" in name for name in named)


def test_hopeless_trials_press_nobody_into_a_line(make: Make) -> None:
    search = make(space={LR: "loguniform(1e-4, 1e-1)"})
    for value in (0.95, 0.94, 0.93, 0.92, 0.1):
        search.ended(value)
    axes = slices(search)["lr"]
    assert axes.get_ylim()[0] > 0.8 and axes.get_ylim()[1] > 0.95
    (edge,) = [line for line in axes.lines if line.get_marker() == "v"]
    assert len(edge.get_xdata()) == 1 and edge.get_ydata()[0] > axes.get_ylim()[0]


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_what_was_rounded_to_nothing_has_no_logarithm(make: Make) -> None:
    decay = "phases.0.optim.main.weight_decay"
    search = make(space={decay: "qlognormal(-8, 1, 1e-3)", LR: "loguniform(1e-4, 1)"})
    for _ in range(8):
        search.ended(0.5)
    assert 0.0 in set(search.read().table[decay])
    figure = panels.parallel(search.read())
    assert figure and all(np.isfinite(line.get_ydata()).all() for line in figure.axes[0].lines)
    assert len(slices(search)) == 2


def test_what_cannot_be_drawn_is_left_out(make: Make) -> None:
    search = make()
    for _ in range(3):
        search.failed("it burnt")
    found = search.read()
    assert panels.history(found) is panels.curves(found) is panels.parallel(found) is None
    assert panels.slices(found) == [] and panels.rank(found, [LR, BATCH]) is None
    assert panels.importances(found, importance.of(found)) is panels.pareto(found) is None


def test_a_setting_that_only_trials_ended_early_had(make: Make) -> None:
    search = make()
    search.ended(0.9, point={NAME: "adamw", LR: 0.01, BATCH: 32})
    sgd = {NAME: "sgd", LR: 0.01, BATCH: 32, "phases.0.optim.main.momentum": 0.9}
    search.pruned([0.88], point=sgd)
    axes = slices(search)["momentum"]
    assert len(axes.collections) == 0
    assert [[*line.get_xdata()] for line in axes.lines if line.get_marker() == "x"] == [[0.9]]


def test_the_front_is_drawn_through_those_that_no_other_beats(make: Make) -> None:
    goals = [{"metric": "val/accuracy"}, {"metric": "parameters", "mode": "min"}]
    search = make(objectives=goals)
    for accuracy, parameters in ((0.9, 1e6), (0.8, 1e3), (0.7, 1e5), (0.85, 1e4)):
        search.ended(accuracy, parameters)
    axes = drawn(panels.pareto(search.read()))
    assert axes.get_xscale() == "log", "costs that lie far apart"
    (front,) = [line for line in axes.lines if line.get_label() == "no other beats these"]
    assert [*front.get_ydata()] == [0.8, 0.85, 0.9]
    assert {"1,000", "1 M"} <= {*shown(axes)}


def test_each_importance_stands_beside_its_setting(make: Make) -> None:
    search = make(space={LR: "loguniform(1e-4, 1e-1)", BATCH: "choice(32, 64)"})
    for _ in range(12):
        asked = search.ask()
        search.records.complete(asked.number, [float(np.log10(asked.changes[LR]))])
    found = search.read()
    axes = drawn(panels.importances(found, importance.of(found)))
    assert [text.get_text() for text in axes.texts] == ["batch", "lr"], "the greatest on top"
    assert max(bar.get_width() for bar in axes.patches) <= 1
