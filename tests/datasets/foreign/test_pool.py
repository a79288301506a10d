"""Foreign transforms in their processes: the same as by hand, whoever applies them; what dies is replaced, nothing stays."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import psutil
import pytest
import torch
from torchvision.transforms import AutoAugmentPolicy, v2

from datasets import order
from datasets.foreign import load, pool
from datasets.foreign.pool import Foreign, Workers, pools
from datasets.foreign.spec import Spec
from datasets.order import Plan
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.stream import TrainStream, View
from datasets.transforms import Images, flip
from tests.datasets.foreign import augment
from tests.datasets.streaming import shuffled

OWN = "python:tests.datasets.foreign.augment:"
Running: TypeAlias = Callable[[], list[int]]
IDS = np.arange(100, 112, dtype=np.int64)
KEY = 5


@pytest.fixture(scope="module")
def workers() -> Workers:
    return Workers()


@pytest.fixture
def images() -> Images:
    return np.random.default_rng(0).integers(0, 256, (12, 16, 20, 3), dtype=np.uint8)


def own(name: str, workers: Workers, **arguments: Any) -> Foreign:
    return Foreign(Spec(OWN + name, arguments, "data.train.transforms.0"), workers)


def transforming() -> set[int]:
    children = psutil.Process().children()
    return {c.pid for c in children if "datasets.foreign.worker" in c.cmdline()}


@pytest.fixture
def running() -> Running:
    """The processes that transform for this test."""
    before = transforming()
    return lambda: sorted(transforming() - before)


# --- the same pixels


def test_a_function_is_called_as_by_hand(workers: Workers, images: Images) -> None:
    before = images.copy()
    done = own("noisy", workers, strength=5)(images, IDS, KEY)
    assert np.array_equal(images, before)
    for image, sample, after in zip(images, IDS, done, strict=True):
        state = random.getstate(), np.random.get_state()
        load.seed(int(order.hashes(KEY, sample, 0)[0]))
        expected = augment.noisy(image.copy(), strength=5)
        random.setstate(state[0])
        np.random.set_state(state[1])
        assert np.array_equal(after, expected)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(
    ("spec", "by_hand"),
    [
        (
            {"name": "v2:ColorJitter", "arguments": {"brightness": 0.4, "hue": 0.1}},
            v2.ColorJitter(brightness=0.4, hue=0.1),
        ),
        ({"name": "v2:RandAugment", "arguments": {"num_ops": 2}}, v2.RandAugment(num_ops=2)),
        (
            {"name": "v2:AutoAugment", "arguments": {"policy": "cifar10"}},
            v2.AutoAugment(AutoAugmentPolicy.CIFAR10),
        ),
        (
            {
                "name": "v2:RandomApply",
                "arguments": {
                    "p": 0.5,
                    "transforms": [{"name": "v2:GaussianBlur", "kernel_size": 3}],
                },
            },
            v2.RandomApply([v2.GaussianBlur(3)], p=0.5),
        ),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_torchvision_does_what_it_does_by_hand(
    spec: dict[str, Any], by_hand: v2.Transform, channels: int, workers: Workers, images: Images
) -> None:
    images = images[..., :channels]
    done = Foreign(Spec(**spec), workers)(images, IDS, KEY)
    with torch.random.fork_rng(devices=[]):
        for image, sample, after in zip(images, IDS, done, strict=True):
            torch.manual_seed(int(order.hashes(KEY, sample, 0)[0]))
            expected = by_hand(torch.from_numpy(image).permute(2, 0, 1).contiguous())
            assert np.array_equal(after, expected.permute(1, 2, 0).numpy())
    assert not np.array_equal(done, images)


def test_neither_process_nor_order_matters(workers: Workers, images: Images) -> None:
    whole = own("noisy", workers)(images, IDS, KEY)
    shuffled = np.random.default_rng(1).permutation(12)
    other = Workers()
    found = own("noisy", other)(images[shuffled], IDS[shuffled], KEY)
    assert np.array_equal(found, whole[shuffled])
    assert np.array_equal(own("noisy", other)(images[3:4], IDS[3:4], KEY), whole[3:4])
    assert not np.array_equal(own("noisy", other)(images, IDS, KEY + 1), whole)
    assert own("noisy", other)(images[:0], IDS[:0], KEY).shape == images[:0].shape


def test_torch_imported_on_the_way_is_seeded_too(images: Images) -> None:
    """The first picture of a process is not another one than its second."""
    late = own("late", Workers())
    assert np.array_equal(late(images, IDS, KEY), late(images, IDS, KEY))


def test_what_it_prints_or_reads_is_not_the_pipes(workers: Workers, images: Images) -> None:
    assert np.array_equal(own("printing", workers)(images, IDS, KEY), images)


# --- refusals


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        (OWN + "narrow", {}, "makes uint8 (16, 19, 3) of uint8 (16, 20, 3)"),
        (OWN + "floating", {}, "makes float64 (16, 20, 3)"),
        (OWN + "nothing", {}, "makes a NoneType"),
        (OWN + "failing", {}, "sample with id 100: KeyError: 'no such colour'"),
        (OWN + "nois", {}, "did you mean 'noisy'?"),
        (OWN + "noisy", {"strenght": 3}, "its signature is noisy(image"),
        ("python:no_such_module:f", {}, "'no_such_module' cannot be imported"),
        ("v2:CenterCrop", {"size": 8}, "makes uint8 (8, 8, 3) of uint8 (16, 20, 3)"),
        ("v2:ColorJitter", {"brightness": -1}, "does not build with brightness=-1"),
        ("v2:AutoAugment", {"policy": "mnist"}, "'mnist' is not a valid AutoAugmentPolicy"),
    ],
)
def test_a_mistake_is_one_line(
    name: str, arguments: dict[str, Any], said: str, workers: Workers
) -> None:
    images = np.full((12, 16, 20, 3), 7, np.uint8)
    with pytest.raises(Refusal) as caught:
        Foreign(Spec(name, arguments, "data.train.transforms.2"), workers)(images, IDS, KEY)
    assert said in str(caught.value) and name.split(":")[1] in str(caught.value)
    assert caught.value.path == "data.train.transforms.2" and "\n" not in str(caught.value)


def test_an_error_names_the_line(workers: Workers, images: Images) -> None:
    with pytest.raises(Refusal, match=r"augment\.py, line \d+"):
        own("failing", workers)(images, IDS, KEY)


# --- processes


def test_a_killed_process_is_replaced(images: Images, running: Running) -> None:
    noisy = own("noisy", Workers())
    done = noisy(images, IDS, KEY)
    (pid,) = running()
    os.kill(pid, signal.SIGKILL)
    assert np.array_equal(noisy(images, IDS, KEY), done)
    (other,) = running()
    assert other != pid


def test_dying_at_a_picture_is_tried_once_more(images: Images, tmp_path: Path) -> None:
    once = own("dying_once", Workers(), marker=str(tmp_path / "died"))
    assert np.array_equal(once(images, IDS, KEY), images)
    assert (tmp_path / "died").exists()


def test_dying_twice_is_a_refusal(images: Images, running: Running) -> None:
    with pytest.raises(Refusal, match=r"ended by SIGKILL, twice, on samples with ids 100 \.\. 111"):
        own("dying", Workers())(images, IDS, KEY)
    assert not running()


def test_what_lies_in_the_working_directory_is_found(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inverting.py").write_text("def invert(image):\n    return 255 - image\n")
    (tmp_path / "datasets").mkdir()  # does not hide ours
    (tmp_path / "datasets" / "__init__.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    invert = Foreign(Spec("python:inverting:invert", {}), Workers())
    assert np.array_equal(invert(images, IDS, KEY), 255 - images)


def test_they_end_with_the_pipeline(images: Images, running: Running) -> None:
    noisy = own("noisy", Workers())
    noisy(images, IDS, KEY)
    assert len(running()) == 1
    del noisy
    assert not running()


SERVED = """
import sys, threading
import numpy as np
from datasets.foreign.pool import Foreign, Workers
from datasets.foreign.spec import Spec

