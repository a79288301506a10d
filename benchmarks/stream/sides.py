"""Who is measured: ours, the raw limit, and the peers with what ours is to be against each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Side:
    """One line of the table. `peer` names its environment in peers.txt; "" runs in Manta's."""

    title: str
    file: str
    variant: str = ""
    peer: str = ""
    stored: str = ""  # the name of what it reads; its own format, if it has one
    target: tuple[float, float | None] | None = None  # ours / it: median, and in the worst round
    server: str = ""  # the local S3 server that it reads from
    epochs: int = 1
    epoch: bool = False  # measured over a whole epoch, from the first call on

    @property
    def key(self) -> str:
        parts = [self.file, *filter(None, (self.variant, self.server))]
        return "-".join(parts)


OURS = Side("**Manta, tiled shards**", "manta", "tiled", stored="manta-tiled")
RAW = Side("full decode only (simplejpeg, reused buffer)", "raw", target=(1.05, None))
UNTOUCHED = Side("Manta, untouched JPEGs", "manta", "plain", stored="manta-plain")

COMMON, INDEXED = (2.2, 1.9), (1.8, 1.7)

PHOTOGRAPHS = (
    RAW,
    OURS,
    UNTOUCHED,
    Side("torchvision ImageFolder, its decoder", "imagefolder", "torchvision", target=COMMON),
    Side("torchvision ImageFolder, PIL and float32", "imagefolder", "pil", target=(4.0, None)),
    Side("WebDataset", "webdataset", peer="webdataset", stored="webdataset", target=COMMON),
    Side("MosaicML Streaming", "streaming", peer="streaming", stored="streaming", target=COMMON),
    Side("LitData", "litdata", peer="litdata", stored="litdata", target=COMMON),
    Side("Grain, mapped Arrow", "grain", peer="grain", stored="grain", target=INDEXED),
    Side(
        "Hugging Face datasets, Arrow",
        "huggingface",
        peer="huggingface",
        stored="huggingface",
        target=INDEXED,
    ),
    Side("LanceDB", "lance", "lancedb", peer="lance", stored="lance", target=INDEXED),
    Side(
        "Lance SafeLanceDataset", "lance", "pylance", peer="lance", stored="lance", target=INDEXED
    ),
    Side("SPDL, torchvision's decoder", "spdl", "torchvision", peer="spdl", target=INDEXED),
    Side("SPDL, its own decoder", "spdl", "own", peer="spdl", target=INDEXED),
    Side("DALI on the CPU", "dali", peer="dali", target=INDEXED),
    Side("Ray Data", "ray_data", target=(6.0, None), epoch=True),
)
SMALL = (
    Side("**Manta, raw 32 x 32 shards**", "manta", "small", stored="manta-small", epochs=20),
    Side("torchvision ImageFolder, 32 x 32 PNG", "imagefolder", "small", target=(9.0, None)),
)


def _remote(
    title: str, file: str, variant: str = "", peer: str = "", stored: str = ""
) -> tuple[Side, ...]:
    """The same set from the disk, and from the two servers into an empty cache."""
    places = (("local", ""), ("S3", "s3"), ("S3, 20 ms a request", "s3slow"))
    return tuple(
        Side(f"{title}, {place}", file, variant, peer, stored, server=server, epoch=True)
        for place, server in places
    )


REMOTE = (
    *_remote("Manta, tiled", "manta", "tiled", stored="manta-tiled"),
    *_remote("MosaicML Streaming", "streaming", peer="streaming", stored="streaming"),
    *_remote("LitData", "litdata", peer="litdata", stored="litdata"),
)
OVERHEAD = (
    Side("Manta, nothing decoded", "manta", "undecoded", stored="manta-tiled", epochs=10),
    Side("Manta, from the middle of an epoch", "manta", "resumed", stored="manta-tiled"),
)
GROUPS = {"photographs": PHOTOGRAPHS, "small": SMALL, "remote": REMOTE, "overhead": OVERHEAD}
