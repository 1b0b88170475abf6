"""Linking with perfect and with spoilt detections: ours beside laptrack and trackpy.

    python benchmarks/linking.py [--seeds 3] [--out build/benchmarks/linking.json] [--scenes NAME ...]

Every linker gets the same objects and may lose sight of a particle for two frames. Ours has one
configuration for all scenes, the default but for that, and estimates the rest; each peer has its search
radius chosen in hindsight, by the truth, on the first seed of each scene. All peers see positions only; so
does "ours_positions"; "ours" also sees brightness (noise 10 %). Peers that are not installed are left out.
Prints medians over seeds; seconds are CPU time, compilation not counted.

The scenes have the particles per frame, and nearly the difficulty, of those of the ISBI Particle Tracking
Challenge (VIRUS, 3D): 12.6 × 25.5 × 25.5 µm, 50 frames, particles that change between Brownian and directed
motion, are born and die. "spoilt" scenes miss 10 % of the positions, have 10 % false ones, and localisation
errors of 0.08 µm axially and 0.03 µm laterally.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from record import write

from spatialdino_core.movies.clock import Clock
from spatialdino_core.score.links import score_links
from spatialdino_core.score.tracking import score_tracks
from spatialdino_core.simulate.movie import simulate_movie
from spatialdino_core.simulate.parameters import AcquisitionParameters, MovieParameters, SceneParameters
from spatialdino_core.track.link import link_objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.region import Region

GATE_UM = 0.5
REACHES_UM = (0.6, 0.8, 1.0, 1.3)
MEMORY = 2
POSITION = ["z_um", "y_um", "x_um"]
ACQUISITION = AcquisitionParameters(scan="none", step_um=0.2, pixel_um=0.1, planes=64, rows=256, columns=256)
REGION = Region((63 * 0.2, 255 * 0.1, 255 * 0.1))
SIZE_UM = np.array(REGION.size_um)


def virus(particles: int, diffusion: float, speed: float, **more: Any) -> SceneParameters:
    """Half of the particles directed; every tenth changes its motion in a frame, every fortieth dies."""
    return SceneParameters(
        frames=50,
        interval_s=1.0,
        particles=particles,
        lifetime_s=40.0,
        diffusion_um2_per_s=diffusion,
        directed_diffusion_um2_per_s=diffusion / 10,
        directed_fraction=0.5,
        switching_rate_hz=0.1,
        speed_um_per_s=speed,
        **more,
    )


HARD = {"blink_rate_hz": 0.05, "blink_duration_s": 1.5, "merge_rate_hz": 0.3, "split_rate_hz": 0.004}
SCENES: dict[str, tuple[SceneParameters, bool]] = {
    "virus mid": (virus(500, 0.01, 0.3), False),
    "virus high": (virus(1000, 0.01, 0.3), False),
    "fast mid": (virus(500, 0.02, 0.5), False),
    "fast high": (virus(1000, 0.02, 0.5), False),
    "blinking merging": (virus(500, 0.01, 0.3, **HARD), False),
    "endosome": (
        virus(100, 0.01, 0.35, cell_photons=5.0, blink_rate_hz=0.02, merge_rate_hz=0.2, split_rate_hz=0.004),
        False,
    ),
    "virus mid, spoilt": (virus(500, 0.01, 0.3), True),
    "fast mid, spoilt": (virus(500, 0.02, 0.5), True),
}


def objects_of(scene: SceneParameters, spoilt: bool, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Visible particles of a simulated movie as a table of objects, and the truth at the same positions."""
    movie = simulate_movie(MovieParameters(seed=seed, scene=scene, acquisition=ACQUISITION))
    truth = movie.truth[movie.truth["visible"].astype(bool)].reset_index(drop=True)
    truth = truth.rename(columns={"particle": "track_id"})
    generator = np.random.default_rng(seed)
    table = truth[["frame", "brightness", *POSITION]].copy()
    table["brightness"] *= generator.lognormal(0, 0.1, len(table))
    if spoilt:
        table[POSITION] += generator.normal(0, [0.08, 0.03, 0.03], (len(table), 3))
        seen = generator.random(len(table)) >= 0.1
        table, truth = table[seen], truth[seen]
        count = round(0.1 * len(table))
        false = pd.DataFrame(generator.uniform(0, SIZE_UM, (count, 3)), columns=POSITION)
        false["frame"] = generator.integers(0, scene.frames, count)
        false["brightness"] = generator.choice(table["brightness"].to_numpy(), count)
        table = pd.concat([table, false], ignore_index=True)
    table = table.sort_values(["frame", *POSITION]).reset_index(drop=True)
    table = table.assign(intensity_sum=table["brightness"], intensity_mean=1.0, volume_um3=0.1, snr=5.0)
    table["label"] = table.groupby("frame").cumcount() + 1
    table[["z", "y", "x"]] = table[POSITION] / [0.2, 0.1, 0.1]
    return table, truth


