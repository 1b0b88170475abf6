"""What is planted: where particles are found, as they move, over a ladder of signal-to-noise ratios.

The ratio is that of Chenouard et al. (Nat. Methods 11, 2014): height over the noise at the peak, the light's
own noise included. Not how the light gets into the frames: see :mod:`.copy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatialdino_core.plant.camera import CameraNoise
from spatialdino_core.plant.paths import Motion, paths_um
from spatialdino_core.statistics import MAD_TO_SIGMA

SNR = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
"""Rungs, each √2 above the one before."""
APART = 8.0
"""Standard deviations of the point spread function that planted particles start from one another."""
NEAR = (4.0, 20.0)
"""Nearest and farthest that a particle starts from one that was found, in the same unit: where particles are,
and not on top of them."""
DENSER = 0.3
"""Planted particles, as a share of those found: the scene stays as dense as it is."""
LEAST = 27
"""Planted particles per frame, if there is room: three a rung."""
TRIES = 60
POSITION = ["z_um", "y_um", "x_um"]
LOCALISATION = ["localisation_z_um", "localisation_y_um", "localisation_x_um"]


@dataclass(frozen=True, eq=False)
class Rungs:
    """Planted particles before they have a height in counts.

    Attributes
    ----------
    path_um
        Shape (frames, n, 3): z, y, x.
    snr
        Shape (n,): the rung of each.
    """

    path_um: NDArray[np.float64]
    snr: NDArray[np.float64]


def draw_rungs(
    objects: pd.DataFrame,
    box_um: NDArray[np.float64],
    sigma_um: NDArray[np.float64],
    motion: Motion,
    frames: int,
    generator: np.random.Generator,
) -> Rungs:
    """Particles at places like those where others were found.

    Parameters
    ----------
    objects
        Of one frame: ``z_um, y_um, x_um``.
    box_um
        Shape (2, 3): corners of the part that is copied, z, y, x.
    sigma_um
        Shape (3,): standard deviations of the point spread function.
    motion, frames
        How they move, and for how long.
    generator
        Where chance comes from.
    """
    found = objects[POSITION].to_numpy(np.float64)
    found = found[((found >= box_um[0]) & (found <= box_um[1])).all(axis=1)]
    wanted = max(LEAST, round(DENSER * len(found)))
    tried = _places(found, box_um, sigma_um, TRIES * wanted, generator)
    start = tried[_apart(tried / sigma_um, wanted)]
    snr = np.resize(SNR, len(start))
    return Rungs(paths_um(start, frames, motion, generator), generator.permutation(snr))


def peak_counts(
    snr: NDArray[np.float64], background: NDArray[np.float64], noise: CameraNoise
) -> NDArray[np.float64]:
    """Heights A with ``A / sqrt(variance(background) + gain · A) = snr``, counts; all of one shape."""
    square = noise.gain * snr**2
    return np.asarray(0.5 * (square + np.sqrt(square**2 + 4 * snr**2 * noise.variance(background))))


def measured_motion(tracks: pd.DataFrame, objects: pd.DataFrame) -> Motion:
    """How a movie's particles move from one frame to the next, without the error of their positions.

    Parameters
    ----------
    tracks, objects
        Tables of the movie; gaps do not count.
    """
    seen = tracks[tracks["gap"] == 0].merge(objects[["frame", "label", *LOCALISATION]], on=["frame", "label"])
    seen = seen.sort_values(["track_id", "frame"])
    follows = (seen["track_id"].diff() == 0) & (seen["frame"].diff() == 1)
    steps = seen[POSITION].diff()[follows].to_numpy()
    if not len(steps):
        return Motion()
    # Planes lie farther apart and are less well localised, so that steps are taken from the plane.
    spread = MAD_TO_SIGMA * np.median(np.abs(steps[:, 1:] - np.median(steps[:, 1:], axis=0)))
    error = np.median(seen[LOCALISATION[1:]].to_numpy() ** 2)
    return Motion(step_um=float(np.sqrt(max(spread**2 - 2 * error, 0.0))))


def by_frame(rungs: Rungs, numbers: Sequence[int]) -> Mapping[int, NDArray[np.float64]]:
    """Positions (n, 3) in each of the frames with these numbers, µm."""
    return dict(zip(numbers, rungs.path_um, strict=True))


def _places(
    found: NDArray[np.float64],
    box_um: NDArray[np.float64],
    sigma_um: NDArray[np.float64],
    number: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Places near particles; anywhere, where none was found."""
    if not len(found):
        return generator.uniform(box_um[0], box_um[1], (number, 3))
    direction = generator.standard_normal((number, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    distance = generator.uniform(*NEAR, (number, 1))
    places = found[generator.integers(len(found), size=number)] + direction * distance * sigma_um
    inside = ((places >= box_um[0]) & (places <= box_um[1])).all(axis=1)
    near, _ = cKDTree(found / sigma_um).query(places / sigma_um)
    return np.asarray(places[inside & (near >= NEAR[0])])


def _apart(places: NDArray[np.float64], wanted: int) -> list[int]:
    """The first of the places that keep their distance from all chosen before."""
    chosen: list[int] = []
    for number, place in enumerate(places):
        if len(chosen) == wanted:
            break
        if not chosen or np.linalg.norm(places[chosen] - place, axis=1).min() >= APART:
            chosen.append(number)
    return chosen