image, ids = np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, np.int64)
workers = Workers()
answering = Foreign(Spec("{own}waiting", dict(after=1)), workers)
answering(image, ids, 0)
(process,) = workers._all
print(process.pid, flush=True)
answering(image, ids, 0)  # never returns, and neither did a script without a guard begin anew
"""


def test_they_end_when_the_parent_is_killed() -> None:
    """In the midst of a transform that never ends."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVED.format(own=OWN)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        ended = select.poll()
        ended.register(os.pidfd_open(pid), select.POLLIN)
        parent.kill()
    assert ended.poll(30_000), "the worker outlived its parent"


def test_one_that_does_not_come_back_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "SECONDS", 0.5)
    workers = Workers()
    stuck = Foreign(Spec(f"{OWN}waiting", {"after": 0}), workers)
    with pytest.raises(Refusal, match="has not come back after 0.5 s, on samples with ids 0"):
        stuck(np.zeros((1, 4, 4, 3), np.uint8), np.zeros(1, np.int64), 0)
    assert not workers._all, "its process has ended"


# --- in the stream


def stream(packed: Dataset, view: View, *, rank: int = 0, world: int = 1) -> TrainStream:
    plan = Plan(100, 40, 8, "keep")
    return shuffled(packed, plan, split="test", seed=3, rank=rank, world=world, view=view)


def test_batches_are_the_same_for_any_world_threads_and_step(packed: Dataset) -> None:
    """Ours and foreign ones in turn, on raw pictures, which are then made by threads."""
    pipeline = [flip(), own("noisy", Workers()), flip(), own("noisy", Workers(), strength=9)]
    assert len(pools(pipeline)) == 2
    whole = list(stream(packed, View(transforms=pipeline, threads=1, views=2)).epoch(0, 1))
    for threads, world in [(3, 1), (1, 2), (2, 3)]:
        view = View(transforms=pipeline, threads=threads, views=2)
        ranks = [stream(packed, view, rank=r, world=world).epoch(0, 1) for r in range(world)]
        for batch, parts in zip(whole, zip(*ranks, strict=True), strict=True):
            for name, column in batch.columns.items():
                assert torch.equal(torch.cat([part[name] for part in parts]), column), name
    rest = list(stream(packed, View(transforms=pipeline, threads=2, views=2)).epoch(0, 1, start=1))
    for one, two in zip(whole[1:], rest, strict=True):
        assert torch.equal(one["image_2"], two["image_2"]) and torch.equal(one["id"], two["id"])


def test_processes_stay_for_the_next_epoch(packed: Dataset, running: Running) -> None:
    own_stream = stream(packed, View(transforms=[own("noisy", Workers())], threads=1))
    list(own_stream.epoch(0, 0))
    before = running()
    assert len(before) == 1
    batches = own_stream.epoch(0, 1)
    for _ in range(len(own_stream)):  # as the engine does: never asked for one too many
        next(batches)
    del batches
    assert running() == before
    del own_stream
    assert not running()


def test_leaving_an_epoch_does_not_wait_for_a_transform(packed: Dataset, running: Running) -> None:
    transform = own("waiting", Workers(), after=40)
    batches = shuffled(
        packed, Plan(1797, 32, 8), seed=0, view=View(transforms=[transform], threads=1)
    ).epoch(0, 0)
    next(batches)
    assert len(running()) == 1
    batches.close()  # type: ignore[attr-defined]
    assert not running()
