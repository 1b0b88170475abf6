"""Files of a movie that give no plane to any of its frames: each is named, with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.opened import Opened
from spatialdino_core.movies.plane_files import starred

NO_PLANES = "none of its planes is in a frame of these channels and this position"


def with_unused_files(table: AcquisitionTable, rows: Iterable[Opened]) -> AcquisitionTable:
    """The table, with every file that was opened and is neither in it nor in the reason of a frame left out.

    Parameters
    ----------
    table
        With all stacks.
    rows
        What the rows of the movie name.
    """
    used = {piece.file for pieces in table.stacks.values() for piece in pieces}
    reasons = "\n".join({*table.left_out.values(), *table.announced.values()})
    unused: dict[str, str] = {}
    for opened in rows:
        unused |= opened.unused
        idle = [file for file in opened.files if file not in used and not _is_named(file, reasons)]
        unused |= dict.fromkeys(map(str, idle), NO_PLANES)
    return replace(table, unused={file: why for file, why in unused.items() if Path(file) not in used})


def _is_named(file: Path, reasons: str) -> bool:
    """Whether reasons name a file, alone or with the other planes of its stack."""
    return file.name in reasons or starred(file.name) in reasons
