"""A plain script: imports the libraries named, reads packed shards with pyarrow, builds a small conv net, takes a step.

python -m benchmarks.first_step_plain FOLDER PACKAGE...
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import nn

for _name in sys.argv[2:]:
    importlib.import_module(_name)


def main(folder: str) -> None:
    imported = time.time()
    torch.set_num_threads(1)
    with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
        manifest = json.load(file)
    columns = read(folder, manifest)
    model = net(manifest["shape"][2], len(manifest["classes"]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    rows = np.random.default_rng(0).permutation(len(columns["label"]))[:64]
    image = torch.from_numpy(columns["image"][rows]).permute(0, 3, 1, 2).float() / 255
    image = (image - torch.tensor(manifest["mean"])) / torch.tensor(manifest["std"])
    loss = F.cross_entropy(model(image), torch.from_numpy(columns["label"][rows]))
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    at = time.time()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"at": at, "imported_at": imported, "cpu": used.ru_utime + used.ru_stime}))
    sys.stdout.flush()
    os._exit(0)


def read(folder: str, manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    """The columns of the train split, from its Arrow shards."""
    tables = [
        pa.ipc.open_file(pa.memory_map(os.path.join(folder, shard["path"]))).read_all()
        for shard in manifest["splits"]["train"]["shards"]
    ]
    table = pa.concat_tables(tables).combine_chunks()
    pixels = table["image"].chunk(0).buffers()[1]
    image = np.frombuffer(pixels, np.uint8).reshape(len(table), *manifest["shape"])
    return {"image": image, "label": table["label"].to_numpy()}


def net(channels: int, num_classes: int) -> nn.Module:
    """small_cnn of width 32."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((channels, 16), (16, 32), (32, 64)):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
        if outputs == 32:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))


if __name__ == "__main__":
    main(sys.argv[1])
