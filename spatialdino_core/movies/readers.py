"""Choose the reader for what a path of the sample sheet matches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.czi import CziMovie
from spatialdino_core.movies.ome_zarr import OmeZarr
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.source import FrameSource
from spatialdino_core.movies.tiff import TiffFile, TiffSeries


def open_source(
    pattern: str, files: Sequence[Path], channel: str, channel_index: int, reading: ReadingParameters
) -> FrameSource:
    """Open the files that a sample sheet's path matches.

    Parameters
    ----------
    pattern
        The path as the sheet gives it, for messages.
    files
        What it matches.
    channel, channel_index
        Which channel to take from a file that holds several: by name, else by the position of the
        row among the movie's rows with the same path.
    reading
        How files are put in order.
    """
    if not files:
        raise BadInputError(
            pattern,
            found="no file that matches",
            expected="a TIFF series, a TIFF file, a CZI file or an OME-Zarr store",
            remedy="Correct 'path' in the sample sheet; relative paths start at the sheet's folder.",
        )
    if files[0].is_dir():
        return OmeZarr(_only(pattern, files), channel, channel_index)
    if files[0].suffix.lower() == ".czi":
        return CziMovie(_only(pattern, files), channel, channel_index)
    if len(files) == 1:
        return TiffFile(files[0], channel, channel_index)
    return TiffSeries(pattern, files, reading.time_point, channel, channel_index)


def _only(pattern: str, files: Sequence[Path]) -> Path:
    if len(files) > 1:
        raise BadInputError(
            pattern,
            found=f"{len(files)} folders or CZI files",
            expected="one OME-Zarr store or CZI file per row",
            remedy="Make the path match a single one.",
        )
    return files[0]
