"""What a job takes along: the checkout as git sees it, as one archive whose bytes depend on its files alone."""

from __future__ import annotations

import fnmatch
import os
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.refusal import Refusal

MOST_BYTES = 512 * 2**20  # of the archive: what Ray's head takes
SHOWN = 5  # of the largest files
NEEDED = ("launch.py", "pyproject.toml")
# Without git: what no job needs. With it, .gitignore says so.
_NEVER = (".git", ".venv*", "__pycache__", "runs", ".*_cache", "*.egg-info")
_SECRETS = (".env", ".env.*", "*.pem", "id_rsa*", "id_ed25519*", "credentials", "credentials.*")
_SUFFIXES = (".key", ".p12", ".pfx")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # or an unchanged tree would be another archive, and be sent again


@dataclass(frozen=True)
class Cargo:
    """Files below `root`, by their paths relative to it, sorted."""

    root: Path
    files: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Before they are compressed."""
        return sum((self.root / name).stat().st_size for name in self.files)

    def __str__(self) -> str:
        return f"{len(self.files):,} files, {self.bytes / 1e6:,.1f} MB"

    def pack(self, archive: Path, *, most: int = MOST_BYTES) -> Path:
        """Write the archive. Raises Refusal, with the largest files, where it is more than the cluster takes."""
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            for name in self.files:
                path = self.root / name
                member = zipfile.ZipInfo(name, _EPOCH)
                member.compress_type = zipfile.ZIP_DEFLATED
                member.external_attr = (path.stat().st_mode & 0o777 | 0o100000) << 16
                packed.writestr(member, path.read_bytes())
                if packed.start_dir > most:
                    raise self._too_large(most)
        return archive

    def check(self) -> None:
        """Refuse a tree that lacks what every job needs, or has what nobody else may read."""
        for name in NEEDED:
            if name not in self.files:
                raise Refusal(
                    f"'{name}' would not be shipped",
                    path=str(self.root),
                    value=name,
                    remedy="it is missing, or excluded by .gitignore or .rayignore",
                )
        if secret := next((name for name in self.files if _is_secret(name)), None):
            raise Refusal(
                "looks like a secret, and everybody on the cluster could read it",
                path=str(self.root / secret),
                value=secret,
                remedy="name it in .rayignore, or remove it",
            )
        if self.bytes > 20 * MOST_BYTES:  # no need to compress them first
            raise self._too_large(MOST_BYTES)

    def _too_large(self, most: int) -> Refusal:
        sizes = sorted(((self.root / name).stat().st_size, name) for name in self.files)
        named = ", ".join(
            f"{name} ({size / 1e6:,.0f} MB)" for size, name in sizes[: -SHOWN - 1 : -1]
        )
        return Refusal(
            f"the checkout ({self}) is, packed, more than the {most / 2**20:.0f} MiB that a cluster takes; "
            f"the largest: {named}",
            path=str(self.root),
            value=self.bytes,
            remedy="name them in .rayignore; data belong into a packed set on s3://",
        )


def cargo(root: Path) -> Cargo:
    """The files of a checkout that are tracked, or new and not ignored; less what .rayignore names.

    Raises Refusal for what `Cargo.check` refuses.
    """
    names = _of_git(root) if (root / ".git").exists() else _walked(root)
    found = Cargo(root, tuple(sorted(name for name in names if (root / name).is_file())))
    found.check()
    return found


def _of_git(root: Path) -> set[str]:
    names = _listed(root, "--cached", "--others", "--exclude-standard")
    if (root / ".rayignore").exists():
        ignored = ["--ignored", "--exclude-from=.rayignore"]
        names -= _listed(root, "--cached", *ignored) | _listed(root, "--others", *ignored)
    return names


def _listed(root: Path, *options: str) -> set[str]:
    try:
        # Whoever ships a checkout runs its code anyway: that it is another user's is no reason to refuse it.
        git = ["git", "-c", f"safe.directory={root.resolve()}", "ls-files", "-z"]
        done = subprocess.run([*git, *options], cwd=root, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        raise Refusal(
            f"git cannot list the checkout: {said.decode(errors='replace').strip()}",
            path=str(root),
            remedy="mend the checkout, or clone it anew",
        ) from error
    return set(filter(None, done.stdout.decode(errors="surrogateescape").split("\0")))


def _walked(root: Path) -> set[str]:
    names = set()
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not _matches(name, _NEVER)]
        names |= {Path(folder, name).relative_to(root).as_posix() for name in files}
    return {name for name in names if not _matches(name.rpartition("/")[2], _NEVER)}


def _is_secret(name: str) -> bool:
    last = name.rpartition("/")[2]
    return _matches(last, _SECRETS) or last.endswith(_SUFFIXES)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
