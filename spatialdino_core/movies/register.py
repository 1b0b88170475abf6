"""Register a movie: settle what its files mean and its geometry, and refuse it early with one clear message.

Reads headers only; the content of frames (zeros, NaN) is judged where they are read for use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from spatialdino_core.errors import BadInputError, as_bad_input
from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.names import written_out
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.provenance import software
from spatialdino_core.movies.raw_files import check_files
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.resolve import Resolved, resolve, times_of
from spatialdino_core.movies.rounding import HIGHEST_COUNT, rounding_of
from spatialdino_core.movies.settle import INTERVAL_DISAGREEMENT, settle_acquisition
from spatialdino_core.movies.sheet import SheetRow

BadFramePolicy = Literal["fail", "skip"]


def register_movie(
    rows: Sequence[SheetRow], reading: ReadingParameters, on_bad_frame: BadFramePolicy
) -> tuple[MovieRecord, AcquisitionTable]:
    """Everything that must be known of a movie before long work starts on it.

    Parameters
    ----------
    rows
        The movie's rows of the sample sheet, one per channel.
    reading
        How files are put in order, where a row does not say.
    on_bad_frame
        ``fail``: a frame that is missing in a channel, not whole or of another shape is the movie's
        problem. ``skip``: it is recorded and left out.

    Returns
    -------
    MovieRecord
        With ``problem`` set where the movie cannot be used; nothing is raised for bad input, so
        that one bad movie does not keep the others from being reviewed.
    AcquisitionTable
        Where its stacks are, as far as it is known; it says what is wrong with each frame.
    """
    first = rows[0]
    names: dict[str, Any] = {
        "movie": first.movie,
        "channels": [row.channel for row in rows],
        "paths": [row.path for row in rows],
        "train": first.train,
        "made": software("register"),
    }
    table = AcquisitionTable(channels=tuple(names["channels"]), frames=0, stacks={})
    try:
        check_files(rows)
        _check_calibrations(rows)
        found = resolve(rows, reading)
        table = found.table
        _check_stacks(rows, found)
        acquisition, warnings = settle_acquisition(first, found.said, found.table.frames, found.odd_clock)
        skipped = _skipped(first.movie, found.table, on_bad_frame)
    except Exception as error:
        problem = str(as_bad_input(error, f"movie '{first.movie}' ({first.path})"))
        return MovieRecord(**names, problem=problem), table
    clock = found.clock_s if _clock_counts(first, found) else {}
    times = times_of(found.table.frames, clock, acquisition.interval_s)
    source = found.table.clock if clock else acquisition.sources.get("interval_s", "")
    table = replace(found.table, times_s=times, clock=source if times else "")
    record = MovieRecord(
        **names,
        acquisition=acquisition,
        frames=table.frames,
        shape_zyx=found.shape_zyx,
        dtype=found.dtype,
        times_s=times,
        skipped=skipped,
        warnings=[*found.warnings, *warnings],
        reading=_summary(found, table),
    )
    return record, table


def _clock_counts(row: SheetRow, found: Resolved) -> bool:
    """Whether frames have their own times: not where the sheet states another interval."""
    measured = next((s.interval_s for s in found.said if s.origin == found.table.clock), None)
    if row.interval_s is None or measured is None:
        return True
    return abs(row.interval_s - measured) <= INTERVAL_DISAGREEMENT * measured


def _summary(found: Resolved, table: AcquisitionTable) -> dict[str, str]:
    """What was read, for the review: files, their order, the first and the last, the clock."""
    number, first, last = found.files
    summary = {
        "files": f"{number}",
        "order": found.by,
        "first": first,
        "last": last,
        "clock": table.clock or "none",
    }
    summary |= {"unused": f"{len(table.unused)}"} if table.unused else {}
    return summary | ({"position": table.position} if table.position else {})


def _check_stacks(rows: Sequence[SheetRow], found: Resolved) -> None:
    kind = np.dtype(found.dtype).kind
    if kind not in "uif":
        raise BadInputError(
            rows[0].path,
            found=f"voxels of type {found.dtype}",
            expected="numbers",
            remedy="Export the movie as 16-bit stacks.",
        )
    if found.shape_zyx[0] < 2:
        raise BadInputError(
            rows[0].path,
            found=f"stacks of {found.shape_zyx[0]} plane",
            expected="at least 2 planes per time point",
            remedy="Give whole 3D stacks: one file per time point with all planes, or one with axes TZYX; or "
            "say in the sample sheet's column 'axes' what the planes are, e.g. zyx.",
        )


def _skipped(movie: str, table: AcquisitionTable, on_bad_frame: BadFramePolicy) -> dict[int, str]:
    """Frames of which a stack is missing in a channel, with the reason; raises if they may not be."""
    bad: dict[int, str] = {}
    for (frame, _), reason in sorted(table.left_out.items()):
        bad.setdefault(frame, reason)
    announced = {table.frames + n: reason for n, reason in enumerate(table.announced.values())}
    if len(bad) == table.frames:
        raise BadInputError(
            f"movie '{movie}'",
            found=f"no frame that is whole in every channel ({next(iter(bad.values()))})",
            expected="at least one",
            remedy="Copy it again from the microscope.",
        )
    if (bad or announced) and on_bad_frame == "fail":
        everything = bad | announced
        frame, reason = next(iter(everything.items()))
        more = f" ({len(everything) - 1} more bad frames)" if len(everything) > 1 else ""
        raise BadInputError(
            f"movie '{movie}', frame {frame}",
            found=reason + more,
            expected="every frame complete and of one shape, in every channel",
            remedy="Restore these frames, or set on_bad_frame: skip in the config to leave them out.",
        )
    return bad


def _check_calibrations(rows: Sequence[SheetRow]) -> None:
    missing = [
        f"{column} of channel '{row.channel}': {path}"
        for row in rows
        for column, path in row.calibrations().items()
        if not Path(path).is_file()
    ]
    if missing:
        raise BadInputError(
            f"movie '{rows[0].movie}'",
            found=f"no file at {'; '.join(missing)}",
            expected="the files that the sample sheet names",
            remedy="Correct the cells; relative paths start at the sheet's folder.",
        )


def check_content(frame: int, stack: np.ndarray, where: str) -> np.ndarray:
    """Refuse a frame whose voxels cannot be an image: all zero, or not finite.

    Parameters
    ----------
    stack
        Raw stack (z, y, x).

    Returns
    -------
    numpy.ndarray
        The stack, unchanged.
    """
    found = None
    if not stack.any():
        found = "only zeros"
    elif stack.dtype.kind == "f" and not np.isfinite(stack).all():
        found = f"{int((~np.isfinite(stack)).sum())} voxels that are NaN or infinite"
    if found:
        raise BadInputError(
            f"{where}, frame {frame}",
            found=found,
            expected="finite camera counts",
            remedy="Remove or restore the frame, or set on_bad_frame: skip in the config.",
        )
    return stack


def as_counts(stack: np.ndarray, where: str) -> np.ndarray:
    """A raw stack as uint16 camera counts; values of another type are rounded, never rescaled.

    What rounding loses is judged of the movie, in the preview: a frame with less signal must not end it.

    Raises
    ------
    BadInputError
        For values that do not fit: negative beyond rounding, or above 65,535.
    """
    if stack.dtype in (np.uint8, np.uint16):
        return stack.astype(np.uint16, copy=False)
    low, high = (stack.min(), stack.max()) if stack.size else (0, 0)
    if low < -0.5 or high > HIGHEST_COUNT:
        excess = np.ceil(10 * high / HIGHEST_COUNT) / 10
        remedy = (
            "If counts above 32,767 became negative, read them as unsigned 16-bit again (view as uint16); if "
            "they are counts less an offset, add 32768"
            if low < -0.5 and stack.dtype == np.int16
            else _made_positive(stack, float(low))
            if low < -0.5
            else f"Divide all frames of the movie by {written_out(excess)} or more"
        )
        raise BadInputError(
            where,
            found=f"values from {written_out(low)} to {written_out(high)} ({stack.dtype})",
            expected=f"camera counts between 0 and {HIGHEST_COUNT}",
            remedy=f"{remedy} and save it as 16-bit stacks, or export it unscaled.",
        )
    whole = stack if stack.dtype.kind in "iu" else np.clip(np.rint(stack), 0, HIGHEST_COUNT)
    return whole.astype(np.uint16)


def _made_positive(stack: np.ndarray, low: float) -> str:
    """How values below 0 become counts: where rounding would destroy them, they are scaled before."""
    rounding = rounding_of(stack - low)
    factor = rounding.factor if rounding is not None and rounding.loses else 1
    least = int(np.ceil(-low * factor))
    scaled = f"Multiply all frames of the movie by {factor}, then add" if factor > 1 else "Add"
    return f"{scaled} {least} or more{'' if factor > 1 else ' to all frames of the movie'}"
