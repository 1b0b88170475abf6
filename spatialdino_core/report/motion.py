"""Numbers on motion from a table of tracks: displacements, mean squared displacement, diffusion.

Positions that fill a gap were never measured and do not count here. No figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

POSITION_UM = ["z_um", "y_um", "x_um"]
MOST_LAGS = 50
FEWEST_PAIRS = 10
FEWEST_FIT_LAGS = 5


@dataclass(frozen=True)
class MeanSquaredDisplacement:
    """Ensemble mean squared displacement.

    Attributes
    ----------
    time_s
        (n,) mean time between the positions of a lag, s; lags differ by about the usual interval.
    lag
        (n,) mean number of frames between them.
    msd_um2
        (n,) mean over all pairs of positions of one track that are so far apart in time, µm².
    pairs
        (n,) how many pairs there are; overlapping ones count.
    """

    time_s: np.ndarray
    lag: np.ndarray
    msd_um2: np.ndarray
    pairs: np.ndarray


@dataclass(frozen=True)
class Diffusion:
    """A line through the mean squared displacement, 2 · dimensions · D · t + offset.

    Attributes
    ----------
    coefficient_um2_per_s
        D.
    offset_um2
        From the uncertainty of positions (above 0) or motion during the exposure (below 0).
    exponent
        Slope of log MSD over log t, the apparent anomalous exponent: 1 for free diffusion, 2 for
        directed motion; the offset pulls it down.
    lags
        How many lags were fitted.
    """

    coefficient_um2_per_s: float
    offset_um2: float
    exponent: float
    lags: int


def measured(tracks: pd.DataFrame) -> pd.DataFrame:
    """Rows that were measured, sorted by track and frame."""
    return tracks[~gap_rows(tracks)].sort_values(["track_id", "frame"], ignore_index=True)


def gap_rows(tracks: pd.DataFrame) -> np.ndarray:
    """Which rows only fill a gap; bool (n,)."""
    return tracks["gap"].to_numpy() != 0


def track_lengths(tracks: pd.DataFrame) -> np.ndarray:
    """Frames from the first to the last position of each track, both included; ascending track_id.

    Examples
    --------
    >>> track_lengths(pd.DataFrame({"track_id": [1, 1, 2], "frame": [3, 7, 0]})).tolist()
    [5, 1]
    """
    frames = tracks.groupby("track_id")["frame"]
    return (frames.max() - frames.min() + 1).to_numpy(dtype=np.int64)


def displacements_um(tracks: pd.DataFrame, lag: int = 1) -> np.ndarray:
    """Displacements (n, 3) along z, y, x over ``lag`` frames, µm; overlapping pairs all count."""
    rows = measured(tracks)
    start, end = _pairs(rows, lag)
    position = rows[POSITION_UM].to_numpy(np.float64)
    return position[end] - position[start]


def mean_squared_displacement(
    tracks: pd.DataFrame, interval_s: float, most_lags: int = MOST_LAGS
) -> MeanSquaredDisplacement:
    """Ensemble and time average over all tracks (Saxton & Jacobson 1997, Annu. Rev. Biophys. 26, 373).

    Pairs are taken together by the time between them, to the nearest whole interval: where the clock is even
    those that are equally many frames apart.

    Parameters
    ----------
    tracks
        Columns track_id, frame, time_s, z_um, y_um, x_um, gap.
    interval_s
        The usual interval between frames, s.
    most_lags
        Longest lag, intervals. Lags with fewer than 10 pairs are left out.
    """
    rows = measured(tracks)
    position, frame = rows[POSITION_UM].to_numpy(np.float64), rows["frame"].to_numpy(np.int64)
    seconds = rows["time_s"].to_numpy(np.float64)
    # Sums over the pairs of each lag: of time, frames, squared displacements, and their number.
    sums = np.zeros((4, most_lags + 1))
    for frames in range(1, int(np.ptp(frame)) + 1 if len(rows) else 1):
        start, end = _pairs(rows, frames)
        time = seconds[end] - seconds[start]
        lag = np.rint(time / interval_s).astype(np.int64)
        near = lag <= most_lags
        if len(lag) and not near.any():
            break
        squares = ((position[end] - position[start]) ** 2).sum(axis=1)
        for total, values in zip(sums, (time, np.full(len(lag), frames), squares, near), strict=True):
            total += np.bincount(lag[near], values[near], most_lags + 1)
    sums = sums[:, sums[3] >= FEWEST_PAIRS]
    time_s, between, msd_um2 = sums[:3] / sums[3]
    return MeanSquaredDisplacement(time_s, between, msd_um2, sums[3].astype(np.int64))


def fit_diffusion(msd: MeanSquaredDisplacement, dimensions: int = 3) -> Diffusion | None:
    """Fit a line with offset to the first quarter of the lags, at least five (Michalet 2010, Phys. Rev. E
    82, 041914: long lags are few and correlated, and the offset takes up the localisation error).

    Returns
    -------
    Diffusion or None
        None with fewer than five lags, or where nothing moves.
    """
    count = max(FEWEST_FIT_LAGS, len(msd.lag) // 4)
    if len(msd.lag) < FEWEST_FIT_LAGS or msd.msd_um2[:count].min() <= 0:
        return None
    time_s, value = msd.time_s[:count], msd.msd_um2[:count]
    # The relative error of a mean over overlapping pairs grows as the root of lag over pairs
    # (Qian, Sheetz & Elson 1991, Biophys. J. 60, 910).
    relative = np.sqrt(msd.lag[:count] / msd.pairs[:count])
    slope, offset = np.polyfit(time_s, value, 1, w=1 / (relative * value))
    exponent, _ = np.polyfit(np.log(time_s), np.log(value), 1, w=1 / relative)
    return Diffusion(float(slope / (2 * dimensions)), float(offset), float(exponent), count)


def _pairs(rows: pd.DataFrame, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of positions of one track that are ``lag`` frames apart; rows sorted by track and frame."""
    if rows.empty:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    _, number = np.unique(rows["track_id"].to_numpy(), return_inverse=True)
    frame = rows["frame"].to_numpy(np.int64)
    key = number * (frame.max() + lag + 1) + frame
    found = np.minimum(np.searchsorted(key, key + lag), len(key) - 1)
    start = np.flatnonzero(key[found] == key + lag)
    return start, found[start]
