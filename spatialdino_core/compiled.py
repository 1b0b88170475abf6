"""Numba's compiler, and where it keeps machine code between processes.

For a function Numba looks at the file that it stands in: what was compiled into it from another file would
stay as it was after an update. So machine code lies in a folder named after all sources with such functions.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numba
from numba import njit

__all__ = ["njit"]

CORE = Path(__file__).parent
ROOMS = ("kernels", "segment", "track")
"""Where compiled functions stand, and what they take from their neighbours."""


def sources_digest(core: Path) -> str:
    """Digest of all sources that machine code is made from."""
    total = hashlib.blake2b(digest_size=8)
    for path in sorted(path for room in ROOMS for path in (core / room).rglob("*.py")):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


def _keep_beside_sources() -> None:
    """Unless the user has named a place (``NUMBA_CACHE_DIR``), or the software is where nobody may write."""
    folder = CORE / "__pycache__" / f"numba-{sources_digest(CORE)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    settings: Any = numba.config
    settings.CACHE_DIR = settings.CACHE_DIR or str(folder)


_keep_beside_sources()
