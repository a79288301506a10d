"""Evaluators agree with their reference libraries, also where classes or samples are missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor

from datasets.batch import Batch
from trainers import rooms
from trainers.task import Evaluator, Figure, Finding, Scalar, Table

CLASSES = [str(i) for i in range(7)]
CONTEXT = {"classes": CLASSES, "mean": [0.5], "std": [0.5]}
EVALS = list(rooms.doors("evals"))


def made(name: str, **arguments: Any) -> Evaluator:
    evaluator: Evaluator = rooms.door("evals", name).build(CONTEXT, arguments)
    return evaluator


def logits(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are right more often than not, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(len(CLASSES), (rows,), generator=generator)
    noise = torch.randn(rows, len(CLASSES), generator=generator)
    return noise + 1.5 * torch.nn.functional.one_hot(label, len(CLASSES)), label


def fed(
    evaluator: Evaluator, outputs: dict[str, Tensor], columns: dict[str, Tensor], cuts: list[int]
) -> list[Finding]:
    """Findings after the samples came in batches of these sizes."""
    rows = len(next(iter(outputs.values())))
    assert sum(cuts) == rows
    for start, stop in zip(np.cumsum([0, *cuts]), np.cumsum(cuts), strict=False):
        batch = Batch(
            {n: c[start:stop] for n, c in {**columns, "id": torch.arange(rows)}.items()}, key=0
        )
        evaluator.update({n: o[start:stop] for n, o in outputs.items()}, batch)
    return list(evaluator.findings())


def scalars(found: list[Finding]) -> dict[str, float]:
    return {f.name: f.value for f in found if isinstance(f, Scalar)}


def tables(found: list[Finding]) -> dict[str, Any]:
    return {f.name: f.columns for f in found if isinstance(f, Table)}


def sample_of(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    if name == "accuracy":
        outputs, label = logits(20)
        return {"logits": outputs}, {"label": label}
    if name == "regression":
        x = torch.randn(20, generator=generator)
        return {"prediction": x[:, None] ** 2}, {"x": x, "y": x**2 + 0.1}
    if name in ("samples", "fid_kid"):
        return {"sample": torch.rand(20, 1, 8, 8, generator=generator)}, {
            "image": torch.rand(20, 1, 8, 8, generator=generator)
        }
    if name in ("embedding", "knn"):
        columns = {"label": torch.arange(20) % 3}
        return {"embedding": torch.randn(20, 6, generator=generator)}, columns
    if name == "caption_retrieval":
        image, text = torch.randn(2, 20, 6, generator=generator).unbind()
        said = {"tokens": torch.arange(20)[:, None] % 7 + torch.arange(5)}
        return {"embedding": image, "text": image + 0.8 * text}, said
    if name == "health":
        active = torch.rand(20, 9, generator=generator) > 0.9
        return {"embedding": torch.randn(20, 6, generator=generator), "active": active}, {}
    raise AssertionError(f"a new evaluator '{name}' needs samples here")


@pytest.mark.parametrize("name", EVALS)
def test_the_scores_that_it_states_are_those_it_gives(name: str) -> None:
    outputs, columns = sample_of(name)
    constants = rooms.door("evals", name).constants
    assert set(constants["NEEDS"]) == {*outputs, *columns}
    found = fed(made(name), outputs, columns, [20])
    assert tuple(scalars(found)) == constants["SCORES"]
    assert all(isinstance(value, float) and np.isfinite(value) for value in scalars(found).values())


@pytest.mark.parametrize("name", EVALS)
def test_batches_do_not_matter(name: str) -> None:
    outputs, columns = sample_of(name)
    whole = fed(made(name), outputs, columns, [20])
    ragged = fed(made(name), outputs, columns, [7, 1, 9, 3])
    assert scalars(whole) == pytest.approx(scalars(ragged), rel=1e-5)
    assert tables(whole) == tables(ragged)


@pytest.mark.parametrize("name", EVALS)
def test_figures_are_drawn(name: str) -> None:
    outputs, columns = sample_of(name)
    figures = [f for f in fed(made(name), outputs, columns, [20]) if isinstance(f, Figure)]
    assert figures
    for figure in figures:
        assert figure.draw().get_axes()


@pytest.mark.parametrize("name", EVALS)
def test_a_rank_without_rows_spoils_nothing(name: str) -> None:
    outputs, columns = sample_of(name)
    whole = scalars(fed(made(name), outputs, columns, [20]))
    evaluator = made(name)
    none = Batch({n: c[:0] for n, c in {**columns, "id": torch.arange(20)}.items()}, key=0)
    evaluator.update({n: o[:0] for n, o in outputs.items()}, none)
    assert scalars(fed(evaluator, outputs, columns, [20])) == pytest.approx(whole)


# --- accuracy against scikit-learn


def missing_classes() -> tuple[Tensor, Tensor]:
    """Class 3 is never true, class 5 never predicted, class 6 neither."""
    outputs, label = logits(120, seed=3)
    outputs[:, 5:] = -20.0
    label[label == 3] = 5
    label[label == 6] = 0
    return outputs, label


def one_sample() -> tuple[Tensor, Tensor]:
    return logits(1)


@pytest.mark.parametrize(
    "case", [lambda: logits(500), lambda: logits(33, seed=9), missing_classes, one_sample]
)
def test_accuracy_is_scikit_learns(case: Callable[[], tuple[Tensor, Tensor]]) -> None:
    outputs, label = case()
    rows = len(label)
    found = fed(
        made("accuracy"), {"logits": outputs}, {"label": label}, [rows - rows // 3, rows // 3]
    )
    values, guess = scalars(found), outputs.argmax(1)
    every = list(range(len(CLASSES)))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        label, guess, labels=every, zero_division=0
    )
    assert values["accuracy"] == pytest.approx(metrics.accuracy_score(label, guess))
    assert values["macro_precision"] == pytest.approx(precision.mean())
    assert values["macro_recall"] == pytest.approx(recall.mean())
    assert values["macro_f1"] == pytest.approx(f1.mean())
    probabilities = outputs.double().softmax(1).numpy()
    assert values["loss"] == pytest.approx(
        metrics.log_loss(label, probabilities, labels=every), rel=1e-5
    )
    top5 = metrics.top_k_accuracy_score(label, probabilities, k=5, labels=every)
    assert values["top5"] == pytest.approx(top5)
    classes = tables(found)["classes"]
    for name, column in (
        ("precision", precision),
        ("recall", recall),
        ("f1", f1),
        ("support", support),
    ):
        np.testing.assert_allclose(classes[name], column, rtol=1e-12)
    confusion = tables(found)["confusion"]
    matrix = metrics.confusion_matrix(label, guess, labels=every)
    np.testing.assert_array_equal(np.array([confusion[name] for name in CLASSES]).T, matrix)
    assert confusion["true"] == CLASSES


@pytest.mark.parametrize("case", [lambda: logits(500), missing_classes])
def test_calibration_error_by_hand(case: Callable[[], tuple[Tensor, Tensor]]) -> None:
    """Fifteen bins of equal width: sum of |accuracy - confidence| weighted by the bin's share (1706.04599, eq. 3)."""
    outputs, label = case()
    confidence, guess = outputs.double().softmax(1).max(1)
    right = (guess == label).double()
    bins = (confidence * 15).ceil().clamp(1, 15)
    error = sum(
        float(chosen.double().mean() * (right[chosen].mean() - confidence[chosen].mean()).abs())
        for number in range(1, 16)
        if (chosen := bins == number).any()
    )
    found = scalars(fed(made("accuracy"), {"logits": outputs}, {"label": label}, [len(label)]))
    assert found["calibration_error"] == pytest.approx(error, abs=1e-6)


