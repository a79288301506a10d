"""Pictures with a caption each, in a text file beside them or in a list; no labels."""

from __future__ import annotations

import numpy as np

from datasets.formats import files, lists, rows, trees
from datasets.formats.rows import SPLITS
from datasets.formats.tokens import table
from datasets.formats.trees import Tree
from datasets.packed.columns import Array
from datasets.refusal import Refusal
from datasets.source import Source


def build(
    *,
    path: str = "",
    root: str = "",
    image: str = "image",
    caption: str = "caption",
    tokens: int = 0,
) -> Source:
    """`path` is a folder or archive of x.jpg beside x.txt, or a .csv, .tsv or .jsonl list with these two columns.

    Paths of a list are relative to `root`, a folder or archive, or else to the folder of the list. Folders called train
    and val or test at the top of a folder are official splits. The captions are the text column `caption`; with `tokens`, a
    model's context length such as 77, also the column `tokens` int64 (N, tokens), as task `clip` reads them.

    Raises Refusal where a picture has no caption, or one that is longer.
    """
    url = files.place(path, "captions")
    splits = None
    if lists.is_list(url):
        found = lists.read(url, {"image": image, "caption": caption})
        tree, paths = lists.pictures(url, root, found)
        captions = [row.values[1] for row in found]
    else:
        tree = files.open_tree(path, "captions")
        paths = files.pictures_of(tree)
        captions = [_beside(tree, picture) for picture in paths]
        tops = [picture.partition("/")[0] for picture in paths]
        if "train" in tops and set(tops) <= set(SPLITS):
            splits = [SPLITS[top] for top in tops]
    more: dict[str, Array] = {"caption": np.array(captions, dtype=object)}
    if tokens:
        more["tokens"] = table(captions, tokens, remedy="shorten it, or raise `tokens`")
    return rows.picture_source("captions", tree.pictures(paths), paths, splits=splits, more=more)


def _beside(tree: Tree, picture: str) -> str:
    file = f"{picture.rpartition('.')[0]}.txt"
    caption = " ".join(trees.text(tree.read(file), tree.path(file)).split()) if file in tree else ""
    if not caption:
        raise Refusal(
            "the picture has no caption",
            path=tree.path(picture),
            value=file,
            remedy=f"write it to {file.rpartition('/')[2]} beside it",
        )
    return caption
