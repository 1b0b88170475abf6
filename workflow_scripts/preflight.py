"""One run at a time per results folder: a mark with the process that owns it.

Replaces Snakemake's lock, which outlives a killed run and then has to be removed by hand. Works on
network file systems: a small file that names host, process and its start, made in one step; no locks on them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import sound_json, write_json
from workflow_scripts.orphans import processes, slurm_jobs

MARK = ".running.json"


def enter_run(results: str) -> None:
    """Claim the results folder, or refuse if another living run has it."""
    mark = Path(results) / MARK
    # Whether a mark is that of a dead run is settled by its own host alone, one run after the other.
    with _one_at_a_time(mark):
        if not _claimed(mark) and not _is_ours(mark):
            mark.unlink()
            if not _claimed(mark):
                raise _taken(mark)


@contextlib.contextmanager
def _one_at_a_time(mark: Path) -> Iterator[None]:
    name = hashlib.blake2b(os.path.realpath(mark).encode(), digest_size=8).hexdigest()
    with open(Path(tempfile.gettempdir(), f"spatialdino-{os.getuid()}-{name}"), "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # ends with the process
        yield


def _claimed(mark: Path) -> bool:
    """Put this process's mark in the place of none; of hosts that do so at once, one succeeds."""
    own = mark.with_name(f"{MARK}.{socket.gethostname()}-{os.getpid()}")
    started = psutil.Process().create_time()
    write_json(own, {"host": socket.gethostname(), "pid": os.getpid(), "started": started})
    try:
        os.link(own, mark)  # with its content, and never over another
    except FileExistsError:
        return False
    finally:
        own.unlink()
    return True


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
    _refuse_orphans(mark, "Slurm jobs", slurm_jobs(), "scancel")
    _refuse_orphans(mark, "processes", processes(str(mark.parent)), "kill")
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
