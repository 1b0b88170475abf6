"""What the plan asks of the machine: whether there is a GPU, how much memory, and what weights there are."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Literal

from spatialdino_core.device import gpu_is_here

SETTLED = "SPATIALDINO_GPU"


def gpu_is_found(device: Literal["auto", "cpu", "cuda"], *, on_cluster: bool, settle: bool) -> bool:
    """Whether training would have a GPU: here, or somewhere in the Slurm cluster that runs the jobs.

    Asked without torch, which would cost each plan seconds. What the run's main process settles, its jobs
    take over: a node without a GPU must not plan another run.
    """
    if not settle and SETTLED in os.environ:
        return os.environ[SETTLED] == "yes"
    found = device != "cpu" and (_slurm_has_gpus() if on_cluster else gpu_is_here())
    os.environ[SETTLED] = "yes" if found else "no"
    return found


def _slurm_has_gpus() -> bool:
    if shutil.which("sinfo") is None:
        return False
    asked = subprocess.run(["sinfo", "--noheader", "--format=%G"], text=True, capture_output=True)
    return "gpu" in asked.stdout


@functools.cache
def content_of(path: str) -> str | None:
    """Digest of a file; None where there is none."""
    if not path or not Path(path).is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
