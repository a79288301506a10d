"""Python processes of ours beside this one: not `multiprocessing`'s, which forks under threads or runs a user's script again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def started(module: str, *words: str, **settings: Any) -> subprocess.Popen[bytes]:
    """`python -m MODULE WORDS`, on one thread; `settings` are Popen's, `env` what its environment has beyond ours."""
    # What can be imported here can be imported there, and then what lies in the working directory: last, and with -P,
    # since a folder `datasets` there must not hide ours.
    paths = [str(ROOT), *filter(None, sys.path), os.getcwd()]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        **settings.pop("env", {}),
    }
    command = [sys.executable, "-P", "-m", module, *words]
    return subprocess.Popen(command, env=environment, **settings)
