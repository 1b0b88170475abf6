"""The demonstration data set: two simulated movies, their truth and their sample sheet.

    python -m spatialdino_core.simulate.demo --out DIR [--seed N] [--frames N] [--labels]

`demo_easy` is sparse and bright, stored as a TIFF series; `demo_hard` is dense and dim within a textured
cell, where particles blink, merge and split, stored as one OME-TIFF. Both train the model: crops of one
sparse movie alone look too much alike for a class token to tell them apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.progress import progress
from spatialdino_core.simulate.movie import Movie, simulate_movie
from spatialdino_core.simulate.parameters import MovieParameters, SceneParameters
from spatialdino_core.simulate.write import write_ome_tiff, write_tiff_series, write_truth

CHANNEL = "488nm"
FRAMES = 12
SHEET_COLUMNS = [
    *("movie", "channel", "path", "scan", "angle_deg", "step_um", "pixel_um", "interval_s"),
    *("skew_axis", "scan_sign", "train"),
]


def easy(seed: int, frames: int) -> MovieParameters:
    """Sparse, bright, mostly Brownian particles, a fifth of them on straight runs."""
    scene = SceneParameters(
        frames=frames,
        particles=40,
        snr=5.5,
        lifetime_s=60.0,
        diffusion_um2_per_s=0.003,
        directed_fraction=0.2,
        speed_um_per_s=0.12,
        directed_diffusion_um2_per_s=0.0005,
        bleaching_half_life_s=120.0,
    )
    return MovieParameters(seed=seed, scene=scene)


def hard(seed: int, frames: int) -> MovieParameters:
    """Dense, dim particles in a textured cell, which switch their motion, blink, merge and split."""
    scene = SceneParameters(
        frames=frames,
        particles=70,
        snr=2.5,
        brightness_cv=0.3,
        lifetime_s=60.0,
        diffusion_um2_per_s=0.003,
        directed_fraction=0.4,
        switching_rate_hz=0.1,
        speed_um_per_s=0.13,
        directed_diffusion_um2_per_s=0.0005,
        bleaching_half_life_s=120.0,
        blink_rate_hz=0.01,
        blink_duration_s=2.0,
        split_rate_hz=0.008,
        merge_rate_hz=0.1,
        cell_photons=15.0,
    )
    return MovieParameters(seed=seed, scene=scene)


def write_demo(out: Path, *, seed: int = 0, frames: int = FRAMES, labels: bool = False) -> Path:
    """Simulate both movies and write everything below ``out``.

    Returns
    -------
    Path
        The sample sheet ``movies.tsv``. Raw data lie in ``raw/{movie}/``, truth tables in
        ``truth/{movie}.csv`` and, on request, labels in ``truth/{movie}_truth_labels.ome.tif``.
    """
    if frames < 1:
        raise BadInputError("--frames", found=str(frames), expected="at least 1", remedy="Ask for more.")
    bright, dim = simulate_movie(easy(seed, frames)), simulate_movie(hard(seed + 1, frames))
    write_tiff_series(
        out / "raw" / "demo_easy", "demo_easy", _raw(bright, "demo_easy"), [CHANNEL], _interval_s(bright)
    )
    write_ome_tiff(
        out / "raw" / "demo_hard" / "demo_hard.ome.tif",
        _raw(dim, "demo_hard"),
        (frames, 1, *dim.raw.grid.shape),
        np.dtype(np.uint16),
        channels=[CHANNEL],
        pixel_um=dim.raw.grid.pixel_um,
        plane_spacing_um=None,
        interval_s=_interval_s(dim),
    )
    for name, movie in [("demo_easy", bright), ("demo_hard", dim)]:
        write_truth(out / "truth" / f"{name}.csv", movie.truth)
        if labels:
            write_labels(out / "truth" / f"{name}_truth_labels.ome.tif", movie, name)
    return _write_sheet(
        out / "movies.tsv",
        [
            _sheet_row("demo_easy", "raw/demo_easy/*.tif", bright, "yes"),
            _sheet_row("demo_hard", "raw/demo_hard/demo_hard.ome.tif", dim, "yes"),
        ],
    )


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
        interval_s=_interval_s(movie),
        compression="zlib",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line, see the module's first lines."""
    parser = argparse.ArgumentParser(
        prog="spatialdino_core.simulate.demo", description="Simulate the demo movies."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames per movie")
    parser.add_argument("--labels", action="store_true", help="write instance labels, too")
    options = parser.parse_args(arguments)
    print(write_demo(options.out, seed=options.seed, frames=options.frames, labels=options.labels))


def _interval_s(movie: Movie) -> float:
    return movie.parameters.scene.interval_s


def _raw(movie: Movie, name: str) -> Iterator[NDArray[np.uint16]]:
    """All raw frames with a channel axis (c, z, y, x)."""
    for index in progress(range(len(movie)), f"simulate {name}", "frame"):
        yield movie.raw_frame(index)[None]


def _sheet_row(name: str, path: str, movie: Movie, train: str) -> dict[str, str]:
    acquisition = movie.parameters.acquisition
    return {
        "movie": name,
        "channel": CHANNEL,
        "path": path,
        "scan": acquisition.scan,
        "angle_deg": str(acquisition.angle_deg),
        "step_um": str(acquisition.step_um),
        "pixel_um": str(acquisition.pixel_um),
        "interval_s": str(_interval_s(movie)),
        "skew_axis": "x",
        "scan_sign": f"{acquisition.scan_sign:+d}",
        "train": train,
    }


def _write_sheet(path: Path, rows: list[dict[str, str]]) -> Path:
    pd.DataFrame(rows, columns=SHEET_COLUMNS).to_csv(path, sep="\t", index=False, lineterminator="\n")
    return path


if __name__ == "__main__":
    main()
