"""The grid of movies of `particles.py`: what is in them, and their raw files. Not how they are analysed.

All movies image 9 × 15 × 15 µm with a stage scan at 31.5°, 12 frames at 2 s by default. Particles diffuse
(0.003 µm²/s), two in five run at 0.12 µm/s and change their motion every 10 s, and live for 60 s. The point
spread function has σ = 0.14 µm laterally and 0.32 µm axially. SNR is that of the ISBI Particle Tracking
Challenge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spatialdino_core.simulate.movie import Movie, simulate_movie
from spatialdino_core.simulate.parameters import AcquisitionParameters, MovieParameters, SceneParameters
from spatialdino_core.simulate.sheet import CHANNEL, interval_s, raw_frames, sheet_row, write_sheet
from spatialdino_core.simulate.write import write_tiff_series, write_truth

ACQUISITION = AcquisitionParameters(
    scan="stage", angle_deg=31.5, step_um=0.4, pixel_um=0.104, planes=43, rows=144, columns=144
)
SNRS = (1.0, 1.2, 2.0, 4.0, 7.0)
DENSITIES = {"low": 15, "mid": 60, "high": 200}
PLACES: dict[str, dict[str, Any]] = {"free": {}, "cell": {"cell_photons": 25.0}}
DRIFT_UM = (0.03, 0.08, 0.10)
WOBBLE_UM = 0.03
EXTRAS: dict[str, dict[str, Any]] = {
    "blinking": {"blink_rate_hz": 0.03, "blink_duration_s": 3.0},
    "merging": {"merge_rate_hz": 0.3, "split_rate_hz": 0.012},
    "drift": {"margin_um": 1.6},
    "bleaching": {"bleaching_half_life_s": 15.0},
}


@dataclass(frozen=True)
class Cell:
    """One cell of the grid, with one movie for each seed."""

    name: str
    scene: dict[str, Any]
    drifts: bool = False

    def movie_name(self, seed: int) -> str:
        """Name of a movie in the sample sheet."""
        return f"{self.name.replace('.', 'p')}_s{seed}"

    def simulate(self, seed: int, frames: int) -> Movie:
        """The movie of a seed."""
        scene = SceneParameters(
            frames=frames,
            interval_s=2.0,
            lifetime_s=60.0,
            diffusion_um2_per_s=0.003,
            directed_fraction=0.4,
            switching_rate_hz=0.1,
            speed_um_per_s=0.12,
            directed_diffusion_um2_per_s=0.0005,
            **self.scene,
        )
        movie = simulate_movie(MovieParameters(seed=seed, scene=scene, acquisition=ACQUISITION))
        return drifting(movie, seed) if self.drifts else movie


def drifting(movie: Movie, seed: int) -> Movie:
    """The movie on a stage that drifts steadily and wobbles; the scene's margin must leave room."""
    frames = len(movie)
    steps = np.random.default_rng([seed, 4]).normal(0, WOBBLE_UM, (frames, 3)) + DRIFT_UM
    shift = np.cumsum(steps, axis=0) - steps[0]
    shift -= shift.mean(axis=0)
    truth = movie.truth.copy()
    for axis, (size, along) in zip(
        "zyx", zip(movie.deskewed.grid.voxel_um, shift.T, strict=True), strict=True
    ):
        truth[f"{axis}_um"] += along[truth["frame"]]
        truth[axis] = truth[f"{axis}_um"] / size
    return replace(movie, truth=truth)


def grid() -> dict[str, Cell]:
    """All cells by name."""
    cells = [
        Cell(f"{place}_snr{snr:g}_{density}", {"snr": snr, "particles": particles} | cell)
        for place, cell in PLACES.items()
        for snr in SNRS
        for density, particles in DENSITIES.items()
    ]
    base = {"snr": 4.0, "particles": DENSITIES["mid"]}
    cells += [Cell(f"free_snr4_{name}", base | extra, name == "drift") for name, extra in EXTRAS.items()]
    return {cell.name: cell for cell in cells}


def write_movies(cells: list[Cell], seeds: int, frames: int, work: Path) -> dict[tuple[str, int], Path]:
    """Raw stacks, truth tables and the sample sheet of all movies below ``work``.

    Movies that lie there already, with their truth, are left as they are.

    Returns
    -------
    dict
        Truth table of each cell and seed.
    """
    rows, tables = [], {}
    for cell in cells:
        for seed in range(seeds):
            name, movie = cell.movie_name(seed), cell.simulate(seed, frames)
            table = work / "truth" / f"{name}.csv"
            if not table.exists():
                raw = work / "raw" / name
                write_tiff_series(raw, name, raw_frames(movie, name), [CHANNEL], interval_s(movie))
                write_truth(table, movie.truth)
            rows.append(sheet_row(name, f"raw/{name}/*.tif", movie, "no"))
            tables[cell.name, seed] = table
    write_sheet(work / "movies.tsv", rows)
    return tables
