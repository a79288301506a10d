"""Animal Faces HQ: cats, dogs and wild animals of 512 x 512 pixels (StarGAN v2, arXiv 1912.01865; CC BY-NC 4.0)."""

from __future__ import annotations

from datasets.formats import downloads, files, folders
from datasets.formats.downloads import Published
from datasets.refusal import Refusal
from datasets.source import Source

CLASSES = ("cat", "dog", "wild")
# The publisher prints no checksum: this one is recorded in UVCGAN2's download script.
ARCHIVE = Published(
    url="https://www.dropbox.com/s/t9l9o3vsx2jai3z/afhq.zip?dl=1",
    checksum="sha256:7f63dcc14ef58c0e849b59091287e1844da97016073aac20403ae6c6132b950f",
    name="afhq.zip",
)


def build(*, path: str = "") -> Source:
    """`path` is the published folder or zip; without one, the first version is downloaded.

    Its official splits are train and val; the second version has test instead.
    Raises Refusal where the folders are not the published ones.
    """
    tree = files.open_tree(path or downloads.fetch(ARCHIVE), "afhq").rooted("train/cat/")
    source = folders.labelled("afhq", tree)
    if source.classes != CLASSES:
        raise Refusal(
            f"the classes are {', '.join(source.classes)}, not {', '.join(CLASSES)}",
            path=tree.path(),
            value=list(source.classes),
            remedy="name the published folder, or use the source 'imagefolder'",
        )
    return source
