"""Register a movie: open its files, settle its geometry, and refuse it early with one clear message.

Reads headers only; the content of frames (zeros, NaN) is judged where they are read for use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.provenance import software
from spatialdino_core.movies.readers import open_source
from spatialdino_core.movies.record import Acquisition, MovieRecord
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.movies.source import FileMetadata, FrameSource

BadFramePolicy = Literal["fail", "skip"]
DTYPES = ("uint8", "uint16", "float32")
SKEWED = ("stage", "z-stage")
HIGHEST_COUNT = 65535
DISAGREEMENT = 1e-3  # relative difference from which two numbers are not the same value, differently rounded


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
        "made": software("register"),
    }
    try:
        _check_calibrations(rows)
        sources = open_channels(rows, reading)
        said = list(dict.fromkeys(metadata for source in sources for metadata in source.metadata))
        acquisition, warnings = settle_acquisition(first, said, len(sources[0]))
        shape, dtype, skipped = _survey(rows, sources, on_bad_frame)
    except BadInputError as error:
        return MovieRecord(**names, problem=str(error))  # type: ignore[arg-type]
    return MovieRecord(
        **names,  # type: ignore[arg-type]
        acquisition=acquisition,
        frames=len(sources[0]),
        shape_zyx=shape,
        dtype=dtype,
        times_s=[acquisition.interval_s * frame for frame in range(len(sources[0]))]
        if acquisition.interval_s
        else [],
        skipped=skipped,
        warnings=warnings,
    )


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


def settle_acquisition(
    row: SheetRow, said: Sequence[FileMetadata], frames: int
) -> tuple[Acquisition, list[str]]:
    """Take each value from the sheet, else from the files; never from a default.

    Parameters
    ----------
    row
        The movie's first row of the sample sheet.
    said
        What its files say, the most trusted first.
    frames
        Number of time points; a single one needs no interval.

    Returns
    -------
    Acquisition
        With the source of each value.
    list of str
        Where sheet and files, or two files, disagree.

    Raises
    ------
    BadInputError
        Listing every value that none of them gives, or for pixels that are not square.
    """
    stated = {name: _stated(row, said, name) for name in ("scan", "pixel_um", "interval_s")}
    scan = stated["scan"][0][0] if stated["scan"] else None
    if scan in (*SKEWED, None):
        stated["step_um"] = _stated(row, said, "step_um")
        stated |= {name: _stated(row, said, name) for name in ("angle_deg", "skew_axis", "scan_sign")}
        needed = ["scan", "pixel_um", "step_um", "angle_deg", "skew_axis", "scan_sign"]
    else:
        # The plane spacing of a file is not the step of a stage; without a skew it is what is meant.
        stated["step_um"] = _stated(row, said, "step_um", "plane_spacing_um")
        stated["scan_sign"] = _stated(row, said if scan == "objective" else [], "scan_sign")
        needed = ["scan", "pixel_um", "step_um"]
    needed += ["interval_s"] if frames > 1 else []
    missing = [name for name in needed if not stated[name]]
    if missing:
        origins = " or the ".join(["sample sheet", *dict.fromkeys(metadata.origin for metadata in said)])
        raise BadInputError(
            f"movie '{row.movie}' ({row.path})",
            found=f"no value for {', '.join(missing)} in the {origins}",
            expected=f"{', '.join(needed)} for scan '{scan}'"
            if scan
            else f"{', '.join(needed)}; without skew (scan 'objective' or 'none') no angle, axis or sign",
            remedy="Fill in these columns of the sample sheet.",
        )
    chosen = {name: values[0] for name, values in stated.items() if values}
    warnings = _disagreements(stated) + _oblong_pixels(row, said, chosen["pixel_um"][1])
    acquisition = Acquisition(
        scan=str(scan),
        angle_deg=_value(chosen, "angle_deg"),
        step_um=_value(chosen, "step_um"),
        pixel_um=_value(chosen, "pixel_um"),
        interval_s=_value(chosen, "interval_s"),
        skew_axis=_value(chosen, "skew_axis"),
        scan_sign=_value(chosen, "scan_sign") or 1,
        sources={name: origin for name, (_, origin) in chosen.items()},
    )
    return acquisition, warnings


def _stated(
    row: SheetRow, said: Sequence[FileMetadata], name: str, in_files: str | None = None
) -> list[tuple[Any, str]]:
    """Every stated value with its source, the one that counts first."""
    values = [(getattr(row, name), "sample sheet")]
    values += [(getattr(metadata, in_files or name), metadata.origin) for metadata in said]
    return [(value, origin) for value, origin in values if value is not None]


def _value(chosen: dict[str, tuple[Any, str]], name: str) -> Any:
    return chosen[name][0] if name in chosen else None


def _disagreements(stated: dict[str, list[tuple[Any, str]]]) -> list[str]:
    return [
        f"{name}: {values[0][0]} ({values[0][1]}) is used, not {value} ({origin})"
        for name, values in stated.items()
        for value, origin in values[1:]
        if _differ(values[0][0], value)
    ]


def _differ(one: Any, other: Any) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return bool(one != other)
    return bool(abs(one - other) > DISAGREEMENT * max(abs(one), abs(other)))


def _oblong_pixels(row: SheetRow, said: Sequence[FileMetadata], pixel_source: str) -> list[str]:
    """Warn of metadata with pixels that are not square; refuse to take the pixel size from it."""
    warnings = []
    for metadata in said:
        x, y = metadata.pixel_um, metadata.pixel_y_um
        if x is None or y is None or not _differ(x, y):
            continue
        if metadata.origin == pixel_source:
            raise BadInputError(
                f"movie '{row.movie}' ({row.path})",
                found=f"pixels of {x} × {y} µm in the {metadata.origin}",
                expected="square pixels",
                remedy="Give pixel_um in the sample sheet if the file's metadata is wrong.",
            )
        warnings.append(
            f"pixel_um: square pixels ({pixel_source}) are used, not {x} × {y} µm ({metadata.origin})"
        )
    return warnings


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
            bad[frame] = f"{error.where}: {error.found}"
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
    if shape[0] < 2:
        raise BadInputError(
            rows[0].path,
            found=f"stacks of {shape[0]} plane",
            expected="at least 2 planes per time point",
            remedy="Give whole 3D stacks: one file per time point with all planes, or one with axes TZYX.",
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
        remedy = (
            f"Add {-int(np.floor(low))} or more to all frames of the movie"
            if low < -0.5
            else f"Divide all frames of the movie by {high / HIGHEST_COUNT:.2g} or more"
        )
        raise BadInputError(
            where,
            found=f"values from {low:g} to {high:g} ({stack.dtype})",
            expected=f"camera counts between 0 and {HIGHEST_COUNT}",
            remedy=f"{remedy} and save it as 16-bit stacks, or export it unscaled.",
        )
    whole = stack if stack.dtype.kind in "iu" else np.clip(np.rint(stack), 0, HIGHEST_COUNT)
    return whole.astype(np.uint16)
