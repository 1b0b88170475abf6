"""How much memory a local run may use: what is free on the machine, and what control groups leave of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil


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
