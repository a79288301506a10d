"""Figures hold what there is to draw, and nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from cluster.run import Run
from search import canvas, plots


def titles(figure: object) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]  # type: ignore[attr-defined]


def test_curves_of_a_run(finished: Path) -> None:
    found = titles(plots.curves(Run(str(finished))))
    assert found == [
        "Loss",
        "Scores",
        "Validation calibration error",
        "Learning rate",
        "Samples per second",
        "Share of time waiting for data",
    ]
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


def test_nothing_is_drawn_without_data() -> None:
    assert plots.panels(pd.DataFrame(columns=["step", "split"]), {}) == []
    figure = canvas.grid([])
    assert not any(axes.axison for axes in figure.axes)
    assert figure.texts[0].get_text() == "no metrics yet"


def test_phases_and_restarts_are_marked() -> None:
    rows = [
        {"step": step, "split": "train", "phase": int(step > 5), "loss": 1 / step}
        for step in range(1, 11)
    ]
    (loss,) = plots.panels(pd.DataFrame(rows), {"restarts": [{"step": 8}]})
    texts = [text.get_text() for text in canvas.single(loss).axes[0].texts]
    assert texts == ["phase 1", "restart"]


def test_a_gan_has_losses_of_its_own() -> None:
    rows = [
        {
            "step": step,
            "split": "train",
            "critic_loss": -1.0,
            "generator_loss": 2.0,
            "critic_lr": 1e-4,
            "gap": 0.5,
        }
        for step in (1, 2, 3)
    ]
    found = plots.panels(pd.DataFrame(rows), {})
    assert [panel.title for panel in found] == ["Loss", "Learning rate", "Gap, training"]
    labels = canvas.single(found[0]).axes[0].get_legend_handles_labels()[1]
    assert labels == ["critic, smoothed", "generator, smoothed"]


def test_svg_is_small_well_formed_and_themed(finished: Path) -> None:
    lines = (finished / "metrics.jsonl").read_text().splitlines()
    metrics = pd.DataFrame([json.loads(line) for line in lines])
    text = canvas.svg(canvas.single(plots.panels(metrics, {})[0]))
    ElementTree.fromstring(text)
    assert "var(--series-1, #0072b2)" in text
    assert len(text) < 60_000
    assert "rdf" not in text


def test_names_of_classes_are_no_formulas() -> None:
    names = ["$x_", "<b>"]
    table = pd.DataFrame([[3, 1], [0, 4]], columns=names, index=names)
    text = canvas.svg(plots.confusion(table))
    ElementTree.fromstring(text)
    assert "$x_" in text
    assert "&lt;b&gt;" in text


def test_a_large_confusion_matrix_stays_small() -> None:
    table = pd.DataFrame([[int(i == j) for i in range(200)] for j in range(200)])
    assert len(canvas.svg(plots.confusion(table))) < 200_000