def test_logits_that_look_like_probabilities_are_still_logits() -> None:
    """torchmetrics guesses: values in 0..1 would be taken for probabilities, batch by batch."""
    generator = torch.Generator().manual_seed(4)
    outputs = torch.rand(200, len(CLASSES), generator=generator)
    label = torch.randint(len(CLASSES), (200,), generator=generator)
    confidence = outputs.softmax(1).max(1)[0]
    right = (outputs.argmax(1) == label).float()
    bins = (confidence * 15).ceil()
    error = sum(
        float(
            (bins == b).float().mean()
            * (right[bins == b].mean() - confidence[bins == b].mean()).abs()
        )
        for b in bins.unique()
    )
    found = scalars(fed(made("accuracy"), {"logits": outputs}, {"label": label}, [200]))
    assert found["calibration_error"] == pytest.approx(error, abs=1e-5)


def test_soft_labels_count_as_their_likeliest_class() -> None:
    outputs, label = logits(40)
    soft = torch.nn.functional.one_hot(label, len(CLASSES)) * 0.7 + 0.3 / len(CLASSES)
    hard = scalars(fed(made("accuracy"), {"logits": outputs}, {"label": label}, [40]))
    assert scalars(fed(made("accuracy"), {"logits": outputs}, {"label": soft}, [40])) == hard


def test_classes_of_one_name_keep_their_columns() -> None:
    evaluator = rooms.door("evals", "accuracy").build({"classes": ["crane", "crane", "owl"]}, {})
    outputs = torch.eye(3)
    table = tables(fed(evaluator, {"logits": outputs}, {"label": torch.arange(3)}, [3]))[
        "confusion"
    ]
    assert list(table) == ["true", "crane (0)", "crane (1)", "owl"]


def test_two_classes_have_a_top_five() -> None:
    evaluator = rooms.door("evals", "accuracy").build({"classes": ["a", "b"]}, {})
    assert (
        scalars(
            fed(evaluator, {"logits": torch.randn(6, 2)}, {"label": torch.tensor([0, 1] * 3)}, [6])
        )["top5"]
        == 1.0
    )


# --- regression and samples


