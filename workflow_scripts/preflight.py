"""One run at a time per results folder: a mark with the process that owns it.

Replaces Snakemake's lock, which outlives a killed run and then has to be removed by hand. Works on
network file systems: a small file that names host, process and its start, made in one step; no locks on them.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import sound_json
from workflow_scripts.claim import claimed, one_at_a_time
from workflow_scripts.orphans import refuse_orphans
from workflow_scripts.signals import reach_jobs

MARK = ".running.json"


def enter_run(results: str) -> None:
    """Claim the results folder, or refuse if another living run has it."""
    mark = Path(results) / MARK
    # Whether a mark is that of a dead run is settled by its own host alone, one run after the other.
    with one_at_a_time(mark):
        if not claimed(mark) and not _is_ours(mark):
            mark.unlink()
            if not claimed(mark):
                raise _taken(mark)
    reach_jobs()


def _is_ours(mark: Path) -> bool:
    """Whether this run has the mark already, before the plan that follows the review; if not, it is that of a
    dead run, and nothing is left of it.
    """
    owner = sound_json(mark)
    if owner.get("host") != socket.gethostname():
        raise _taken(mark)
    if owner["pid"] == os.getpid():
        return True
    if _alive(owner["pid"], owner["started"]):
        raise _taken(mark)
    refuse_orphans(mark)
    return False


def _taken(mark: Path) -> BadInputError:
    owner = sound_json(mark)
    return BadInputError(
        mark,
        found=f"a run on {owner.get('host', 'an unknown host')}, process {owner.get('pid', 'unknown')}",
        expected="no other run on these results",
        remedy=f"Wait for it or stop it; if that host no longer runs it, remove {mark}.",
    )


def leave_run(results: str) -> None:
    """Give the results folder back, if this process claimed it."""
    mark = Path(results) / MARK
    owner = sound_json(mark)
    if (owner.get("host"), owner.get("pid")) == (socket.gethostname(), os.getpid()):
        mark.unlink()


def _alive(pid: int, started: float) -> bool:
    return psutil.pid_exists(pid) and abs(psutil.Process(pid).create_time() - started) < 2
