"""Folders named after classes: `root/class/...`, or `root/train/class/...` beside other splits."""

from __future__ import annotations

import logging

from datasets.formats import files, rows
from datasets.formats.rows import SPLITS
from datasets.formats.trees import Tree, is_picture
from datasets.refusal import Refusal
from datasets.source import Source

logger = logging.getLogger(__name__)


def labelled(name: str, tree: Tree) -> Source:
    """Pictures labelled by the folder they are in, at any depth below it; classes are sorted.

    With a folder `train` beside `val`, `valid`, `validation` or `test`, or alone, the topmost folders are official
    splits (others, such as `extra`, under their own name) and the classes are below them.

    Raises Refusal for pictures outside class folders, class folders without pictures and classes missing in `train`.
    """
    pictures = files.pictures_of(tree)
    depth = 1 if _has_splits(tree, pictures) else 0
    shallow = [path for path in pictures if path.count("/") <= depth]
    if shallow:
        raise Refusal(
            f"{len(shallow)} pictures are in no class folder, '{shallow[0]}' among them",
            path=tree.path(),
            value=shallow[0],
            remedy=f"put each into {'split/' * depth}class/, or use the source 'listed' or 'captions'",
        )
    keys = [tuple(path.split("/")[: depth + 1]) for path in pictures]
    _refuse_empty(tree, depth, set(keys))
    splits = [_split_name(key[0]) for key in keys] if depth else None
    classes = sorted({key[-1] for key in keys})
    if splits:
        _refuse_unknown(tree, [(split, key[-1]) for split, key in zip(splits, keys, strict=True)])
    number = {class_name: label for label, class_name in enumerate(classes)}
    return rows.picture_source(
        name,
        tree.pictures(pictures),
        pictures,
        labels=[number[key[-1]] for key in keys],
        classes=classes,
        splits=splits,
    )


def without_wrapper(tree: Tree) -> Tree:
    """What is below the one folder that all pictures are in, at least two levels deep; whatever else lies beside or in it."""
    while True:
        pictures = [name for name in tree.names if is_picture(name)]
        tops = {name.partition("/")[0] for name in pictures}
        deep = all(name.count("/") >= 2 for name in pictures)
        if len(tops) != 1 or not deep or min(tops).lower() in SPLITS:
            return tree
        logger.info(
            "%s: all pictures are below '%s', where classes are looked for", tree.path(), min(tops)
        )
        tree = tree.below(f"{min(tops)}/")


def _split_name(folder: str) -> str:
    return SPLITS.get(folder.lower(), folder)


def _has_splits(tree: Tree, pictures: list[str]) -> bool:
    """Whether the topmost folders are splits. Raises Refusal where they are, but cannot be used as such."""
    tops = sorted({path.partition("/")[0] for path in (*pictures, *tree.empty) if "/" in path})
    named = [_split_name(top) for top in tops]
    known = [split for split in named if split in SPLITS]
    bare = any(
        path.count("/") == 1 and _split_name(path.partition("/")[0]) == "train" for path in pictures
    )
    if not known or (len(known) < len(tops) and ("train" not in known or len(known) == 1 or bare)):
        _refuse_nested(tree, pictures, known)
        return False  # a class may be called "train", or "test"
    if "train" not in known:
        raise Refusal(
            f"there are the splits {', '.join(tops)} but no 'train'",
            path=tree.path(),
            value=tops,
            remedy="add a folder 'train', or name the folder of classes itself",
        )
    if len(set(named)) < len(named):
        raise Refusal(
            f"two of the folders {', '.join(tops)} are the same split",
            path=tree.path(),
            value=tops,
            remedy="keep one of val, valid and validation",
        )
    return True


def _refuse_nested(tree: Tree, pictures: list[str], known: list[str]) -> None:
    """Folders that are called like splits and hold folders themselves are hardly classes."""
    tops = {path.partition("/")[0] for path in pictures if path.count("/") > 1}
    likely = sorted(top for top in tops if _split_name(top) in known)
    if likely:
        raise Refusal(
            f"'{likely[0]}' is called like a split and holds folders, others beside it are no splits",
            path=tree.path(),
            value=likely,
            remedy="keep only train, val and test there, or name the folder of classes itself",
        )


def _refuse_empty(tree: Tree, depth: int, filled: set[tuple[str, ...]]) -> None:
    found = {tuple(path.split("/")[: depth + 1]) for path in tree.names if path.count("/") > depth}
    found |= {tuple(path.split("/")[: depth + 1]) for path in tree.empty if path.count("/") > depth}
    bare = sorted(found - filled)
    if bare:
        raise Refusal(
            f"class folder '{bare[0][-1]}' holds no picture",
            path=tree.path("/".join(bare[0])),
            value=len(bare),
            remedy="remove it, or put pictures into it",
        )


def _refuse_unknown(tree: Tree, pairs: list[tuple[str, str]]) -> None:
    learnt = {class_name for split, class_name in pairs if split == "train"}
    for split, class_name in sorted(set(pairs)):
        if class_name not in learnt:
            raise Refusal(
                f"class '{class_name}' of split '{split}' is not in 'train'",
                path=tree.path(),
                value=class_name,
                remedy="name its folder as in 'train', or remove it",
            )
