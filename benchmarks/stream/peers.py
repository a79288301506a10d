"""The peers' environments: `python -m benchmarks.stream.peers` makes .venv-peers/NAME for each line of peers.txt.

An environment sees this one's packages too, so that torch is not installed nine times over; what a peer pins comes first.
One that cannot be installed leaves its reason in .venv-peers/NAME.failed, and the benchmark names it.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-peers"
SHARED = ("torch", "torchvision", "ray")


def wanted() -> dict[str, list[str]]:
    """Requirements of each peer."""
    lines = Path(__file__).with_name("peers.txt").read_text(encoding="utf-8").splitlines()
    named = [line.partition(":") for line in lines if line and not line.startswith("#")]
    return {name: requirements.split() for name, _, requirements in named}


def python(peer: str) -> Path:
    """Its interpreter, there once it is installed."""
    return FOLDER / peer / "bin" / "python"


def missing(peer: str) -> str | None:
    """Why a peer cannot be run, or None."""
    failed = FOLDER / f"{peer}.failed"
    if failed.exists():
        return f"cannot be installed: {failed.read_text(encoding='utf-8').strip()}"
    return None if (FOLDER / peer / "installed").exists() else "not installed: `make bench-peers`"


def install(peer: str, requirements: list[str]) -> None:
    """Its environment, anew where its requirements changed."""
    stamp, failed = FOLDER / peer / "installed", FOLDER / f"{peer}.failed"
    if stamp.exists() and stamp.read_text(encoding="utf-8").split() == requirements:
        return
    sys.stderr.write(f"installing {' '.join(requirements)} ...\n")
    failed.unlink(missing_ok=True)
    venv.create(FOLDER / peer, clear=True, with_pip=True, symlinks=True)
    packages = next((FOLDER / peer / "lib").glob("python*")) / "site-packages"
    packages.joinpath("shared.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    constraints = FOLDER / "constraints.txt"
    held = [f"{name}=={version(name).partition('+')[0]}" for name in SHARED]
    constraints.write_text("\n".join(held), encoding="utf-8")
    log = FOLDER / f"{peer}.log"
    command = [str(python(peer)), "-m", "pip", "install", "--quiet", "-c", str(constraints)]
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [*command, *requirements], stdout=file, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        text = log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in text if line.startswith("ERROR")]
        failed.write_text(errors[0] if errors else f"pip ended with {done.returncode}", "utf-8")
    else:
        stamp.write_text(" ".join(requirements), encoding="utf-8")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for peer, requirements in wanted().items():
        install(peer, requirements)


if __name__ == "__main__":
    main()
