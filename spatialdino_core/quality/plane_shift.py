"""By how much the image moves from one recorded plane to the next, and how sure that is.

From the correlations of ``plane_correlation.py``; whether the declared geometry agrees is judged in
``geometry_check.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter

from spatialdino_core.quality.plane_correlation import REACH, PlaneCorrelations
from spatialdino_core.statistics import MAD_TO_SIGMA

Vector = NDArray[np.float64]

GRID, FINE_GRID = 0.25, 0.125
"""Steps in which the peak is looked for and at, pixels."""
NEIGHBOURHOOD = 2.0
AWAY = 4.0
"""What lies so many standard deviations of the point from the peak tells how high chance gets."""


@dataclass(frozen=True)
class PlaneShift:
    """Shift of the image from one recorded plane to the next, pixels, as (y, x).

    Attributes
    ----------
    pixels
        The shift.
    error
        Its standard error, by the jackknife over parts of the stack.
    spread
        By how much other ways to measure it differ, beyond chance: near and far planes, sharp and all
        structures. Structures that are wide, or stand still, make them differ.
    prominence
        Height of the peak, in robust standard deviations of what is far from it.
    parts
        How many parts of the stack the error rests on.
    """

    pixels: Vector
    error: Vector
    spread: Vector
    prominence: float
    parts: int


def plane_shift(correlations: PlaneCorrelations) -> PlaneShift | None:
    """Measure the shift, on the sum of frames of one geometry.

    Returns
    -------
    PlaneShift or None
        None if nothing moves from plane to plane, or it moves further than is looked at.
    """
    weights, sigma = correlations.weights, correlations.sigma
    everything, sharp = (_Surface(own.astype(np.float64), weights) for own in correlations.maps)
    found = sharp.peak(sigma)
    if found is None:
        return None
    middle, prominence = found
    measured = sharp.refined(middle, weights)
    others = [everything.refined(middle, weights)]
    if len(weights) > 1:
        nearest, furthest = np.eye(len(weights))[[0, -1]]
        others += [sharp.refined(middle, nearest), sharp.refined(middle, furthest)]
    spread = np.max([_beyond_chance(one - measured) for one in others], axis=0)
    shift = PlaneShift(measured[0], _jackknife_error(measured), spread, prominence, len(measured) - 1)
    return shift if np.isfinite([shift.pixels, shift.error, shift.spread]).all() else None


class _Surface:
    """Sum over distances k of planes of their correlations at k times a shift, as a function of the shift."""

    def __init__(self, maps: NDArray[np.float64], weights: Vector) -> None:
        self.weights = weights
        total = maps.sum(axis=1, keepdims=True)
        # The whole first, then the whole without each part: what the jackknife looks at.
        self.splines = [
            [spline_filter(image, order=3) for image in np.concatenate([all_, all_ - parts])]
            for all_, parts in zip(total, maps, strict=True)
        ]

    def at(self, y: Vector, x: Vector, which: int, weights: Vector) -> NDArray[np.float64]:
        height = np.zeros(np.broadcast(y, x).shape)
        for k, (weight, images) in enumerate(zip(weights, self.splines, strict=True), start=1):
            if weight:
                places = np.broadcast_arrays(k * y + REACH, k * x + REACH)
                height += weight * map_coordinates(images[which], places, prefilter=False)
        return height

    def peak(self, sigma: float) -> tuple[Vector, float] | None:
        """Where the highest peak is, and how far it stands out; None at the edge of what is looked at."""
        reach = (REACH - 1) / len(self.weights)
        grid = GRID * np.arange(-math.floor(reach / GRID), math.floor(reach / GRID) + 1, dtype=np.float64)
        y, x = grid[:, None], grid[None]
        height = self.at(y, x, 0, self.weights)
        row, column = np.unravel_index(height.argmax(), height.shape)
        away = height[np.hypot(y - grid[row], x - grid[column]) > AWAY * sigma / min(2, len(self.weights))]
        noise = MAD_TO_SIGMA * float(np.median(np.abs(away - np.median(away)))) if away.size else 0.0
        last = len(grid) - 1
        if noise == 0 or row in (0, last) or column in (0, last):
            return None
        return np.array([grid[row], grid[column]]), float((height.max() - np.median(away)) / noise)

    def refined(self, middle: Vector, weights: Vector) -> NDArray[np.float64]:
        """The peak near a place, shape (1 + parts, 2): of all parts, and without each of them."""
        offsets = np.arange(-NEIGHBOURHOOD, NEIGHBOURHOOD + FINE_GRID / 2, FINE_GRID)
        y, x = middle[0] + offsets[:, None], middle[1] + offsets[None]
        return np.array(
            [
                middle + FINE_GRID * (_vertex(self.at(y, x, which, weights)) - len(offsets) // 2)
                for which in range(len(self.splines[0]))
            ]
        )


def _vertex(height: NDArray[np.float64]) -> Vector:
    """Row and column of the highest point: of the parabola through it and its neighbours, along each axis."""
    place = np.array(np.unravel_index(height.argmax(), height.shape))
    found = place.astype(np.float64)
    for axis in range(2):
        line = np.take(height, place[1 - axis], axis=1 - axis)
        if 0 < place[axis] < len(line) - 1:
            below, top, above = line[place[axis] - 1 : place[axis] + 2]
            found[axis] += 0.5 * (below - above) / (below - 2 * top + above)
    return found


def _jackknife_error(measured: NDArray[np.float64]) -> Vector:
    """Standard error from the values without each part, which follow that of all (Tukey 1958)."""
    without = measured[1:]
    n = len(without)
    return np.asarray(np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0)))


def _beyond_chance(difference: NDArray[np.float64]) -> Vector:
    """Size of a difference without what its own standard error explains."""
    return np.asarray(np.sqrt(np.maximum(difference[0] ** 2 - _jackknife_error(difference) ** 2, 0)))
