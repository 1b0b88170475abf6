"""A simulated movie as the workflow wants it: raw frames, labels, and its row of the sample sheet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatialdino_core.progress import progress
from spatialdino_core.simulate.movie import Movie
from spatialdino_core.simulate.write import write_ome_tiff

CHANNEL = "488nm"
COLUMNS = [
    *("movie", "channel", "path", "scan", "angle_deg", "step_um", "pixel_um", "interval_s"),
    *("skew_axis", "scan_sign", "train"),
]


def interval_s(movie: Movie) -> float:
    """Time between frames, s."""
    return movie.parameters.scene.interval_s


def raw_frames(movie: Movie, name: str) -> Iterator[NDArray[np.uint16]]:
    """All raw frames with a channel axis (c, z, y, x)."""
    for index in progress(range(len(movie)), f"simulate {name}", "frame"):
        yield movie.raw_frame(index)[None]


def sheet_row(name: str, path: str, movie: Movie, train: str) -> dict[str, str]:
    """Row of the sample sheet; ``path`` is as seen from the sheet, ``train`` is yes or no."""
    acquisition = movie.parameters.acquisition
    return {
        "movie": name,
        "channel": CHANNEL,
        "path": path,
        "scan": acquisition.scan,
        "angle_deg": str(acquisition.angle_deg),
        "step_um": str(acquisition.step_um),
        "pixel_um": str(acquisition.pixel_um),
        "interval_s": str(interval_s(movie)),
        "skew_axis": "x",
        "scan_sign": f"{acquisition.scan_sign:+d}",
        "train": train,
    }


def write_sheet(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write the sample sheet, and say where."""
    pd.DataFrame(rows, columns=COLUMNS).to_csv(path, sep="\t", index=False, lineterminator="\n")
    return path


def write_labels(path: Path, movie: Movie, name: str) -> None:
    """Write a movie's instance labels on the deskewed grid, uint16 where the identifiers fit."""
    largest = int(movie.truth["particle"].max()) if len(movie.truth) else 0
    dtype = np.dtype(np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32)
    grid = movie.deskewed.grid
    indices = progress(range(len(movie)), f"label {name}", "frame")
    write_ome_tiff(
        path,
        (movie.deskewed_labels(index)[None].astype(dtype) for index in indices),
        (len(movie), 1, *grid.shape),
        dtype,
        channels=["particles"],
        pixel_um=grid.pixel_um,
        plane_spacing_um=grid.plane_spacing_um,
        interval_s=interval_s(movie),
        compression="zlib",
    )
