"""What a fork server has done before the first fork, so that a launch costs a fraction of a second: imports, and reading the rooms."""

from __future__ import annotations

from pathlib import Path

import aiobotocore.session
import pandas
import pyarrow.parquet
import s3fs
import torch

import launch
from cluster import describe, saved, train, workers
from tests.commands import cli
from trainers import engine
from trainers.recipe import Recipe

__all__ = [
    "aiobotocore",
    "cli",
    "describe",
    "engine",
    "launch",
    "pandas",
    "pyarrow",
    "s3fs",
    "saved",
    "train",
    "workers",
]

RECIPES = Path(__file__).resolve().parent.parent.parent / "recipes"
torch.set_num_threads(1)
Recipe.load(str(RECIPES / "digits.yaml"))
