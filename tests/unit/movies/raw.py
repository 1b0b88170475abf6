"""Raw movies of tests: registered as the workflow does it, and read by the table that comes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.register import BadFramePolicy, register_movie
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.movies.source import FrameSource, open_channels


def sheet_row(path: Path | str, **changes: object) -> SheetRow:
    """A row that leaves nothing open but the files."""
    values = dict(movie="a", channel="488nm", path=str(path), scan="stage", angle_deg=31.5, step_um=0.4)
    values |= dict(pixel_um=0.104, interval_s=2.0, skew_axis="x", scan_sign=1, train="no")
    return SheetRow(**(values | changes))  # type: ignore[arg-type]


def table_of(
    rows: Sequence[SheetRow], policy: BadFramePolicy = "fail", **reading: object
) -> tuple[MovieRecord, AcquisitionTable]:
    return register_movie(rows, ReadingParameters(**reading), policy)  # type: ignore[arg-type]


def registered(rows: Sequence[SheetRow], policy: BadFramePolicy = "fail", **reading: object) -> MovieRecord:
    return table_of(rows, policy, **reading)[0]


def problem(rows: Sequence[SheetRow], policy: BadFramePolicy = "fail", **reading: object) -> str:
    return registered(rows, policy, **reading).problem or "none"


def sources(
    rows: Sequence[SheetRow], policy: BadFramePolicy = "skip", **reading: object
) -> list[FrameSource]:
    """The channels as later stages read them: through the table on disk."""
    record, table = table_of(rows, policy, **reading)
    assert record.problem is None, record.problem
    return open_channels(record.movie, table)
