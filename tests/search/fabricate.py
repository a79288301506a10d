"""Run folders in the format of docs/architecture.md, from a small classifier really trained."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

CLASSES = [str(digit) for digit in range(10)]
RECIPE: dict[str, Any] = {
    "name": "digits",
    "seed": 0,
    "rows": [31],
    "data": {
        "source": {"name": "digits"},
        "url": None,
        "batch": 64,
        "lanes": 64,
        "tail": "drop",
        "train": {"transforms": [{"name": "pad_crop", "padding": 1}]},
        "splits": {"val": 0.15, "test": 0.15, "seed": 0},
    },
    "model": {"name": "small_cnn", "width": 32},
    "phases": [
        {
            "task": {"name": "classify", "label_smoothing": 0.05},
            "epochs": 12,
            "steps": None,
            "train": ["*"],
            "optim": {"main": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}},
            "schedule": {"name": "cosine", "warmup_steps": 50},
        }
    ],
    "evals": {"accuracy": {"name": "accuracy", "on": "val", "every": 1}},
    "keep": {"metric": "val/accuracy", "mode": "max", "patience": None},
    "scale": {"workers": 1, "device": "auto", "precision": "auto", "sync_bn": True},
    "log": {"every": 1, "tensorboard": True},
}
ENV = {
    "commit": "3f9c2a7b51d04e6f8a90c1d2e3f4a5b6c7d8e9f0",
    "dirty": False,
    "python": "3.11.9",
    "torch": "2.14.1",
    "torchvision": "0.29.1",
    "ray": "2.60.0",
    "platform": "Linux-6.1-x86_64",
    "cpu_count": 2,
    "hostname": "bench",
    "command": "python launch.py train recipes/digits.yaml",
    "started": "2026-11-20T09:15:04+00:00",
}
MODEL = {
    "parameters": 93_322,
    "trainable": 93_322,
    "multiply_adds": 1_254_400,
    "modules": [
        {"name": name, "kind": kind, "parameters": n, "trainable": n, "output": shape}
        for name, kind, n, shape in [
            ("stem.conv", "Conv2d", 288, [32, 8, 8]),
            ("stem.norm", "BatchNorm2d", 64, [32, 8, 8]),
            ("body.0", "Conv2d", 18_432, [64, 8, 8]),
            ("body.1", "BatchNorm2d", 128, [64, 8, 8]),
            ("body.2", "ReLU", 0, [64, 8, 8]),
            ("body.3", "Conv2d", 73_728, [128, 4, 4]),
            ("pool", "AdaptiveAvgPool2d", 0, [128, 1, 1]),
            ("head", "Linear", 682, [10]),
        ]
    ],
    "input": {"channels": 1, "size": 8, "mean": [4.88], "std": [6.02]},
    "load": [
        "from safetensors.torch import load_file",
        "from trainers.models.small_cnn import build",
        "",
        "model = build(num_classes=10, width=32)",
        'model.load_state_dict(load_file("checkpoints/step-XXXXXXXX/model.safetensors"))',
        "model.eval()",
    ],
}


def put(folder: Path, name: str, tree: Any) -> None:
    """Write JSON (or YAML) into a run folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(tree) if name.endswith(".yaml") else json.dumps(tree))


def _png(draw: Callable[[Figure], None], size: tuple[float, float]) -> bytes:
    figure, buffer = Figure(figsize=size, layout="constrained"), io.BytesIO()
    draw(figure)
    figure.savefig(buffer, dpi=150)
    return buffer.getvalue()


def _examples(figure: Figure) -> None:
    images = load_digits().images
    for place, axes in enumerate(figure.subplots(2, 8).flat):
        axes.imshow(images[place], cmap="gray_r")
        axes.axis("off")


