"""Register a movie: open its files, settle its geometry, and refuse it early with one clear message.

Reads headers only; the content of frames (zeros, NaN) is judged where they are read for use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.readers import open_source
from spatialdino_core.movies.record import Acquisition, MovieRecord
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.movies.source import FileMetadata, FrameSource

BadFramePolicy = Literal["fail", "skip"]
DTYPES = ("uint8", "uint16", "float32")


def register_movie(
    rows: Sequence[SheetRow], reading: ReadingParameters, on_bad_frame: BadFramePolicy
) -> MovieRecord:
    """Everything that must be known of a movie before long work starts on it.

    Parameters
    ----------
    rows
        The movie's rows of the sample sheet, one per channel.
    reading
        How files are put in order.
    on_bad_frame
        ``fail``: a missing, truncated or differently shaped frame is the movie's problem.
        ``skip``: it is recorded and left out.

    Returns
    -------
    MovieRecord
        With ``problem`` set where the movie cannot be used; nothing is raised for bad input, so
        that one bad movie does not keep the others from being reviewed.
    """
    first = rows[0]
    names = {
        "movie": first.movie,
        "channels": [row.channel for row in rows],
        "paths": [row.path for row in rows],
        "train": first.train,
    }
    try:
        sources = open_channels(rows, reading)
        acquisition = settle_acquisition(first, sources[0].metadata, len(sources[0]))
        shape, dtype, skipped = _survey(rows, sources, on_bad_frame)
    except BadInputError as error:
        return MovieRecord(**names, problem=str(error))  # type: ignore[arg-type]
    return MovieRecord(
        **names,  # type: ignore[arg-type]
        acquisition=acquisition,
        frames=len(sources[0]),
        shape_zyx=shape,
        dtype=dtype,
        skipped=skipped,
    )


def open_channels(rows: Sequence[SheetRow], reading: ReadingParameters) -> list[FrameSource]:
    """Open every channel of a movie; they must agree in the number of time points."""
    # A file that holds several channels is named by several rows; elsewhere each row has its own file.
    places = [sum(other.path == row.path for other in rows[:i]) for i, row in enumerate(rows)]
    sources = [
        open_source(row.path, row.files(), row.channel, n, reading)
        for row, n in zip(rows, places, strict=True)
    ]
    counts = {row.channel: len(source) for row, source in zip(rows, sources, strict=True)}
    if len(set(counts.values())) > 1:
        raise BadInputError(
            f"movie '{rows[0].movie}'",
            found=f"time points per channel {counts}",
            expected="the same number in every channel",
            remedy="Restore the missing files, or give the channels movies of their own.",
        )
    return sources


def settle_acquisition(row: SheetRow, metadata: FileMetadata, frames: int) -> Acquisition:
    """Take each value from the sheet, else from the file; never from a default.

    Raises
    ------
    BadInputError
        Listing every value that neither gives.
    """
    skewed = row.scan in ("stage", "z-stage")
    candidates = {
        "pixel_um": (row.pixel_um, metadata.pixel_um),
        # The plane spacing of a file is not the step of a stage.
        "step_um": (row.step_um, None if skewed else metadata.plane_spacing_um),
        "interval_s": (row.interval_s, metadata.interval_s),
        "angle_deg": (row.angle_deg, None),
        "skew_axis": (row.skew_axis, None),
        "scan_sign": (row.scan_sign, None),
    }
    needed = ["pixel_um", "step_um"]
    needed += ["interval_s"] if frames > 1 else []
    needed += ["angle_deg", "skew_axis", "scan_sign"] if skewed else []
    missing = [name for name in needed if candidates[name] == (None, None)]
    if missing:
        raise BadInputError(
            f"movie '{row.movie}' ({row.path})",
            found=f"no value for {', '.join(missing)} in the sample sheet or the {metadata.origin}",
            expected=f"{', '.join(needed)} for scan '{row.scan}'",
            remedy="Fill in these columns of the sample sheet.",
        )
    values = {name: sheet if sheet is not None else file for name, (sheet, file) in candidates.items()}
    sources = {
        name: "sample sheet" if sheet is not None else metadata.origin
        for name, (sheet, file) in candidates.items()
        if (sheet, file) != (None, None)
    }
    if not skewed:
        values |= {"angle_deg": None, "skew_axis": None}
    values["scan_sign"] = values["scan_sign"] or 1
    return Acquisition(scan=row.scan, sources=sources, **values)  # type: ignore[arg-type]


def _survey(
    rows: Sequence[SheetRow], sources: Sequence[FrameSource], on_bad_frame: BadFramePolicy
) -> tuple[tuple[int, int, int], str, dict[int, str]]:
    """Shape and dtype that all frames share, and the frames that have others or cannot be opened."""
    described: dict[int, tuple[tuple[int, ...], str]] = {}
    bad: dict[int, str] = {}
    for frame in range(len(sources[0])):
        try:
            headers = {(shape, str(dtype)) for shape, dtype in (source.describe(frame) for source in sources)}
        except BadInputError as error:
            bad[frame] = str(error)
            continue
        if len(headers) > 1:
            bad[frame] = f"channels differ in shape or dtype: {sorted(headers)}"
            continue
        described[frame] = headers.pop()
    if not described:
        raise BadInputError(
            rows[0].path,
            found=next(iter(bad.values())),
            expected="frames that can be read",
            remedy="Copy it again.",
        )
    usual = _most_common(list(described.values()))
    bad |= {
        frame: f"{rows[0].path}, frame {frame}: found {has}; expected {usual} as in the others"
        for frame, has in described.items()
        if has != usual
    }
    shape, dtype = usual
    if dtype not in DTYPES or len(shape) != 3:
        raise BadInputError(
            rows[0].path,
            found=f"shape {shape}, {dtype}",
            expected=f"3D stacks (z, y, x) of {', '.join(DTYPES)}",
            remedy="Export the movie as 16-bit stacks.",
        )
    if bad and on_bad_frame == "fail":
        frame, reason = min(bad.items())
        more = f" ({len(bad) - 1} more bad frames)" if len(bad) > 1 else ""
        raise BadInputError(
            f"movie '{rows[0].movie}', frame {frame}",
            found=reason + more,
            expected="every frame complete and of one shape",
            remedy="Restore these frames, or set on_bad_frame: skip in the config.",
        )
    return (shape[0], shape[1], shape[2]), dtype, dict(sorted(bad.items()))


def _most_common(values: list[tuple[tuple[int, ...], str]]) -> tuple[tuple[int, ...], str]:
    return max(values, key=values.count)


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
