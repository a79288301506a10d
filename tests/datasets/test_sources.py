"""The contract of `datasets/sources/`: each file packs with its defaults and is read back."""

from __future__ import annotations

import ast
import subprocess
import sys

import numpy as np
import pytest

from datasets import cached, pack, shards
from datasets.refusal import Refusal
from datasets.source import Source
from datasets.sources import curve, digits

# Sources that need no files; the others have tests of their own in sources/.
NAMES = ["curve", "digits", "synthetic"]
ROOT = pack.SOURCES.parent.parent


@pytest.mark.parametrize("name", NAMES)
def test_packs_and_reads_back_byte_for_byte(name: str) -> None:
    url = cached.ensure(name, {}, fractions={"val": 0.2}, seed=3)
    dataset, source = shards.open_dataset(url), pack.load_source(name, {})
    splits = [dataset.columns(split) for split in dataset.manifest.splits]
    row_of = {int(id_): row for row, id_ in enumerate(source.columns["id"])}
    rows = [row_of[int(id_)] for columns in splits for id_ in columns["id"]]
    assert sorted(rows) == list(range(source.num_rows))
    for column, values in source.columns.items():
        found = np.concatenate([columns[column] for columns in splits])
        assert found.dtype == values.dtype
        assert found.tobytes() == values[rows].tobytes()
    assert dataset.manifest.classes == source.classes


@pytest.mark.parametrize("name", NAMES)
def test_the_file_says_what_it_is_and_its_door_is_plain(name: str) -> None:
    tree = ast.parse((pack.SOURCES / f"{name}.py").read_text())
    assert ast.get_docstring(tree)
    door = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "build")
    assert ast.get_docstring(door)
    assert not door.args.args and not door.args.vararg and not door.args.kwarg
    for argument, default in zip(door.args.kwonlyargs, door.args.kw_defaults, strict=True):
        assert default is not None and argument.annotation is not None
        ast.literal_eval(default)
        words = {n.id for n in ast.walk(argument.annotation) if isinstance(n, ast.Name)}
        assert words <= {"int", "float", "str", "bool", "tuple", "Literal"}


@pytest.mark.parametrize("name", NAMES)
def test_building_twice_gives_the_same(name: str) -> None:
    one, two = pack.load_source(name, {}), pack.load_source(name, {})
    assert all(np.array_equal(one.columns[c], two.columns[c]) for c in one.columns)


def test_sources_and_transforms_import_without_torch() -> None:
    modules = [f"datasets.sources.{name}" for name in NAMES]
    modules += ["datasets.transforms", "datasets.pack", "datasets.packing.splits"]
    code = f"import sys, {', '.join(modules)}\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    found, original = digits.build(), load_digits()
    back = found.columns["image"][..., 0].astype(float) * 16 / 255
    assert np.abs(back - original.images).max() < 0.05
    assert found.columns["image"].min() == 0 and found.columns["image"].max() == 255
    assert np.array_equal(found.columns["label"], original.target)


def test_curve_is_its_function() -> None:
    columns = curve.build(num_rows=50).columns
    x = columns["x"].astype(np.float64)
    expected = x**2 + 2 * np.cos(x) + 2 * np.exp(-x)
    assert np.allclose(columns["y"], expected, rtol=1e-5)
    assert x.min() >= -2 and x.max() < 4
    noisy = curve.build(num_rows=2000, function="sine", noise=0.5).columns
    assert np.std(noisy["y"] - np.sin(noisy["x"])) == pytest.approx(0.5, rel=0.1)
    more = curve.build(num_rows=60).columns
    assert np.array_equal(more["x"][:50], columns["x"])  # a point depends on its id alone


def test_curve_by_an_expression_is_the_named_one() -> None:
    named, said = (
        curve.build(function=function).columns for function in ("r2", "x**2 + 2*cos(x) + 2/exp(x)")
    )
    assert np.array_equal(named["x"], said["x"])
    np.testing.assert_allclose(named["y"], said["y"], rtol=1e-6)


def test_curve_is_judged_on_a_range_of_its_own() -> None:
    plain = curve.build(num_rows=50).columns
    source = curve.build(num_rows=50, test_low=-3.0, test_high=6.0, num_test=300)
    assert source.splits is not None
    learnt, judged = source.splits["train"], source.splits["test"]
    assert np.array_equal(source.columns["x"][learnt], plain["x"]), "what is learnt from stays"
    x, beyond = source.columns["x"][judged], source.columns["beyond"][judged] > 0
    assert x.min() < -2.8 and x.max() > 5.8 and len(x) == 300
    assert np.array_equal(beyond, (x < -2) | (x >= 4)) and 0.2 < beyond.mean() < 0.5
    assert not source.columns["beyond"][learnt].any()
    exact = curve.build(num_rows=50, noise=0.5, test_noise=0.0, test_high=6.0).columns
    error = exact["y"] - curve.r2(exact["x"].astype(np.float64))
    assert np.abs(error[50:]).max() < 1e-5 < 0.3 < np.std(error[:50])
    one_side = curve.build(num_rows=50, test_high=6.0).columns["x"]
    assert one_side.min() >= -2 and one_side.max() > 5.5


@pytest.mark.parametrize(
    "arguments",
    [
        {"function": "cube"},
        {"function": "x**2 + y"},
        {"function": "log(x)"},
        {"function": "exp(1000 * x)"},
        {"test_low": 5.0},
        {"test_noise": -1.0},
        {"test_high": float("nan")},
        {"test_low": -3.0, "num_test": 0},
        {"num_rows": 0},
        {"low": 4.0},
        {"high": float("inf")},
        {"noise": -1.0},
    ],
)
def test_curve_refuses_what_it_cannot_draw(arguments: dict[str, object]) -> None:
    with pytest.raises(Refusal) as caught:
        curve.build(**arguments)  # type: ignore[arg-type]
    assert caught.value.path.startswith("data.source.") and caught.value.remedy


IDS = np.arange(4, dtype=np.int64)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"columns": {"x": np.zeros(4, np.float32)}}, "no column 'id'"),
        ({"columns": {"id": IDS.astype(np.int32)}}, "'id' is int32, not int64"),
        ({"columns": {"id": IDS * 0}}, "ids are not unique"),
        ({"columns": {"id": IDS, "x": np.zeros(3, np.float32)}}, "'x' has shape"),
        ({"columns": {"id": IDS, "x": np.zeros(4)}}, "'x' is float64, not float32"),
        ({"columns": {"id": IDS, "label": IDS}, "classes": ("a",)}, "labels 0 .. 3 do not fit 1"),
        ({"kind": "image", "shape": (2, 2, 1)}, "need a column 'image'"),
        ({"splits": {"train": IDS, "test": IDS[:1]}}, "a row is in two splits"),
        ({"splits": {"test": IDS}}, "no split 'train'"),
        ({"splits": {"train": IDS + 1}}, "row 4 of 4"),
    ],
)
def test_a_source_that_breaks_the_contract_is_named(changes: dict[str, object], words: str) -> None:
    good: dict[str, object] = {"name": "mine", "kind": "table", "columns": {"id": IDS}}
    with pytest.raises(Refusal, match=words) as caught:
        Source(**{**good, **changes})  # type: ignore[arg-type]
    assert caught.value.path == "datasets/sources/mine.py"
