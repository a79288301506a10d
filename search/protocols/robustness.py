"""The figures of a robustness report: radar of corruptions, severities, calibration under shift, attacks, occlusion."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from datasets.page import Tile
from search import canvas, numbers
from search.canvas import MUTED, PALETTE, Panel, style
from search.protocols.page import Found, Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

CAPTIONS = {
    "examples": "One picture under every corruption; from top to bottom by severity",
    "attacked": "What PGD adds (stretched to the whole range), and the labels before and after",
}
# The groups of the paper, each drawn in a colour.
GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
METHODS = {
    "pgd": "PGD",
    "fgsm": "FGSM",
    "noise": "noise",
    "transfer": "PGD on the reference",
    "none": "untouched",
}


def tiles(found: Found) -> list[Tile]:
    """The numbers of the header."""
    scores, listed = found.scores, []
    if "mce" in scores:
        name = "mCE" if _whole(found) else "mCE of these corruptions"
        listed.append(Tile(name, _ratio(scores["mce"]), _interval(scores, "mce", _ratio), "main"))
    if "mean_corruption_error" in scores:
        name = "mean_corruption_error"
        interval = _interval(scores, name, numbers.percent)
        look: Any = "" if listed else "main"
        listed.append(Tile("Mean corruption error", numbers.percent(scores[name]), interval, look))
    if "accuracy" in scores:
        listed.append(Tile("Accuracy without", numbers.percent(scores["accuracy"]), "corruption"))
    if "corrupted_calibration_error" in scores:
        before = f"mean of all; {scores.get('calibration_error', math.nan):.3f} without corruption"
        error = f"{scores['corrupted_calibration_error']:.3f}"
        listed.append(Tile("Calibration error", error, before))
    stood = {name: value for name, value in scores.items() if name.endswith("_accuracy")}
    attacked = [name for name in stood if name.startswith(("pgd", "fgsm"))]
    if attacked:
        name = attacked[-1]
        method, epsilon = name.split("_")[:2]
        rows = numbers.count(scores.get("attacked_rows", 0))
        listed.append(
            Tile(
                f"After {METHODS[method]}",
                numbers.percent(stood[name]),
                f"{epsilon}/255, {rows} pictures",
            )
        )
    if "gradients_sound" in scores:
        sound = scores["gradients_sound"] == 1
        word = "sound" if sound else "masked?"
        listed.append(Tile("Gradients", word, "as far as checked", "" if sound else "bad"))
    return listed


def _whole(found: Found) -> bool:
    """Whether all of ImageNet-C was tried, of which mCE is said."""
    asked = found.told.get("arguments", {})
    return len(asked.get("corruptions", ())) == 15 and len(asked.get("severities", ())) == 5


def _ratio(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(scores: dict[str, float], name: str, said: Any) -> str:
    low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
    return "" if low is None or high is None else f"{said(low)} to {said(high)}"


def figures(found: Found) -> list[Shown]:
    """What its tables show."""
    shown = []
    if (means := found.tables.get("corruption_means")) is not None and len(means) > 2:
        caption = "Accuracy by corruption, the mean over severities"
        shown.append(Shown("radar", caption, radar(means)))
    if (each := found.tables.get("corruptions")) is not None:
        panel = Panel("", lambda axes: _severities(axes, each))
        caption = "Accuracy by severity, each kind of corruption a line"
        shown.append(Shown("severities", caption, canvas.single(panel)))
    if (shift := found.tables.get("calibration")) is not None:
        panel = Panel("", lambda axes: _calibration(axes, shift))
        caption = "Confidence and accuracy by severity: what lies between them is misplaced trust"
        shown.append(Shown("calibration", caption, canvas.single(panel)))
    if (attacks := found.tables.get("attacks")) is not None:
        panel = Panel("", lambda axes: _attacks(axes, attacks))
        caption = "Accuracy under attack, by its size in 1/255"
        shown.append(Shown("attacks", caption, canvas.single(panel)))
    if (losses := found.tables.get("attack_loss")) is not None:
        panel = Panel("", lambda axes: _losses(axes, losses))
        shown.append(
            Shown("attack_loss", "Loss over the steps of the largest PGD", canvas.single(panel))
        )
    if (hidden := found.tables.get("occlusion")) is not None:
        panel = Panel("", lambda axes: _hidden(axes, hidden))
        caption = "Accuracy by the share of the picture that a gray patch hides"
        shown.append(Shown("occlusion", caption, canvas.single(panel)))
    return shown


def radar(means: pd.DataFrame) -> Figure:
    """A spoke a corruption, its length the accuracy; the run and its reference."""
    names = [str(name).replace("_", " ") for name in means["corruption"]]
    angles = [2 * math.pi * place / len(names) for place in range(len(names))]
    lines = {"this run": means["accuracy"]}
    if "reference_accuracy" in means:
        lines["reference"] = means["reference_accuracy"]
    with style():
        figure = Figure(figsize=(4.9, 5.2))
        axes: Any = figure.add_axes((0.2, 0.15, 0.6, 0.7), projection="polar")
        axes.set_theta_offset(math.pi / 2)
        axes.set_theta_direction(-1)
        for (label, values), colour in zip(lines.items(), PALETTE, strict=False):
            closed = [*values, values.iloc[0]]
            axes.plot([*angles, angles[0]], closed, "o-", color=colour, markersize=3, label=label)
            axes.fill([*angles, angles[0]], closed, color=colour, alpha=0.1)
        axes.set_ylim(0, 1)
        axes.set_yticks([0.25, 0.5, 0.75, 1.0], ["25", "50", "75", "100 %"], fontsize=7)
        axes.set_rlabel_position(180 / len(names))
        axes.set_xticks(angles, [""] * len(names))
        for name, angle in zip(names, angles, strict=True):
            side = math.sin(angle)
            align = "center" if abs(side) < 0.1 else ("left" if side > 0 else "right")
            axes.text(angle, 1.1, name, ha=align, va="center", fontsize=8.5, color=MUTED)
        axes.spines["polar"].set_visible(False)
        if len(lines) > 1:
            figure.legend(loc="lower center", ncols=2, fontsize=8.5)
    return figure


def _severities(axes: Axes, table: pd.DataFrame) -> None:
    known = {name: group for group, names in GROUPS.items() for name in names}
    groups = table["corruption"].map(lambda name: known.get(name, "other"))
    for place, group in enumerate(dict.fromkeys(groups)):
        line = table[groups == group].groupby("severity")["accuracy"].mean()
        axes.plot(line.index, line, "o-", color=PALETTE[place], markersize=3.5, label=group)
    axes.set_xlabel("severity")
    axes.set_xticks(sorted(table["severity"].unique()))
    _as_shares(axes)


def _calibration(axes: Axes, table: pd.DataFrame) -> None:
    for model, colour in zip(dict.fromkeys(table["model"]), PALETTE, strict=False):
        rows = table[table["model"] == model].sort_values("severity")
        name = "" if model == "run" else f", {model}"
        look: Any = {"color": colour, "markersize": 3.5}
        axes.plot(rows["severity"], rows["accuracy"], "o-", label=f"accuracy{name}", **look)
        axes.plot(rows["severity"], rows["confidence"], "o:", label=f"confidence{name}", **look)
        if model == "run":
            between: Any = {"color": colour, "alpha": 0.12, "linewidth": 0}
            axes.fill_between(rows["severity"], rows["accuracy"], rows["confidence"], **between)
    axes.set_xlabel("severity, 0 without corruption")
    axes.set_xticks(sorted(table["severity"].unique()))
    _as_shares(axes)


def _attacks(axes: Axes, table: pd.DataFrame) -> None:
    untouched = table[table["attack"] == "none"]
    for place, method in enumerate(name for name in METHODS if name != "none"):
        rows = table[table["attack"] == method].sort_values("epsilon")
        if len(rows):
            sizes = [0.0, *rows["epsilon"]]
            values = [*untouched["accuracy"][:1], *rows["accuracy"]]
            look: Any = {"color": PALETTE[place], "markersize": 3.5}
            axes.plot(sizes, values, "o-", label=METHODS[method], **look)
    axes.set_xlabel("epsilon, 1/255")
    _as_shares(axes)


def _losses(axes: Axes, table: pd.DataFrame) -> None:
    axes.plot(table["step"], table["loss"], "-", color=PALETTE[0])
    axes.set_xlabel("step")
    axes.set_ylim(bottom=0)


def _hidden(axes: Axes, table: pd.DataFrame) -> None:
    lines = {"accuracy": "this run", "reference_accuracy": "reference"}
    for (column, label), colour in zip(lines.items(), PALETTE, strict=False):
        if column in table:
            axes.plot(
                table["hidden"], table[column], "o-", color=colour, markersize=3.5, label=label
            )
    axes.set_xlabel("hidden")
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    _as_shares(axes, legend="reference_accuracy" in table)


def _as_shares(axes: Axes, *, legend: bool = True) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    if legend:
        axes.legend(loc="best", fontsize=8)
