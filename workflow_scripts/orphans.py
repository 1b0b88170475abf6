"""What a run that was killed has left running: jobs in Slurm's queue, processes on this machine."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from pathlib import Path

import psutil

from spatialdino_core.errors import BadInputError


def slurm_jobs() -> list[str]:
    """Waiting and running jobs that the plugin has submitted from this folder."""
    if shutil.which("squeue") is None:
        return []
    query = ["squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%Z|%k"]
    lines = subprocess.run(query, text=True, capture_output=True).stdout.splitlines()
    jobs = [line.split("|", 2) for line in lines]
    # Its jobs run in the folder of the run, and its comments begin like this.
    return [
        number
        for number, folder, comment in jobs
        if os.path.realpath(folder) == os.getcwd() and comment.startswith("rule_")
    ]


def processes(results: str) -> list[str]:
    """Our scripts that write to these results on this machine, however they and we spell their place."""
    found, inside = [], os.path.join(os.path.realpath(results), "")
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        ours = any(part.startswith("workflow_scripts.") for part in line)
        folder = process.info["cwd"]
        if ours and folder and any(_real(folder, part).startswith(inside) for part in line):
            found.append(str(process.info["pid"]))
    return found


def _real(folder: str, path: str) -> str:
    return os.path.realpath(os.path.join(folder, path))


def refuse_orphans(mark: Path) -> None:
    """Refuse to enter results that jobs of a dead run still write to.

    Raises
    ------
    BadInputError
        With what ends them.
    """
    _refuse(mark, "Slurm jobs", slurm_jobs(), "scancel")
    _refuse(mark, "processes", processes(str(mark.parent)), "kill")


def _refuse(mark: Path, what: str, orphans: list[str], end: str) -> None:
    """The jobs of a killed run go on without it; nothing may be computed a second time meanwhile."""
    if orphans:
        raise BadInputError(
            mark,
            found=f"{what} of a run that was killed: {' '.join(orphans)}",
            expected="none",
            remedy=f"Wait for them to end, or end them ({end} {' '.join(orphans)}), and run again.",
        )
