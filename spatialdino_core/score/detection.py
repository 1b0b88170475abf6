"""How well particles are found in each frame, whatever links them over time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatialdino_core.score.matching import best_pairs, close_pairs
from spatialdino_core.score.ratios import Counts
from spatialdino_core.score.tables import POSITION_UM, check_positions


@dataclass(frozen=True)
class DetectionScore(Counts):
    """Positions of all frames, and root mean square errors of localisation (NaN without a match).

    ``rmse_lateral_um`` is that of the distance within the y-x plane, ``rmse_um`` that in 3D.
    """

    rmse_um: float
    rmse_z_um: float
    rmse_lateral_um: float


def match_frame(
    found_um: NDArray[np.float64], truth_um: NDArray[np.float64], gate_um: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Match detections one to one with truth.

    The matching minimises the sum over all positions of ``min(distance, gate)``, a position without
    partner counting as the gate: the truncated distance of Chenouard et al. (Nat. Methods 11, 2014).

    Parameters
    ----------
    found_um, truth_um
        Positions (n, 3) and (m, 3) of one frame in µm.
    gate_um
        Only closer positions can match (µm).

    Returns
    -------
    found, truth
        Indices (k,) of the matched positions.
    distances_um
        Their distances (k,).
    """
    found, truth, distances = close_pairs(found_um, truth_um, gate_um)
    chosen = best_pairs(found, truth, gate_um - distances, (len(found_um), len(truth_um)))
    return found[chosen], truth[chosen], distances[chosen]


def score_detections(found: pd.DataFrame, truth: pd.DataFrame, gate_um: float) -> DetectionScore:
    """Score detections of a movie.

    Parameters
    ----------
    found, truth
        One row per position, columns ``frame, z_um, y_um, x_um``.
    gate_um
        Only closer positions can match (µm).

    Raises
    ------
    BadInputError
        When a column is missing or a number is not finite.
    """
    found = check_positions(found, "detections", ["frame"])
    truth = check_positions(truth, "truth", ["frame"])
    per_frame = dict(list(found.groupby("frame")[POSITION_UM]))
    errors = [np.empty((0, 3))]
    for frame, expected in truth.groupby("frame")[POSITION_UM]:
        if frame in per_frame:
            here, there = per_frame[frame].to_numpy(float), expected.to_numpy(float)
            found_index, truth_index, _ = match_frame(here, there, gate_um)
            errors.append(here[found_index] - there[truth_index])
    squares = np.concatenate(errors) ** 2
    return DetectionScore(
        found=len(found),
        expected=len(truth),
        matches=len(squares),
        rmse_um=_root_mean(squares.sum(axis=1)),
        rmse_z_um=_root_mean(squares[:, 0]),
        rmse_lateral_um=_root_mean(squares[:, 1:].sum(axis=1)),
    )


def _root_mean(squares: NDArray[np.float64]) -> float:
    return math.sqrt(squares.mean()) if len(squares) else math.nan
