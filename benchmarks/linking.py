"""Linking with perfect detections: ours beside laptrack, on simulated movies with known tracks.

    python benchmarks/linking.py [--seeds 3] [--out benchmarks/results/linking.json]

Every linker gets the same objects and the same reach. "positions" is the fair comparison: laptrack sees
positions only; "ours" also sees each particle's brightness, here free of noise. Prints the median and the
spread over seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from laptrack import LapTrack

from spatialdino_core.movies.provenance import software
from spatialdino_core.score.links import score_links
from spatialdino_core.score.tracking import score_tracks
from spatialdino_core.simulate.movie import simulate_movie
from spatialdino_core.simulate.parameters import AcquisitionParameters, MovieParameters, SceneParameters
from spatialdino_core.track.link import link_objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.region import Region

REACH_UM = 1.0
GATE_UM = 0.312
POSITION = ["z_um", "y_um", "x_um"]
SCENES = {
    "sparse brownian": SceneParameters(frames=20, particles=60, lifetime_s=60.0),
    "dense brownian": SceneParameters(frames=20, particles=300, lifetime_s=60.0),
    "dense switching": SceneParameters(
        frames=20,
        particles=300,
        lifetime_s=60.0,
        directed_fraction=0.4,
        switching_rate_hz=0.1,
        speed_um_per_s=0.15,
    ),
}


def objects_of(scene: SceneParameters, seed: int) -> tuple[pd.DataFrame, Region]:
    """Visible particles of a simulated movie as a table of objects, and the imaged region."""
    acquisition = AcquisitionParameters(scan="none", step_um=0.2, planes=60, rows=192, columns=256)
    movie = simulate_movie(MovieParameters(seed=seed, scene=scene, acquisition=acquisition))
    truth = movie.truth[movie.truth["visible"].astype(bool)].reset_index(drop=True)
    noise = np.random.default_rng(seed).normal(0, [0.03, 0.012, 0.012], (len(truth), 3))
    truth[POSITION] += noise
    table = truth.assign(intensity_sum=truth["brightness"], intensity_mean=1.0, volume_um3=0.1, snr=5.0)
    table["label"] = table.groupby("frame").cumcount() + 1
    return table, Region((59 * 0.2, 191 * 0.104, 255 * 0.104))


def ours(table: pd.DataFrame, region: Region, frames: int, weight: float = 1.0) -> pd.DataFrame:
    parameters = TrackParameters(max_displacement_um=REACH_UM, intensity_weight=weight)
    return link_objects(table, frames, 2.0, region, parameters)[0]


def positions(table: pd.DataFrame, region: Region, frames: int) -> pd.DataFrame:
    """Ours, blind to brightness."""
    return ours(table, region, frames, weight=0.0)


def laptrack(table: pd.DataFrame, region: Region, frames: int) -> pd.DataFrame:
    linker = LapTrack(cutoff=REACH_UM**2, gap_closing_cutoff=2 * REACH_UM**2, gap_closing_max_frame_count=2)
    found = linker.predict_dataframe(table, POSITION, frame_col="frame", only_coordinate_cols=False)[0]
    return found.reset_index(drop=True).rename(columns={"frame_y": "frame"}).assign(gap=0)


def measure(linker: Callable[..., pd.DataFrame], scene: SceneParameters, seed: int) -> dict[str, float]:
    table, region = objects_of(scene, seed)
    truth = table.rename(columns={"particle": "track_id"})
    started = time.process_time()
    found = linker(table, region, scene.frames)
    seconds = time.process_time() - started
    tracks, links = score_tracks(found, truth, GATE_UM), score_links(found, truth, GATE_UM)
    return {
        "alpha": tracks.alpha,
        "jsc": tracks.jsc,
        "link_f1": links.link_f1,
        "switches": links.id_switches,
        "cpu_s": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [
        {"scene": name, "linker": linker.__name__, "seed": seed, **measure(linker, scene, seed)}
        for name, scene in SCENES.items()
        for seed in range(options.seeds)
        for linker in (positions, ours, laptrack)
    ]
    table = (
        pd.DataFrame(rows)
        .groupby(["scene", "linker"])
        .agg(["median", "min", "max"])
        .drop(columns="seed", level=0)
    )
    print(table.round(3).to_string())
    if options.out:
        options.out.write_text(json.dumps({"rows": rows} | software(), indent=1) + "\n")


if __name__ == "__main__":
    main()
