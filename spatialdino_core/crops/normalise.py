"""Robust intensity scale: histogram bounds after ImageJ's auto-contrast, applied with clipping.

One pair of bounds per movie, so that all frames, training and inference share one scale. Clipping is
what makes it robust: an affine map without it would be undone by any later minimum-maximum scaling.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.background import LEVELS, intensity_histogram


@dataclass(frozen=True)
class Bounds:
    """Camera counts that become 0 and 1."""

    low: float
    high: float


def bounds_of(voxels: Iterable[np.ndarray], parameters: NormalisationParameters) -> Bounds:
    """Bounds that leave ``tail_fraction`` of all voxels outside at each end.

    Parameters
    ----------
    voxels
        uint16 arrays of any shape; how the voxels are divided among them does not matter.

    Notes
    -----
    ImageJ's auto-contrast (ContrastAdjuster) looks for bins with more than N/5000 voxels. Here the
    tail is cumulative: single bins of a 65,536-bin histogram of a noisy stack all hold fewer.
    A hot voxel moves a bound by one rank, however bright it is.
    """
    histogram = np.zeros(LEVELS, np.int64)
    for part in voxels:
        histogram += intensity_histogram(part)
    total = histogram.sum()
    if total == 0:
        raise BadInputError(
            "normalisation", found="no valid voxel", expected="at least one", remedy="Reject the movie."
        )
    outside = parameters.tail_fraction * total
    low = int(np.searchsorted(np.cumsum(histogram), outside, side="right"))
    high = LEVELS - 1 - int(np.searchsorted(np.cumsum(histogram[::-1]), outside, side="right"))
    return Bounds(float(low), float(max(high, low + 1)))


def normalise(frame: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Scale camera counts to [0, 1], float32, clipped; same shape as ``frame``."""
    scaled = frame.astype(np.float32)
    scaled -= np.float32(bounds.low)
    scaled /= np.float32(bounds.high - bounds.low)
    return np.clip(scaled, 0, 1, out=scaled)