def test_regression_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(2)
    y = 1000 + torch.randn(101, generator=generator)  # far from zero: r2 must not cancel
    prediction = y + 0.3 * torch.randn(101, generator=generator)
    columns = {"x": torch.linspace(0, 1, 101), "y": y}
    found = scalars(fed(made("regression"), {"prediction": prediction[:, None]}, columns, [50, 51]))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, prediction), rel=1e-5)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(y, prediction), rel=1e-5)
    assert found["r2"] == pytest.approx(metrics.r2_score(y.double(), prediction.double()), rel=1e-6)


def test_r2_of_constant_truth_is_zero() -> None:
    columns = {"x": torch.arange(4.0), "y": torch.ones(4)}
    assert (
        scalars(fed(made("regression"), {"prediction": torch.arange(4.0)}, columns, [4]))["r2"]
        == 0.0
    )


def test_equal_pictures_lie_at_no_distance() -> None:
    pictures = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    shuffled = pictures[torch.randperm(30, generator=torch.Generator().manual_seed(1))]
    found = scalars(fed(made("samples"), {"sample": shuffled}, {"image": pictures}, [30]))
    assert found["sliced_wasserstein"] == pytest.approx(0.0, abs=1e-5)


def test_a_shift_is_the_mean_length_of_its_projections() -> None:
    pictures = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    near = scalars(fed(made("samples"), {"sample": pictures + 0.1}, {"image": pictures}, [30]))
    far = scalars(fed(made("samples"), {"sample": pictures + 0.2}, {"image": pictures}, [30]))
    assert far["sliced_wasserstein"] == pytest.approx(2 * near["sliced_wasserstein"], rel=1e-4)
    # A shift by c of d pixels has length c * sqrt(d); a random direction keeps sqrt(2 / pi / d) of it in the mean.
    assert near["sliced_wasserstein"] == pytest.approx(0.1 * (2 / np.pi) ** 0.5, rel=0.15)


def test_as_many_samples_are_shown_as_asked_for() -> None:
    outputs, columns = sample_of("samples")
    figure = next(
        f for f in fed(made("samples", num=5), outputs, columns, [3, 17]) if isinstance(f, Figure)
    )
    (image,) = figure.draw().get_axes()[0].get_images()
    # Two rows of three tiles of 8 pixels with a pixel between; what is left over is white.
    assert image.get_array().shape == (17, 26) and figure.always
    pictures = (outputs["sample"][:5] * 0.5 + 0.5).clamp(0, 1)
    np.testing.assert_allclose(image.get_array()[9:17, 9:17], pictures[4, 0], rtol=1e-5)
    assert (image.get_array()[9:17, 18:26] == 1).all()


def test_what_lies_beyond_is_scored_apart() -> None:
    y = torch.linspace(0, 1, 20)
    beyond = torch.zeros(20)
    beyond[15:] = 1
    prediction = y + torch.where(beyond > 0, 3.0, 0.5)
    columns = {"x": y * 4, "y": y, "beyond": beyond}
    found = fed(made("regression"), {"prediction": prediction[:, None]}, columns, [12, 8])
    assert scalars(found)["rmse"] == pytest.approx(0.5)
    assert scalars(found)["rmse_beyond"] == pytest.approx(3.0)
    (figure,) = [f for f in found if isinstance(f, Figure)]
    fit, residuals = figure.draw().get_axes()
    assert "beyond what is learnt from" in {t.get_text() for t in fit.get_legend().get_texts()}
    assert residuals.get_ylabel() == "model - y"
    within = {n: c[:15] for n, c in columns.items()}
    alone = fed(made("regression"), {"prediction": prediction[:15, None]}, within, [15])
    assert tuple(scalars(alone)) == ("rmse", "mae", "r2")


def test_the_shade_begins_between_rows_and_what_is_cut_off_is_marked() -> None:
    x = torch.linspace(-3, 5, 161)  # .05 apart
    beyond = ((x < -2) | (x >= 4)).float()
    error = torch.where(beyond > 0, torch.where(x < 0, -30.0, 40.0), 0.1 * torch.sin(9 * x))
    columns = {"x": x, "y": x**2, "beyond": beyond}
    found = fed(made("regression"), {"prediction": (x**2 + error)[:, None]}, columns, [161])
    (figure,) = [f for f in found if isinstance(f, Figure)]
    _, rest = figure.draw().get_axes()
    ends = sorted(patch.get_extents().transformed(rest.transData.inverted()).x1 for patch in rest.patches)  # fmt: skip
    assert ends[0] == pytest.approx(-2.0, abs=0.03)
    said = [each.get_text() for each in rest.texts]
    assert said == ["21 beyond the axis, to 40", "20 beyond the axis, to -30"]
    cut = [line for line in rest.get_lines() if line.get_marker() in "^v"]
    low, high = rest.get_ylim()
    assert [len(line.get_xdata()) for line in cut] == [21, 20]
    assert all(low <= y <= high for line in cut for y in line.get_ydata())
