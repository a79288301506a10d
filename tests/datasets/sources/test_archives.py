"""Archives that lie, leave themselves, or are cut: refused before a picture is read."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from datasets.formats import archives, files, tars
from datasets.refusal import Refusal
from datasets.source import Pictures

Archive, Picture = Callable[..., Path], Callable[..., bytes]


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as packed:
        for info, data in members:
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return path


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


@pytest.mark.parametrize("name", ["../a/1.jpg", "/a/1.jpg", "a/../../1.jpg", "a\\..\\1.jpg"])
@pytest.mark.parametrize("kind", ["x.zip", "x.tar", "x.tar.gz"])
def test_paths_that_leave_are_refused(
    kind: str, name: str, archive: Archive, picture: Picture
) -> None:
    packed = archive({"a/0.jpg": picture(0), name: picture(1)}, kind)
    with pytest.raises(Refusal, match="leaves the archive") as caught:
        files.open_tree(str(packed), "imagefolder")
    assert caught.value.path == str(packed) and caught.value.value == name


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../etc/passwd"),
        (tarfile.SYMTYPE, "../.."),
        (tarfile.LNKTYPE, "../secret"),
        (tarfile.LNKTYPE, "/etc/passwd"),
    ],
)
def test_links_that_leave_a_tar_are_refused(kind: bytes, link: str, tmp_path: Path) -> None:
    packed = tar_of(tmp_path / "x.tar", (info("a/1.jpg", kind, link), b""))
    with pytest.raises(Refusal, match="a link that leaves the archive"):
        files.open_tree(str(packed), "imagefolder")


def zip_with_link(path: Path, link: str, picture: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a/1.jpg", picture)
        entry = zipfile.ZipInfo("b/2.jpg")
        entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        packed.writestr(entry, link)
    return path


def test_links_that_leave_a_zip_are_refused(tmp_path: Path, picture: Picture) -> None:
    packed = zip_with_link(tmp_path / "x.zip", "../../etc/passwd", picture(1))
    with pytest.raises(Refusal, match="a link that leaves the archive"):
        files.open_tree(str(packed), "imagefolder")


def test_links_inside_are_what_they_lead_to(tmp_path: Path, picture: Picture) -> None:
    packed = tar_of(
        tmp_path / "x.tar",
        (info("a/1.jpg"), picture(1)),
        (info("b/2.jpg", tarfile.SYMTYPE, "../c/3.jpg"), b""),
        (info("c/3.jpg", tarfile.LNKTYPE, "a/1.jpg"), b""),
    )
    for path in (packed, zip_with_link(tmp_path / "x.zip", "../a/1.jpg", picture(1))):
        tree = files.open_tree(str(path), "imagefolder")
        assert tree.read("b/2.jpg") == picture(1)


@pytest.mark.parametrize("link", ["2.jpg", "nothing.jpg", "../b"])
def test_links_to_nothing_are_refused(link: str, tmp_path: Path, picture: Picture) -> None:
    packed = tar_of(tmp_path / "x.tar", (info("b/2.jpg", tarfile.SYMTYPE, link), b""))
    for path in (packed, zip_with_link(tmp_path / "x.zip", link, picture(1))):
        with pytest.raises(Refusal, match="which is no file of the archive"):
            files.open_tree(str(path), "imagefolder")


def test_devices_and_doubles_are_refused(tmp_path: Path, picture: Picture) -> None:
    device = tar_of(tmp_path / "device.tar", (info("a/1.jpg", tarfile.CHRTYPE), b""))
    with pytest.raises(Refusal, match="neither a file nor a folder"):
        files.open_tree(str(device), "imagefolder")
    twice = tar_of(tmp_path / "twice.tar", (info("a/1.jpg"), b"a"), (info("./a//1.jpg"), b"b"))
    with pytest.raises(Refusal, match="two members have this name"):
        files.open_tree(str(twice), "imagefolder")


def test_bombs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: Archive
) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 1000)
    for name in ("x.zip", "x.tar"):
        with pytest.raises(Refusal, match="has 1001 bytes"):
            files.open_tree(str(archive({"a/1.jpg": bytes(1001)}, name)), "imagefolder")


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tar.xz", "x.tar.bz2"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_archives_are_refused(
    name: str, share: float, archive: Archive, picture: Picture
) -> None:
    packed = archive({f"a/{number}.jpg": os.urandom(3000) for number in range(8)}, name)
    whole = packed.read_bytes()
    packed.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(Refusal, match="cut short or damaged|cannot be read") as caught:
        files.open_tree(str(packed), "imagefolder")
    assert caught.value.path == str(packed)


def test_a_tar_cut_between_members_is_refused(tmp_path: Path, archive: Archive) -> None:
    packed = archive({"a/1.jpg": bytes(512), "a/2.jpg": bytes(512)}, "x.tar")
    for kept in (1024, 1025, 1536, 2048):
        (tmp_path / "cut.tar").write_bytes(packed.read_bytes()[:kept])
        with pytest.raises(Refusal, match="cut short"):
            files.open_tree(str(tmp_path / "cut.tar"), "imagefolder")


def test_altered_bytes_in_a_zip_are_found_when_read(archive: Archive, picture: Picture) -> None:
    packed = archive({"a/1.jpg": os.urandom(4000)}, "x.zip")
    data = bytearray(packed.read_bytes())
    data[2000] ^= 1
    packed.write_bytes(data)
    tree = files.open_tree(str(packed), "imagefolder")
    with pytest.raises(Refusal, match="damaged"):
        tree.read("a/1.jpg")


def test_what_is_no_archive_is_refused(fill: Callable[..., Path]) -> None:
    folder = fill(
        {
            "x.zip": b"not a zip",
            "x.tar": b"not a tar",
            "x.tar.gz": b"\x1f\x8bnot gzip",
            "e.tar": b"",
        }
    )
    for name in ("x.zip", "x.tar", "x.tar.gz", "e.tar"):
        with pytest.raises(Refusal) as caught:
            files.open_tree(str(folder / name), "imagefolder")
        assert caught.value.path == str(folder / name)


def test_a_compressed_tar_is_decompressed_once(
    archive: Archive, picture: Picture, cache: Path
) -> None:
    packed = archive({"a/1.jpg": picture(1)}, "x.tar.gz")
    assert files.open_tree(str(packed), "x").read("a/1.jpg") == picture(1)
    (copy,) = (cache / "unpacked").iterdir()
    before = copy.stat().st_mtime_ns
    assert files.open_tree(str(packed), "x").read("a/1.jpg") == picture(1)
    assert [entry.stat().st_mtime_ns for entry in (cache / "unpacked").iterdir()] == [before]


def _read(pictures: Pictures, rows: list[int]) -> list[bytes]:
    return [pictures.read(row) for row in rows]


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_processes_do_not_share_a_place_in_the_file(name: str, archive: Archive) -> None:
    held = {f"{number:03}.jpg": os.urandom(5000) for number in range(60)}
    tree = files.open_tree(str(archive(held, name)), "x")
    pictures = tree.pictures(tree.names)
    expected = [held[path] for path in tree.names]
    assert _read(pictures, list(range(60))) == expected  # opens it here, before the fork
    with get_context("fork").Pool(2) as pool:
        found = pool.starmap(_read, [(pictures, list(range(60)))] * 4)
    assert found == [expected] * 4


def test_an_archive_pushed_out_of_the_cache_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may do so at any moment; a closed file's number soon belongs to another file."""
    (tmp_path / "one.tar").write_bytes(b"one" * 400)
    pread = os.pread

    def after_the_others(descriptor: int, size: int, offset: int) -> bytes:
        tars._local.cache_clear()
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", after_the_others)
    assert tars.read_range(str(tmp_path / "one.tar"), 300, 600) == b"one" * 200


def test_the_root_of_a_tar_is_no_folder(tmp_path: Path, picture: Picture) -> None:
    """As `tar -C folder .` writes it."""
    members = [(info("./", tarfile.DIRTYPE), b""), (info("./a", tarfile.DIRTYPE), b"")]
    packed = tar_of(tmp_path / "x.tar", *members, (info("./a/1.jpg"), picture(1)))
    tree = files.open_tree(str(packed), "imagefolder")
    assert tree.names == ("a/1.jpg",) and tree.empty == ()
