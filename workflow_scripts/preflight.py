"""One run at a time per results folder: a mark with the process that owns it.

Replaces Snakemake's lock, which outlives a killed run and then has to be removed by hand. Works on
network file systems: no file locks, only a small file that names host, process and its start.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import read_json, write_json
from workflow_scripts.orphans import processes, slurm_jobs

MARK = ".running.json"


def enter_run(results: str) -> None:
    """Claim the results folder, or refuse if another living run has it."""
    mark = Path(results) / MARK
    owner = read_json(mark) if mark.exists() else None
    if owner and owner["host"] == socket.gethostname():
        if owner["pid"] in [process.pid for process in [psutil.Process(), *psutil.Process().parents()]]:
            return  # the part of this run that follows the review
        if not _alive(owner["pid"], owner["started"]):
            _refuse_orphans(mark, "Slurm jobs", slurm_jobs(), "scancel")
            _refuse_orphans(mark, "processes", processes(results), "kill")
            owner = None
    if owner:
        raise BadInputError(
            mark,
            found=f"a run on {owner['host']}, process {owner['pid']}",
            expected="no other run on these results",
            remedy=f"Wait for it or stop it; if that host no longer runs it, remove {mark}.",
        )
    started = psutil.Process().create_time()
    write_json(mark, {"host": socket.gethostname(), "pid": os.getpid(), "started": started})


def leave_run(results: str) -> None:
    """Give the results folder back, if this process claimed it."""
    mark = Path(results) / MARK
    if mark.exists() and read_json(mark)["pid"] == os.getpid():
        mark.unlink()


def _refuse_orphans(mark: Path, what: str, orphans: list[str], end: str) -> None:
    """The jobs of a killed run go on without it; nothing may be computed a second time meanwhile."""
    if orphans:
        raise BadInputError(
            mark,
            found=f"{what} of a run that was killed: {' '.join(orphans)}",
            expected="none",
            remedy=f"Wait for them to end, or end them ({end} {' '.join(orphans)}), and run again.",
        )


def _alive(pid: int, started: float) -> bool:
    return psutil.pid_exists(pid) and abs(psutil.Process(pid).create_time() - started) < 2
