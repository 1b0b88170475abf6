"""A file that one process alone can put there: made in one step, with its content, and never over another."""

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

from spatialdino_core.files import write_json


def claimed(mark: Path) -> bool:
    """Put this process's mark in the place of none; of those that do so at once, one succeeds."""
    own = mark.with_name(f"{mark.name}.{socket.gethostname()}-{os.getpid()}")
    started = psutil.Process().create_time()
    write_json(own, {"host": socket.gethostname(), "pid": os.getpid(), "started": started})
    try:
        _link(own, mark)
    except FileExistsError:
        return False
    finally:
        own.unlink()
    return True


def _link(own: Path, mark: Path) -> None:
    try:
        os.link(own, mark)
    except FileExistsError:
        raise
    except OSError:  # some shares know no links
        with mark.open("xb") as file:
            file.write(own.read_bytes())


@contextlib.contextmanager
def one_at_a_time(mark: Path) -> Iterator[None]:
    """One process of a user on this host after the other; the lock is not on a network, and ends with it."""
    name = hashlib.blake2b(os.path.realpath(mark).encode(), digest_size=8).hexdigest()
    with open(Path(tempfile.gettempdir(), f"spatialdino-{os.getuid()}-{name}"), "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
