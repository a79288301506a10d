"""Tiny ImageNet: 200 classes of ImageNet at 64 x 64 pixels, 500 to train and 50 to validate of each (CS231n)."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from datasets.formats import downloads, files, rows, trees
from datasets.formats.downloads import Published
from datasets.formats.trees import Tree
from datasets.refusal import Refusal
from datasets.source import Source

ARCHIVE = Published(
    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    checksum="md5:90528d7ca1a48142e341f4ef8d21d0de",
    name="tiny-imagenet-200.zip",
)


def build(*, path: str = "", val_as: Literal["test", "val"] = "test") -> Source:
    """`path` is the folder tiny-imagenet-200 or its zip; without one, it is downloaded (248 MB).

    The published test pictures have no labels and are left out; its validation pictures are what papers test on, so
    they are the split `val_as`. Classes are in the order of their WordNet ids, called by their first word.

    Raises Refusal where pictures, labels or names do not fit each other.
    """
    if val_as not in ("test", "val"):
        raise Refusal(
            f"tiny_imagenet has no val_as={val_as}",
            path="data.source.val_as",
            value=val_as,
            remedy="use test or val",
        )
    tree = files.open_tree(path or downloads.fetch(ARCHIVE), "tiny_imagenet").rooted("wnids.txt")
    wnids = sorted(line.strip() for line in tree.lines("wnids.txt"))
    train = _train(tree, set(wnids))
    val = _val(tree, set(wnids))
    number = {wnid: label for label, wnid in enumerate(wnids)}
    paths = [*train, *val]
    return rows.picture_source(
        "tiny_imagenet",
        tree.pictures(paths),
        paths,
        labels=[number[wnid] for wnid in (*train.values(), *val.values())],
        classes=_readable(tree, wnids),
        splits=["train"] * len(train) + [val_as] * len(val),
    )


def _train(tree: Tree, wnids: set[str]) -> dict[str, str]:
    """The WordNet id of each training picture: train/<wnid>/images/x.JPEG."""
    found = {
        path: path.split("/")[1]
        for path in tree.names
        if path.startswith("train/") and path.count("/") >= 2 and trees.is_picture(path)
    }
    for wnid in sorted(wnids - set(found.values())):
        raise _refusal(tree, f"train/{wnid}", "there are no pictures of this class", wnid)
    for path, wnid in found.items():
        if wnid not in wnids:
            raise _refusal(tree, path, f"'{wnid}' is not in wnids.txt", wnid)
    return found


def _val(tree: Tree, wnids: set[str]) -> dict[str, str]:
    """The WordNet id of each validation picture, from val/val_annotations.txt."""
    file, found = "val/val_annotations.txt", {}
    for number, line in enumerate(tree.lines(file), start=1):
        name, _, rest = line.partition("\t")
        path, wnid = f"val/images/{name}", rest.partition("\t")[0]
        if wnid not in wnids:
            raise _refusal(
                tree, file, f"line {number} has '{wnid}', which is not in wnids.txt", line
            )
        if path not in tree:
            raise _refusal(tree, file, f"line {number} names '{path}', which is not there", line)
        if path in found:
            raise _refusal(tree, file, f"line {number} names '{path}' a second time", line)
        found[path] = wnid
    return found


def _readable(tree: Tree, wnids: list[str]) -> list[str]:
    """The first word for each class; all its words, then its WordNet id, where that is another's too."""
    pairs = (line.partition("\t") for line in tree.lines("words.txt"))
    words = {wnid.strip(): said.strip() for wnid, _, said in pairs}
    for wnid in wnids:
        if not words.get(wnid):
            raise _refusal(tree, "words.txt", f"has no words for '{wnid}'", wnid)
    names = [words[wnid].partition(",")[0] for wnid in wnids]
    names = _unless_shared(names, [words[wnid] for wnid in wnids])
    return _unless_shared(names, [f"{words[wnid]} ({wnid})" for wnid in wnids])


def _unless_shared(names: list[str], longer: list[str]) -> list[str]:
    counts = Counter(names)
    return [long if counts[name] > 1 else name for name, long in zip(names, longer, strict=True)]


def _refusal(tree: Tree, file: str, error: str, value: object) -> Refusal:
    return Refusal(
        error, path=tree.path(file), value=value, remedy=f"get it again from {ARCHIVE.url}"
    )
