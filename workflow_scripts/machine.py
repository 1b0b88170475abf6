"""What the plan asks of the machine: whether there is a GPU, how much memory, and what weights there are."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psutil

SETTLED = "SPATIALDINO_GPU"


def gpu_is_found(device: Literal["auto", "cpu", "cuda"], *, on_cluster: bool, settle: bool) -> bool:
    """Whether training would have a GPU: here, or somewhere in the Slurm cluster that runs the jobs.

    Asked without torch, which would cost each plan seconds. What the run's main process settles, its jobs
    take over: a node without a GPU must not plan another run.
    """
    if not settle and SETTLED in os.environ:
        return os.environ[SETTLED] == "yes"
    found = device != "cpu" and (_slurm_has_gpus() if on_cluster else _gpu_is_here())
    os.environ[SETTLED] = "yes" if found else "no"
    return found


def _gpu_is_here() -> bool:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and any(Path("/dev").glob("nvidia[0-9]*"))


def _slurm_has_gpus() -> bool:
    if shutil.which("sinfo") is None:
        return False
    asked = subprocess.run(["sinfo", "--noheader", "--format=%G"], text=True, capture_output=True)
    return "gpu" in asked.stdout


def available_memory_mb(mounted: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Memory that the processes of a run can still take here, MB.

    What is free, and no more than a container or a job of a cluster around them leaves.

    Parameters
    ----------
    mounted, own
        Where the kernel describes control groups, and which of them this process is in.
    """
    free = [psutil.virtual_memory().available, *_left_in_groups(mounted, own)]
    return max(0, min(free)) // 10**6


def _left_in_groups(mounted: Path, own: Path) -> Iterator[int]:
    """Bytes left in the control group of this process and in each around it; of either version of them."""
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = mounted / controllers
        limit, used, files = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if controllers
            else ("memory.max", "memory.current", "inactive_file")
        )
        # Within a container, the path may be that outside of it.
        for group in {
            root,
            *(root / part for part in (Path(path.strip("/")), *Path(path.strip("/")).parents)),
        }:
            try:
                most = (group / limit).read_text().strip()
                if most != "max":
                    yield int(most) - int((group / used).read_text()) + _stat(group, files)
            except (OSError, ValueError):
                continue


def _stat(group: Path, name: str) -> int:
    """A line of a group's ``memory.stat``: what of its use are files that can be dropped."""
    lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    return next((int(value) for key, value in lines if key == name), 0)


@functools.cache
def content_of(path: str) -> str | None:
    """Digest of a file; None where there is none."""
    if not path or not Path(path).is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
