"""Pictures in folders named after their classes, with or without folders for splits above them."""

from __future__ import annotations

from datasets.formats import files, folders
from datasets.source import Source


def build(*, path: str = "") -> Source:
    """`path` is a folder or a .zip or .tar archive, local or at a URL: class/x.jpg or {train,val,test}/class/x.jpg.

    Raises Refusal where pictures have no class, or classes no pictures.
    """
    tree = files.open_tree(path, "imagefolder")
    if path.lower().endswith(files.ARCHIVES):
        tree = folders.without_wrapper(tree)
    return folders.labelled("imagefolder", tree)
