"""Movies of particles on known paths, as tables of objects, for the tests of this room."""

from __future__ import annotations

import numpy as np
import pandas as pd

from spatialdino_core.movies.clock import Clock
from spatialdino_core.score.links import score_links
from spatialdino_core.track.link import TrackReport, link_objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.region import Region

VOXEL = (0.209, 0.104, 0.104)
REGION = Region((8.0, 10.0, 12.0))


def movie(
    seed: int = 0,
    particles: int = 60,
    frames: int = 12,
    step: float = 0.12,
    drift: float = 0.0,
    brightness: float = 0.2,
) -> pd.DataFrame:
    """Particles on Brownian paths (``step``, µm per axis and frame) with a drift, all alive throughout."""
    generator = np.random.default_rng(seed)
    start = generator.uniform(1, [7, 9, 11], (particles, 3))
    heading = generator.normal(size=(particles, 3))
    heading *= drift / np.linalg.norm(heading, axis=1, keepdims=True)
    steps = generator.normal(0, step, (frames - 1, particles, 3)) + heading
    path = np.concatenate([start[None], start + steps.cumsum(0)])
    level = generator.lognormal(7, 0.4, particles) * generator.lognormal(
        0, brightness / 2, (frames, particles)
    )
    rows = [[t, p, *path[t, p], level[t, p]] for t in range(frames) for p in range(particles)]
    return pd.DataFrame(rows, columns=["frame", "particle", "z_um", "y_um", "x_um", "intensity_sum"])


def as_objects(truth: pd.DataFrame) -> pd.DataFrame:
    table = truth.drop(columns="particle").assign(
        volume_um3=0.1, snr=5.0, intensity_mean=truth["intensity_sum"] / 60
    )
    table["label"] = truth.groupby("frame").cumcount() + 1
    for axis, size in zip("zyx", VOXEL, strict=True):
        table[axis] = table[f"{axis}_um"] / size
    return table


def link(
    truth: pd.DataFrame, frames: int = 12, **changes: float
) -> tuple[pd.DataFrame, pd.DataFrame, TrackReport]:
    parameters = TrackParameters(**changes)  # type: ignore[arg-type]
    return link_objects(as_objects(truth), Clock.even(frames, 2.0), REGION, parameters)


def link_f1(tracks: pd.DataFrame, truth: pd.DataFrame) -> float:
    return score_links(tracks, truth.rename(columns={"particle": "track_id"}), 0.05).link_f1