def ours(table: pd.DataFrame, frames: int, weight: float = 1.0) -> pd.DataFrame:
    tracks = link_objects(
        table,
        Clock.even(frames),
        REGION,
        TrackParameters(intensity_weight=weight, max_gap_frames=MEMORY),
    )[0]
    return tracks[tracks["gap"] == 0]


def ours_positions(table: pd.DataFrame, frames: int) -> pd.DataFrame:
    return ours(table, frames, weight=0.0)


def laptrack(table: pd.DataFrame, frames: int, reach: float) -> pd.DataFrame:
    from laptrack import LapTrack

    linker = LapTrack(
        cutoff=reach**2, gap_closing_cutoff=(1.5 * reach) ** 2, gap_closing_max_frame_count=MEMORY
    )
    found = linker.predict_dataframe(table, POSITION, frame_col="frame", only_coordinate_cols=False)[0]
    return found.reset_index(drop=True).rename(columns={"frame_y": "frame"})


def trackpy(table: pd.DataFrame, frames: int, reach: float) -> pd.DataFrame:
    import trackpy as tp

    found = tp.link(table, reach, pos_columns=POSITION, memory=MEMORY, adaptive_stop=0.3, adaptive_step=0.9)
    return found.rename(columns={"particle": "track_id"})


def trackpy_velocity(table: pd.DataFrame, frames: int, reach: float) -> pd.DataFrame:
    import trackpy as tp

    predictor = tp.predict.NearestVelocityPredict()
    options = {"memory": MEMORY, "adaptive_stop": 0.3, "adaptive_step": 0.9}
    found = predictor.link_df(table, reach, pos_columns=POSITION, **options)
    return found.rename(columns={"particle": "track_id"})


PEERS = [
    peer
    for package, peer in [
        ("laptrack", laptrack),
        ("trackpy", trackpy),
        ("trackpy", trackpy_velocity),
    ]
    if importlib.util.find_spec(package)
]


def measure(linker: Callable[..., pd.DataFrame], truth: pd.DataFrame, *given: Any) -> dict[str, float]:
    """Scores and CPU seconds of a linker."""
    started = time.process_time()
    found = linker(*given)
    seconds = time.process_time() - started
    tracks, links = score_tracks(found, truth, GATE_UM), score_links(found, truth, GATE_UM)
    return {
        "alpha": tracks.alpha,
        "beta": tracks.beta,
        "jsc": tracks.jsc,
        "link_f1": links.link_f1,
        "switches": links.id_switches,
        "complete": links.complete_fraction,
        "cpu_s": seconds,
    }


def runs_of(name: str, seeds: int) -> list[dict[str, Any]]:
    """All linkers on one scene. On the first seed each peer tries all radii; the best serves the others."""
    scene, spoilt = SCENES[name]
    rows: list[dict[str, Any]] = []
    reach: dict[str, float] = {}
    for seed in range(seeds):
        table, truth = objects_of(scene, spoilt, seed)
        about = {"scene": name, "seed": seed}
        for linker in (ours, ours_positions):
            scores = measure(linker, truth, table, scene.frames)
            rows.append(about | {"linker": linker.__name__} | scores)
        for peer in PEERS:
            label = peer.__name__
            tried = [reach[label]] if label in reach else REACHES_UM
            results = {r: measure(peer, truth, table, scene.frames, r) for r in tried}
            reach[label] = max(results, key=lambda r, found=results: found[r]["alpha"])
            rows.append(about | {"linker": label, "reach_um": reach[label]} | results[reach[label]])
        print(pd.DataFrame(rows[-2 - len(PEERS) :]).round(3).to_string(index=False), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--scenes", nargs="+", choices=list(SCENES), default=list(SCENES))
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    ours(objects_of(virus(20, 0.01, 0.3), True, 0)[0], 50)  # compiles
    rows: list[dict[str, Any]] = []
    for name in options.scenes:
        rows += runs_of(name, options.seeds)
        write(options.out, {"rows": rows})
    scores = ["alpha", "beta", "jsc", "link_f1", "switches", "complete", "cpu_s"]
    print(pd.DataFrame(rows).groupby(["scene", "linker"], sort=False)[scores].median().round(3).to_string())


if __name__ == "__main__":
    main()
