"""The demonstration data set: two simulated movies, their truth and their sample sheet.

    python -m spatialdino_core.simulate.demo --out DIR [--seed N] [--frames N] [--labels]

`demo_easy` is sparse and bright, stored as a TIFF series; `demo_hard` is dense and dim within a textured
cell, where particles blink, merge and split, stored as one OME-TIFF. Both train the model: crops of one
sparse movie alone look too much alike for a class token to tell them apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spatialdino_core.errors import BadInputError
from spatialdino_core.simulate.movie import simulate_movie
from spatialdino_core.simulate.parameters import MovieParameters, SceneParameters
from spatialdino_core.simulate.sheet import (
    CHANNEL,
    interval_s,
    raw_frames,
    sheet_row,
    write_labels,
    write_sheet,
)
from spatialdino_core.simulate.write import write_ome_tiff, write_tiff_series, write_truth

FRAMES = 12


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
        out / "raw" / "demo_easy", "demo_easy", raw_frames(bright, "demo_easy"), [CHANNEL], interval_s(bright)
    )
    write_ome_tiff(
        out / "raw" / "demo_hard" / "demo_hard.ome.tif",
        raw_frames(dim, "demo_hard"),
        (frames, 1, *dim.raw.grid.shape),
        np.dtype(np.uint16),
        channels=[CHANNEL],
        pixel_um=dim.raw.grid.pixel_um,
        plane_spacing_um=None,
        interval_s=interval_s(dim),
    )
    for name, movie in [("demo_easy", bright), ("demo_hard", dim)]:
        write_truth(out / "truth" / f"{name}.csv", movie.truth)
        if labels:
            write_labels(out / "truth" / f"{name}_truth_labels.ome.tif", movie, name)
    return write_sheet(
        out / "movies.tsv",
        [
            sheet_row("demo_easy", "raw/demo_easy/*.tif", bright, "yes"),
            sheet_row("demo_hard", "raw/demo_hard/demo_hard.ome.tif", dim, "yes"),
        ],
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


if __name__ == "__main__":
    main()
