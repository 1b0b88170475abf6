"""The noise of a movie's camera, from the movie itself: variance against mean of neighbouring frames.

Shot noise grows with the light and read noise does not, so the variance of counts is a line over their mean
(Janesick 2007, Photon Transfer, SPIE, ch. 5), whose slope is the gain. Differences of neighbouring frames
show it where nothing moves; what moves is an outlier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, starmap
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spatialdino_core.errors import BadInputError
from spatialdino_core.statistics import MAD_TO_SIGMA

BINS = 40
"""Groups of voxels of similar brightness."""
NEIGHBOURS = 3
"""Pixels along y and x around a voxel whose mean says how bright it is there."""
LEAST_VOXELS = 200
"""A group with fewer has no reliable spread."""
LEAST_GAIN = 0.01
"""Counts per electron. Less is no camera's: then the light hardly varies, and says nothing of its noise."""
ROUNDING_VARIANCE = 1 / 12
"""Of whole counts."""


@dataclass(frozen=True)
class CameraNoise:
    """Variance of counts as a line over their mean.

    Attributes
    ----------
    gain
        Counts per photoelectron: the slope.
    intercept
        Variance (counts²) where the line meets a mean of 0: read noise minus what the offset feigns.
    """

    gain: float
    intercept: float

    def variance(self, counts: NDArray[Any] | float) -> NDArray[np.float64]:
        """Variance (counts²) of voxels with that mean, at least that of rounding."""
        line = self.gain * np.asarray(counts, np.float64) + self.intercept
        return np.asarray(np.maximum(line, ROUNDING_VARIANCE), np.float64)

    def shot_noise(self, light: NDArray[Any], generator: np.random.Generator) -> NDArray[np.float64]:
        """Light (counts, any shape) as the camera counts it: its own photon noise, and no other noise.

        Light that is added to an image whose noise is there already: photons of two sources are independent,
        and the sum of two Poisson variables is one.
        """
        electrons = generator.poisson(np.asarray(light, np.float64) / self.gain)
        return np.multiply(self.gain, electrons, dtype=np.float64)


def camera_noise(stacks: Sequence[NDArray[np.uint16]], name: str = "movie") -> CameraNoise:
    """Estimate from frames that follow one another.

    Parameters
    ----------
    stacks
        Raw frames (plane, y, x) of one channel, at least two, or a thin sample of each.
    name
        For error messages.

    Raises
    ------
    BadInputError
        If there are fewer than two frames, or they never differ.
    """
    if len(stacks) < 2:
        raise _no_noise(name, f"{len(stacks)} frame(s)")
    if all(np.array_equal(one, next_) for one, next_ in pairwise(stacks)):
        raise _no_noise(name, "frames that do not differ")
    mean, variance, weight = (
        np.concatenate(c) for c in zip(*starmap(_groups, pairwise(stacks)), strict=True)
    )
    if not (variance > 0).any():
        raise _no_noise(name, "frames of which hardly a voxel differs")
    gain, intercept = _robust_line(mean, variance, weight)
    return CameraNoise(max(gain, LEAST_GAIN), intercept)


def _groups(one: NDArray[np.uint16], next_: NDArray[np.uint16]) -> tuple[NDArray[np.float64], ...]:
    """Mean, variance and number of voxels of groups of similar brightness."""
    first, second = one.astype(np.float64), next_.astype(np.float64)
    mean, difference = ((first + second) / 2).ravel(), (second - first).ravel()
    # By the brightness around a voxel: by its own, groups would be made by noise, read noise included.
    around = ndimage.uniform_filter(first + second, (1, NEIGHBOURS, NEIGHBOURS)).ravel()
    edges = np.unique(np.quantile(around, np.linspace(0, 1, BINS + 1)))[1:-1]
    group = np.searchsorted(edges, around, side="right")
    found = [_spread(mean[group == g], difference[group == g]) for g in range(len(edges) + 1)]
    kept = np.array([row for row in found if row[2] >= LEAST_VOXELS]).reshape(-1, 3)
    return kept[:, 0], kept[:, 1], kept[:, 2]


def _spread(mean: NDArray[np.float64], difference: NDArray[np.float64]) -> tuple[float, float, int]:
    if not len(mean):
        return 0.0, 0.0, 0
    # Whole counts: their absolute deviations stand on few values, and between two of them is the median.
    dithered = difference + np.random.default_rng(0).uniform(-0.5, 0.5, len(difference))
    sigma = MAD_TO_SIGMA * np.median(np.abs(dithered - np.median(dithered)))
    return float(mean.mean()), max(float(sigma**2 - ROUNDING_VARIANCE) / 2, 0.0), len(mean)


def _robust_line(
    mean: NDArray[np.float64], variance: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[float, float]:
    """Slope and intercept, least squares with weights, then without groups in which something moves."""
    kept = np.ones(len(mean), bool)
    slope, intercept = 0.0, float(np.average(variance, weights=weight))
    for _ in range(3):
        if np.ptp(mean[kept]) > 0:
            # The spread of a variance grows with it, so the faint groups know the line best.
            scale = np.sqrt(weight[kept]) / np.maximum(variance[kept], variance[variance > 0].min())
            slope, intercept = np.polyfit(mean[kept], variance[kept], 1, w=scale).tolist()
        expected = np.maximum(slope * mean + intercept, ROUNDING_VARIANCE)
        ratio = variance / expected
        kept = ratio <= np.median(ratio) * 1.3
        if kept.sum() < 3:
            break
    return slope, intercept


def _no_noise(name: str, found: str) -> BadInputError:
    return BadInputError(
        name,
        found=found,
        expected="two frames that follow one another and differ by noise",
        remedy="The camera's noise cannot be told from less: give a longer movie, or leave the audit out.",
    )
