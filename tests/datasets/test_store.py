"""Bytes at local paths and on S3: the same functions, the same refusals."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from datasets import store
from datasets.refusal import Refusal

ROOT = Path(store.__file__).parent.parent


@pytest.fixture(params=["local", "file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return str(request.getfixturevalue("bucket")) + "/runs"
    return str(tmp_path / "runs") if request.param == "local" else f"file://{tmp_path}/runs"


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_write_read_list_remove(place: str) -> None:
    url = store.join(place, "a", "b.txt")
    assert store.names(place) == [] and not store.exists(url)
    store.write_bytes(url, b"one")
    store.write_bytes(url, b"two")
    store.write_bytes(store.join(place, "c.txt"), b"")
    assert store.read_bytes(url) == b"two"
    assert store.names(place) == ["a", "c.txt"]
    assert store.exists(store.join(place, "a"))
    assert store.modified_seconds(url) > 1.6e9
    store.remove(url)
    store.remove(url)
    assert not store.exists(url)
    store.remove(place)
    store.remove(place)
    assert store.names(place) == []


def test_trees_go_there_and_back(place: str, tmp_path: Path) -> None:
    here, back = tmp_path / "here", tmp_path / "back"
    (here / "deep" / "er").mkdir(parents=True)
    (here / "one").write_bytes(b"1")
    (here / "deep" / "er" / "two").write_bytes(b"2" * 5000)
    store.upload(here, place)
    (here / "one").write_bytes(b"changed")
    store.upload(here, place)
    store.download(place, back)
    assert tree(back) == tree(here)
    store.download(store.join(place, "one"), tmp_path / "single")
    assert (tmp_path / "single").read_bytes() == b"changed"


def test_rename_moves_a_tree_and_never_overwrites(place: str) -> None:
    old, new = store.join(place, "old"), store.join(place, "new")
    store.write_bytes(store.join(old, "x", "y"), b"z")
    store.rename(old, new)
    assert store.read_bytes(store.join(new, "x", "y")) == b"z"
    assert store.names(place) == ["new"]
    store.write_bytes(store.join(old, "x"), b"")
    with pytest.raises(Refusal, match="is there already"):
        store.rename(old, new)
    with pytest.raises(Refusal):
        store.rename(store.join(place, "none"), store.join(place, "other"))


def test_what_is_absent_is_refused(place: str, tmp_path: Path) -> None:
    absent = store.join(place, "none")
    for act in (store.read_bytes, store.modified_seconds):
        with pytest.raises(Refusal, match="there is nothing here"):
            act(absent)
    with pytest.raises(Refusal):
        store.download(absent, tmp_path / "x")


def test_listings_are_never_stale(bucket: str) -> None:
    import s3fs

    store.write_bytes(f"{bucket}/run/a", b"")
    assert store.names(f"{bucket}/run") == ["a"]
    other_host = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    other_host.pipe_file(f"{bucket}/run/b".removeprefix("s3://"), b"")
    assert store.names(f"{bucket}/run") == ["a", "b"]
    assert store.exists(f"{bucket}/run/b")


def test_names_of_neighbours_with_one_prefix(place: str) -> None:
    store.write_bytes(store.join(place, "step-1", "a"), b"")
    store.write_bytes(store.join(place, "step-10", "b"), b"")
    assert store.names(store.join(place, "step-1")) == ["a"]
    store.remove(store.join(place, "step-1"))
    assert store.names(place) == ["step-10"]


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    for name in ("kept", f"{store.TEMPORARY}1", f"deep/er/{store.TEMPORARY}2", "deep/er/kept"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    half = tmp_path / "deep" / f"{store.TEMPORARY}3"
    half.mkdir()
    (half / f"{store.TEMPORARY}4").write_bytes(b"")
    store.sweep(str(tmp_path))
    store.sweep(str(tmp_path / "absent"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "er", "kept", "kept"]


def test_probe_leaves_nothing(place: str, tmp_path: Path) -> None:
    store.probe(store.join(place, "deep", "er"))
    assert store.names(place) == []
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["..", "a/../b", "/etc", "a\\b", "", "a//b", "."])
def test_join_refuses_to_leave_the_folder(name: str) -> None:
    with pytest.raises(Refusal):
        store.join("s3://bucket/run", "ok", name)


def test_join_and_is_remote() -> None:
    assert store.join("s3://b/run/", "a/b", "c") == "s3://b/run/a/b/c"
    assert store.join("runs", "a") == "runs/a"
    assert store.is_remote("s3://b") and store.is_remote("memory://b")
    assert not store.is_remote("/a/b") and not store.is_remote("file:///a")


@pytest.mark.parametrize(
    "url", ["s3://key:sec/ret@bucket/x", "s3://key:secret@bucket", "https://key:secret@host/x"]
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(Refusal, match="must not carry credentials") as caught:
        store.read_bytes(url)
    assert "sec" not in str(caught.value) and "ret" not in str(caught.value.as_dict()["path"])


def test_unknown_scheme_is_refused() -> None:
    with pytest.raises(Refusal, match="'nowhere://' cannot be opened"):
        store.exists("nowhere://x")


def test_wrong_credentials_and_missing_buckets_are_refused(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refusal) as caught:
        store.write_bytes("s3://no-such-bucket/x", b"")
    assert caught.value.path == "s3://no-such-bucket/x"
    assert "no such bucket" in caught.value.error and "create" in caught.value.remedy
    with pytest.raises(Refusal, match="whole bucket"):
        store.remove(bucket)


def test_missing_credentials_name_the_environment(tmp_path: Path) -> None:
    """In a process of its own, since fsspec keeps file systems with the credentials they had."""
    code = "from datasets import store\nstore.read_bytes('s3://bucket/x')"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**clean, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, check=False
    )
    last = done.stderr.decode().strip().splitlines()[-1]
    assert "s3://bucket/x" in last and "AWS_PROFILE" in last


def test_a_local_path_imports_no_fsspec(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom datasets import store\n"
        f"store.write_bytes({str(tmp_path / 'x')!r}, b'1')\n"
        "sys.exit(any(name in sys.modules for name in ('fsspec', 's3fs', 'torch', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Refusal) as caught:
        store.write_bytes(str(tmp_path / "file" / "x"), b"")
    assert str(tmp_path / "file" / "x") in str(caught.value) and caught.value.remedy


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "no"), "may not be written.*owner and mode"),
        (OSError(28, "full"), "No space left.*free some space"),
        (OSError(30, "ro"), "Read-only file system.*choose another folder"),
    ],
)
def test_a_disk_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(Refusal, match=words) as caught:
        store.write_bytes(str(tmp_path / "x"), b"1")
    assert caught.value.path == str(tmp_path / "x")
    assert os.listdir(tmp_path) == []  # nothing half-written


def test_a_failed_write_keeps_the_old_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_bytes(str(tmp_path / "x"), b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(Refusal):
        store.write_bytes(str(tmp_path / "x"), b"new")
    assert tree(tmp_path) == {"x": b"old"}


def test_mirror_copies_what_changed(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    with store.Mirror(folder, place, seconds=3600) as mirror:
        mirror.flush()
        store.write_bytes(store.join(place, "a"), b"untouched")
        (folder / "b").write_bytes(b"2")
        mirror.flush()
        # `a` did not change here, so it was not copied again.
        assert store.read_bytes(store.join(place, "a")) == b"untouched"
        (folder / "a").write_bytes(b"longer")
    assert store.read_bytes(store.join(place, "a")) == b"longer"
    assert store.names(place) == ["a", "b"]


def test_mirror_works_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = threading.Event()
    real = store.upload
    monkeypatch.setattr(store, "upload", lambda *args: (real(*args), copied.set()))
    (tmp_path / "from").mkdir()
    mirror = store.Mirror(tmp_path / "from", str(tmp_path / "to"), seconds=0.001)
    (tmp_path / "from" / "x").write_bytes(b"1")
    assert copied.wait(10)
    mirror.close()
    assert tree(tmp_path / "to") == {"x": b"1"}


def test_mirror_remembers_its_error_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "x").write_bytes(b"1")
    (tmp_path / "to").write_bytes(b"a file in the way")
    warned = threading.Event()
    monkeypatch.setattr(store.logger, "warning", lambda *_: warned.set())
    mirror = store.Mirror(tmp_path / "from", str(tmp_path / "to"), seconds=0.001)
    assert warned.wait(10)
    with pytest.raises(Refusal) as caught:
        mirror.flush()
    assert str(tmp_path / "to") in caught.value.path
    assert mirror._thread.is_alive()
    (tmp_path / "to").unlink()
    mirror.close()
    assert mirror.error is None and tree(tmp_path / "to") == {"x": b"1"}
