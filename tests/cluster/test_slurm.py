"""cluster/deploy/slurm.sbatch by bash itself, between a Slurm, a Ray and a driver that only write down what they are told."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "cluster" / "deploy" / "slurm.sbatch"
# Each is told of as NAME WORDS in `calls`.
TOLD = '#!/usr/bin/env bash\necho "$(basename "$0") $*" >>"$CALLS"\n'
SRUN = 'while [[ $1 == --* ]]; do shift; done\nexec "$@"\n'
RAY = 'if [[ $1 == symmetric-run ]]; then while [[ $1 != -- ]]; do shift; done; exec "${@:2}"; fi\n'
# Ends with END by itself, or with SAVED once it is asked to save; says that it is ready through a pipe.
DRIVER = """echo "at $RAY_ADDRESS, auth $RAY_AUTH_MODE" >>"$CALLS"
[[ -n $END ]] && exit "$END"
trap 'echo saved >>"$CALLS"; exit "$SAVED"' TERM
echo ready >"$PIPE"
while true; do read -r -t 60 <>"$NEVER" || true; done
"""


@dataclass
class Job:
    """A job as Slurm runs it: the script, its words, variables that Slurm sets."""

    folder: Path
    environment: dict[str, str]

    def start(self, *words: str, **variables: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["bash", str(SCRIPT), *words],
            cwd=self.folder,
            env={**self.environment, **variables},
            start_new_session=True,
        )

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    for name, body in {"srun": SRUN, "ray": RAY, "python": DRIVER, "scontrol": ""}.items():
        program = tmp_path / ".venv" / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(TOLD + body)
        program.chmod(0o755)
    for pipe in ("pipe", "never"):
        os.mkfifo(tmp_path / pipe)
    slurm = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "8"}
    ours = {"CALLS": "calls", "PIPE": "pipe", "NEVER": "never", "END": "", "SAVED": "130"}
    places = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    return Job(tmp_path, {**places, **slurm, **ours})


def test_a_run_starts_on_all_nodes(job: Job) -> None:
    assert job.start("recipes/digits.yaml", "model.width=8", END="0").wait(30) == 0
    token, srun, ray, driver, told = job.calls
    assert token == "ray get-auth-token --generate"
    assert srun.startswith("srun --ntasks-per-node=1 --cpus-per-task=8 ray symmetric-run")
    address = ray.split()[3]
    assert ray.startswith(f"ray symmetric-run --address {address} --min-nodes 2 --num-cpus=8")
    assert driver == "python launch.py train recipes/digits.yaml model.width=8"
    assert told == f"at {address}, auth token" and address.endswith(":6379")


def test_before_its_end_it_saves_and_is_queued_again(job: Job) -> None:
    running = job.start("recipes/digits.yaml")
    assert (job.folder / "pipe").read_text() == "ready\n"
    running.send_signal(signal.SIGUSR1)  # to the script alone, as --signal=B: does
    assert running.wait(30) == 130
    assert job.calls[-2:] == ["saved", "scontrol requeue 4711"]


def test_a_run_that_ends_meanwhile_is_not_queued_again(job: Job) -> None:
    running = job.start("recipes/digits.yaml", SAVED="0")
    assert (job.folder / "pipe").read_text() == "ready\n"
    running.send_signal(signal.SIGUSR1)
    assert running.wait(30) == 0
    assert job.calls[-1] == "saved"


def test_a_mistake_ends_the_job(job: Job) -> None:
    assert job.start("recipes/digits.yaml", END="2").wait(30) == 2
    assert not any(call.startswith("scontrol") for call in job.calls)
    assert not list(job.folder.glob("tmp.*"))