def train(folder: Path) -> None:
    """A finished run of digits, its numbers from a real multilayer perceptron."""
    images, labels = load_digits(return_X_y=True)
    ids = np.arange(len(labels))
    rest, test = train_test_split(ids, test_size=270, stratify=labels, random_state=0)
    learn, val = train_test_split(rest, test_size=270, stratify=labels[rest], random_state=0)
    net = MLPClassifier((32,), learning_rate_init=0.004, random_state=0)
    rng, rows, step, waited = np.random.default_rng(0), [], 0, 0.0
    for epoch in range(12):
        for batch in np.array_split(rng.permutation(learn), 19):
            net.partial_fit(images[batch], labels[batch], classes=range(10))
            step += 1
            row = {"step": step, "split": "train", "phase": 0, "epoch": epoch, "loss": net.loss_}
            row["lr"] = 0.1 * min(step / 50, 1) * (1 + np.cos(np.pi * step / 228)) / 2
            row["images_per_second"] = 5200 + 240 * rng.normal()
            waited += rng.random() / 900
            row |= {"seconds": step * 0.055, "samples": step * 64, "wait_seconds": waited}
            rows.append(row)
        score = net.score(images[val], labels[val])
        rows.append(
            {
                "step": step,
                "split": "val",
                "phase": 0,
                "epoch": epoch,
                "val/accuracy": score,
                "val/macro_f1": score - 0.004,
                "val/loss": 1.1 - score,
                "val/calibration_error": 0.02,
            }
        )
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _describe(folder, {"train": learn, "val": val, "test": test}, labels)
    scores = {f"val/{k}": v for k, v in (("accuracy", score), ("macro_f1", score - 0.004))}
    guess = net.predict(images[test])
    scores |= {"test/accuracy": float(np.mean(guess == labels[test])), "test/macro_f1": 0.961}
    _judge(folder, net, images, labels, {"val": val, "test": test})
    put(
        folder,
        "summary.json",
        {
            "status": "finished",
            "scores": scores,
            "best": {"step": step, "metric": "val/accuracy", "score": score},
            "steps": step,
            "samples": step * 64,
            "seconds": 12.43,
            "images_per_second": 5217.4,
            "wait_seconds": 0.21,
            "place": {
                "place": "this process",
                "workers": 1,
                "device": "cpu",
                "precision": "fp32",
                "batch": 64,
            },
            "opened": {"test": 1},
            "notes": [],
            "restarts": 0,
            "weights": "checkpoints/step-00000228/model.safetensors",
            "data": "ab12" * 8,
            "run": str(folder),
        },
    )


def _describe(folder: Path, splits: dict[str, np.ndarray], labels: np.ndarray) -> None:
    put(folder, "recipe.yaml", RECIPE)
    put(folder, "env.json", ENV)
    put(folder, "model.json", MODEL)
    counts = {
        split: {name: int((labels[ids] == int(name)).sum()) for name in CLASSES}
        for split, ids in splits.items()
    }
    put(
        folder,
        "data.json",
        {
            "name": "digits",
            "kind": "image",
            "shape": [8, 8, 1],
            "classes": CLASSES,
            "counts": counts,
            "rows": {split: len(ids) for split, ids in splits.items()},
            "mean": [4.884],
            "std": [6.017],
            "packed": {"source": "digits", "args": {}, "seed": 0, "official_splits": []},
            "digest": "ab12" * 8,
        },
    )
    (folder / "figures").mkdir()
    (folder / "figures" / "data_examples.png").write_bytes(_png(_examples, (8, 2.2)))


def _judge(
    folder: Path, net: Any, images: np.ndarray, labels: np.ndarray, splits: dict[str, np.ndarray]
) -> None:
    (folder / "tables").mkdir()
    parts = []
    for split, ids in splits.items():
        probabilities = net.predict_proba(images[ids])
        guess = probabilities.argmax(1)
        matrix = confusion_matrix(labels[ids], guess)
        columns = dict(zip(CLASSES, matrix.T.tolist(), strict=True))
        table = pd.DataFrame({"true": CLASSES, **columns})
        table.to_csv(folder / "tables" / f"{split}_confusion.csv", index=False)
        values = precision_recall_fscore_support(labels[ids], guess, zero_division=0)
        named = dict(zip(("precision", "recall", "f1", "support"), values, strict=True))
        per_class = pd.DataFrame({"class": CLASSES, **named})
        per_class.to_csv(folder / "tables" / f"{split}_classes.csv", index=False)
        parts.append(
            pd.DataFrame(
                {
                    "split": split,
                    "id": ids,
                    "label": labels[ids],
                    "prediction": guess,
                    "probabilities": probabilities.tolist(),
                }
            )
        )
    pd.concat(parts).to_parquet(folder / "predictions.parquet")
