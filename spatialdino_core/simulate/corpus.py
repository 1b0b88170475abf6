"""The training corpus of the bundled encoder: many small simulated movies, no two under the same conditions.

    python -m spatialdino_core.simulate.corpus --out DIR [--seed N] [--movies N]

Training movies spread over signal-to-noise ratio, density, width of the point spread function, background,
texture and motion as a Latin hypercube does: each range is covered evenly, however few movies there are.
Held-out movies never train: four fixed signal-to-noise ratios, with and without a cell, to judge an encoder
by. No demonstration for users: that is ``demo.py``.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import qmc

from spatialdino_core.errors import BadInputError
from spatialdino_core.simulate.movie import simulate_movie
from spatialdino_core.simulate.parameters import (
    AcquisitionParameters,
    MovieParameters,
    OpticsParameters,
    SceneParameters,
)
from spatialdino_core.simulate.sheet import (
    CHANNEL,
    interval_s,
    raw_frames,
    sheet_row,
    write_labels,
    write_sheet,
)
from spatialdino_core.simulate.write import write_tiff_series, write_truth

MOVIES = 20
TRAINING_FRAMES = 3
HELD_OUT_FRAMES = 1
HELD_OUT_SNR = (1.5, 2.5, 4.0, 6.0)
HELD_OUT_REPLICAS = 2
# Long enough for particles to be elsewhere in the next frame: another crop, not the same one again.
INTERVAL_S = 20.0
RANGES = {
    "snr": (1.0, 8.0),
    "particles": (15.0, 150.0),
    "sigma_lateral_um": (0.11, 0.19),
    "axial_over_lateral": (1.8, 3.0),
    "background_photons": (3.0, 40.0),
    "cell_photons": (5.0, 50.0),
    "texture_contrast": (0.15, 0.6),
    "texture_length_um": (0.5, 1.6),
    "brightness_cv": (0.1, 0.6),
    "diffusion_um2_per_s": (0.001, 0.01),
    "step_um": (0.3, 0.5),
}
"""Lowest and highest value of every condition; their logarithms are spread evenly."""
MOTIONS: dict[str, dict[str, float]] = {
    "brownian": {},
    "directed": {"directed_fraction": 0.8, "directed_diffusion_um2_per_s": 0.0005},
    "switching": {
        "directed_fraction": 0.4,
        "switching_rate_hz": 0.05,
        "directed_diffusion_um2_per_s": 0.0005,
        "blink_rate_hz": 0.01,
        "split_rate_hz": 0.004,
        "merge_rate_hz": 0.05,
    },
}


def training_movies(seed: int, movies: int) -> dict[str, MovieParameters]:
    """Conditions of the training movies, by name: every other one has a cell, motions take turns."""
    drawn = _conditions(movies, np.random.default_rng([seed, 0]))
    motions = itertools.cycle(MOTIONS)
    return {
        f"train_{number:02}": _movie(
            condition, motion, cell=number % 2 == 1, seed=1000 * seed + number, frames=TRAINING_FRAMES
        )
        for number, (condition, motion) in enumerate(zip(drawn, motions, strict=False))
    }


def held_out_movies(seed: int) -> dict[str, MovieParameters]:
    """Conditions of the held-out movies, by name, with other seeds than any training movie has."""
    kinds = list(itertools.product(HELD_OUT_SNR, (False, True), range(HELD_OUT_REPLICAS)))
    drawn = _conditions(len(kinds), np.random.default_rng([seed, 1]))
    motions = itertools.cycle(MOTIONS)
    return {
        f"held_out_{number:02}": _movie(
            condition | {"snr": snr},
            motion,
            cell=cell,
            seed=1000 * seed + 500 + number,
            frames=HELD_OUT_FRAMES,
        )
        for number, (condition, motion, (snr, cell, _)) in enumerate(zip(drawn, motions, kinds, strict=False))
    }


def write_corpus(out: Path, *, seed: int = 0, movies: int = MOVIES) -> Path:
    """Simulate all movies and write everything below ``out``.

    Parameters
    ----------
    out
        Folder to write to.
    seed
        Seed of everything random.
    movies
        Number of training movies, 1 to 500.

    Returns
    -------
    Path
        The sample sheet ``movies.tsv``, with ``train`` yes for training and no for held-out movies. Raw data
        lie in ``raw/{movie}/``, truth tables in ``truth/{movie}.csv``, the labels of held-out movies in
        ``truth/{movie}_truth_labels.ome.tif``, and ``conditions.tsv`` says how each movie was made.

    Raises
    ------
    BadInputError
        For a number of movies out of range.
    """
    if not 1 <= movies <= 500:
        raise BadInputError("--movies", found=str(movies), expected="1 to 500", remedy="Ask for some more.")
    training, held_out = training_movies(seed, movies), held_out_movies(seed)
    rows = []
    for name, parameters in (training | held_out).items():
        movie = simulate_movie(parameters)
        write_tiff_series(out / "raw" / name, name, raw_frames(movie, name), [CHANNEL], interval_s(movie))
        write_truth(out / "truth" / f"{name}.csv", movie.truth)
        if name in held_out:
            write_labels(out / "truth" / f"{name}_truth_labels.ome.tif", movie, name)
        train = "yes" if name in training else "no"
        rows.append(sheet_row(name, f"raw/{name}/*.tif", movie, train))
    _write_conditions(out / "conditions.tsv", training | held_out)
    return write_sheet(out / "movies.tsv", rows)


def _conditions(number: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """Conditions of ``number`` movies, within `RANGES`."""
    lows, highs = (np.log([bounds[end] for bounds in RANGES.values()]) for end in (0, 1))
    shares = qmc.LatinHypercube(len(RANGES), rng=rng).random(number)
    values = np.exp(lows + (highs - lows) * shares)
    return [dict(zip(RANGES, row.tolist(), strict=True)) for row in values]


def _movie(
    condition: dict[str, float], motion: str, *, cell: bool, seed: int, frames: int
) -> MovieParameters:
    lateral_um = condition["sigma_lateral_um"]
    scene = SceneParameters(
        frames=frames,
        interval_s=INTERVAL_S,
        particles=round(condition["particles"]),
        lifetime_s=60.0,
        snr=condition["snr"],
        brightness_cv=condition["brightness_cv"],
        diffusion_um2_per_s=condition["diffusion_um2_per_s"],
        background_photons=condition["background_photons"],
        cell_photons=condition["cell_photons"] if cell else 0.0,
        texture_contrast=condition["texture_contrast"],
        texture_length_um=condition["texture_length_um"],
        **MOTIONS[motion],
    )
    optics = OpticsParameters(
        sigma_lateral_um=lateral_um, sigma_axial_um=lateral_um * condition["axial_over_lateral"]
    )
    acquisition = AcquisitionParameters(step_um=round(condition["step_um"], 2))
    return MovieParameters(seed=seed, scene=scene, optics=optics, acquisition=acquisition)


def _write_conditions(path: Path, movies: dict[str, MovieParameters]) -> None:
    rows = [
        {"movie": name, "seed": parameters.seed}
        | asdict(parameters.scene)
        | asdict(parameters.optics)
        | asdict(parameters.acquisition)
        for name, parameters in movies.items()
    ]
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False, float_format="%.4g", lineterminator="\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line, see the module's first lines."""
    parser = argparse.ArgumentParser(
        prog="spatialdino_core.simulate.corpus", description="Simulate the corpus of the bundled encoder."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    parser.add_argument("--movies", type=int, default=MOVIES, help="training movies")
    options = parser.parse_args(arguments)
    print(write_corpus(options.out, seed=options.seed, movies=options.movies))


if __name__ == "__main__":
    main()
