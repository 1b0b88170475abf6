"""Where one series ends and another begins: stacks put one after the other, frames that take turns.

`spatialdino_core.quality.planes` finds what comes back. Two channels of which one follows the other in a
stack share nothing that could; but neighbours are alike everywhere, and strangers where the two meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from spatialdino_core.quality.planes import (
    BINNING,
    CHANNELS,
    LEAST_BLOCK_PIXELS,
    LEAST_BLOCKS,
    LEAST_LIKENESS,
    STANDARD_ERRORS,
    Covariance,
    Texture,
    grows_alike,
    largest_covariance,
    ratio,
)

FRAMES_IN_TURNS = 6
"""Frames in a row that tell whether up to four series take turns."""
LEAST_PLANES = 4  # of one of several stacks
LEAST_SHARE = 0.3  # of the variance of a plane that must be seen, or it does not tell
MOST_STRANGERS = 0.5  # likeness at a seam, of that of all other neighbours
LARGEST_LIKENESS = 0.5  # of neighbouring frames, of which it is worth asking whether they take turns


def likeness_of_neighbours(seen: Texture, shift_pixels: float = 0.0, axis: str = "x") -> Covariance:
    """Covariance of each plane and the next, relative to what the two have in detail.

    Parameters
    ----------
    seen
        Of a stack.
    shift_pixels, axis
        As of `spatialdino_core.quality.planes.returning`.

    Returns
    -------
    numpy.ndarray
        float64 (plane − 1, block); NaN where one of the two is too dim to tell.
    """
    count = len(seen.planes)
    if count < 2 * LEAST_PLANES or min(seen.planes.shape[1:]) < 2 * LEAST_BLOCK_PIXELS:
        return np.full((max(count - 1, 0), 1), np.nan)
    share = np.mean(seen.planes**2, axis=(1, 2)) - seen.noise / seen.units**2
    most = int(np.ceil(2 * shift_pixels / BINNING)) + 1 if shift_pixels else 0
    most = min(most, seen.planes.shape[2 if axis == "x" else 1] // 2)
    found = []
    for n, (one, other) in enumerate(pairwise(share)):
        power = float(np.sqrt(max(one, 0) * max(other, 0)))
        pair = seen.planes[n : n + 1], seen.planes[n + 1 : n + 2]
        covariance = largest_covariance(*pair, range(-most, most + 1), axis, power)
        found.append(covariance if min(one, other) >= LEAST_SHARE else np.full_like(covariance, np.nan))
    return np.stack(found)


def stacks_in_one(frames: Sequence[Covariance]) -> int | None:
    """Of how many stacks every stack of a movie is put together; ``None`` if it is one, or does not tell.

    Where two stacks meet, at one half, third or quarter of the planes, neighbours are strangers, and all
    others are alike. (Thin particles leave neighbours unlike anywhere.)

    Parameters
    ----------
    frames
        Of `likeness_of_neighbours`, of one movie.
    """
    if len({own.shape for own in frames}) > 1:
        return None
    every = np.stack(frames)
    told = np.isfinite(every[..., 0])
    tells = 2 * told.sum(axis=0) >= len(frames)
    pairs = np.where(told[..., None], every, 0).sum(axis=0) / np.maximum(told.sum(axis=0), 1)[:, None]
    count = len(pairs) + 1
    for parts in CHANNELS:
        depth = count // parts
        at = np.isin(np.arange(1, count), depth * np.arange(1, parts))
        others = tells & ~at
        if count % parts or depth < LEAST_PLANES or not tells[at].all() or 2 * others.sum() < count:
            continue
        beside = pairs[others].mean(axis=0)
        seam = ratio(pairs[at].mean(axis=0), beside)
        strangers = seam.value + STANDARD_ERRORS * seam.error < MOST_STRANGERS
        lowest = pairs[at].sum(axis=1).max() < MOST_STRANGERS * pairs[others].sum(axis=1).min()
        if lowest and strangers and beside.sum() >= LEAST_LIKENESS and seam.blocks >= LEAST_BLOCKS:
            return parts
    return None


def unlike(before: Texture, seen: Texture) -> bool:
    """Whether a frame has little of the frame before: it moves fast, or another series lies between."""
    if before.planes.shape != seen.planes.shape:
        return False
    return bool(_between([before, seen], 1).sum() < LARGEST_LIKENESS)


def in_turns(frames: Sequence[Texture]) -> int | None:
    """How many series take turns from frame to frame; ``None`` if it is one, or frames do not tell.

    Frames of one series grow the less alike the more time passes; those that are alike again are of another.

    Parameters
    ----------
    frames
        In a row, `FRAMES_IN_TURNS` of them.
    """
    shapes = {seen.planes.shape for seen in frames}
    if len(frames) < FRAMES_IN_TURNS or len(shapes) > 1 or min(*shapes.pop()[1:]) < 2 * LEAST_BLOCK_PIXELS:
        return None
    by_lag = {lag: _between(frames, lag) for lag in range(1, CHANNELS[-1] + 1)}
    for lag in CHANNELS:
        if all(grows_alike(by_lag[between], by_lag[lag]) for between in range(1, lag)):
            return lag
    return None


def _between(frames: Sequence[Texture], lag: int) -> Covariance:
    """Mean covariance of frames so far apart, plane by plane."""
    pairs = zip(frames[:-lag], frames[lag:], strict=True)
    return np.asarray(
        np.mean(
            [largest_covariance(a.planes, b.planes, [0], "x", (a.power + b.power) / 2) for a, b in pairs],
            axis=0,
        )
    )
