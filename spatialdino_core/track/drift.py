"""What all objects of a movie share: drift and jumps of the sample, bleaching and flicker of the light."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree

from spatialdino_core.statistics import MAD_TO_SIGMA
from spatialdino_core.track.objects import Array, Index, Objects

FEWEST = 8
"""Fewer links say nothing about what is shared by all."""
SIGNIFICANCE = 4.0
"""Standard errors; one frame in thousands is corrected without need."""
JUMP_REACHES = 5.0
"""Jumps of the whole sample are looked for this many reaches far."""


def shared_change(frame: Index, changes: Array, steps: Array) -> Array:
    """Change of position, or of log-brightness, that all links of a frame share, summed up over the movie.

    The median of all links, and of each frame what differs from it, each only where it is significant:
    otherwise the motion of a few particles would pass for that of the sample.

    Parameters
    ----------
    frame
        (L,) later frame of each link of neighbouring frames.
    changes
        (L, K) changes over the links.
    steps
        (frames,) what a steady change is proportional to: the time since the frame before, or 1.

    Returns
    -------
    numpy.ndarray
        (frames, K), 0 in the first frame.
    """
    frames = len(steps)
    per_frame = np.zeros((frames, changes.shape[1]))
    overall = _significant(changes / steps[frame][:, None])
    per_frame[1:] = overall * steps[1:, None]
    changes = changes - overall * steps[frame][:, None]
    order = np.argsort(frame, kind="stable")
    limits = np.searchsorted(frame[order], np.arange(frames + 1))
    for t in range(1, frames):
        per_frame[t] += _significant(changes[order[limits[t] : limits[t + 1]]])
    return per_frame.cumsum(axis=0)


def _significant(changes: Array) -> Array:
    """Median of each column where it differs from 0 by enough standard errors, else 0."""
    if len(changes) < FEWEST:
        return np.zeros(changes.shape[1])
    middle = np.median(changes, axis=0)
    spread = MAD_TO_SIGMA * np.median(np.abs(changes - middle), axis=0)
    error = 1.2533 * spread / np.sqrt(len(changes))
    return np.where(np.abs(middle) > SIGNIFICANCE * error, middle, 0.0)


def sample_jumps(objects: Objects, reach_um: float) -> Array:
    """Jumps of the whole sample between frames, farther than particles go, summed up over the movie.

    Of all shifts between two neighbouring frames the one is taken under which most objects find another
    one, if they are far more than without a shift and at least half of all.

    Returns
    -------
    numpy.ndarray
        (frames, 3) position of the sample (µm), 0 in the first frame.
    """
    moved = np.zeros((objects.frames, 3))
    limits, filled = objects.limits, np.flatnonzero(objects.filled)
    for before, after in pairwise(filled):
        first, second = (objects.position_um[limits[t] : limits[t + 1]] for t in (before, after))
        # Over a long step the particles of a sample scatter, as diffusion has it.
        steps = after - before
        apart = np.sqrt(max((objects.times[after] - objects.times[before]) / steps, 1.0))
        moved[after] = _jump(first, second, reach_um, float(apart * reach_um))
    return moved.cumsum(axis=0)


def _jump(first: Array, second: Array, reach_um: float, scatter_um: float) -> Array:
    fewer = min(len(first), len(second))
    # With most particles within reach of where they were, nothing has jumped.
    settled = (cKDTree(second).query(first, distance_upper_bound=scatter_um / 2)[0] < np.inf).sum()
    if fewer < FEWEST or settled > 0.5 * fewer:
        return np.zeros(3)
    near = cKDTree(first).sparse_distance_matrix(
        cKDTree(second), JUMP_REACHES * reach_um, output_type="ndarray"
    )
    shifts = second[near["j"]] - first[near["i"]]
    if len(shifts) == 0:
        return np.zeros(3)
    tree = cKDTree(shifts)
    support = tree.query_ball_point(shifts, scatter_um / 4, return_length=True)
    best = int(np.argmax(support))
    if support[best] < 0.5 * fewer:
        return np.zeros(3)
    return np.asarray(np.median(shifts[tree.query_ball_point(shifts[best], scatter_um / 4)], axis=0))
