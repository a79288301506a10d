"""Pictures in folders named after their classes, with or without folders for splits above them."""

from __future__ import annotations

from datasets.formats import files, folders
from datasets.source import Source


def build(*, path: str = "") -> Source:
    """`path` is a folder or a .zip or .tar archive, local or at a URL: class/x.jpg or {train,val,test}/class/x.jpg.

    One folder around all of that, as archives have it, is looked into.

    Raises Refusal where pictures have no class, or classes no pictures.
    """
    tree = files.open_tree(path, "imagefolder")
    return folders.labelled("imagefolder", folders.without_wrapper(tree))
