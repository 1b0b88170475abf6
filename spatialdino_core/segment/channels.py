"""The linear filters behind detection: a few Gaussian channels, weighted sums of which make any blob filter.

A channel is the negative Laplacian of a Gaussian, a factor broader than the point spread function, of an
image minus its mean over the surroundings. Which weights make a good detector is the business of
:mod:`.observer`; how a frame is gone through that of :mod:`.sweep`; what is searched for in the responses
that of :mod:`.blobs`.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from spatialdino_core.segment.convolve import TRUNCATE, gaussian_weights
from spatialdino_core.segment.tiles import Triple

FACTORS = np.array([0.6, 1.0, 1.6, 2.4])
"""Standard deviations of the channels, as multiples of the point spread function's. Measured on simulated
movies, more channels separate particles from noise and texture no better than by 2 %."""
STEPS = np.sqrt(np.diff(FACTORS**2, prepend=0.0))
"""A Gaussian of one channel is that of the channel before, smoothed by this much more."""
MEAN_FACTOR = 4.0
"""Standard deviation of the mean that is subtracted, as a multiple of the point spread function's."""


def filter_halo(sigma_voxels: np.ndarray) -> Triple:
    """Voxels (z, y, x) around a voxel that its response depends on, that of the mean included."""
    reach = sum(np.ceil(TRUNCATE * step * sigma_voxels) for step in [*STEPS, MEAN_FACTOR]) + 1
    return int(reach[0]), int(reach[1]), int(reach[2])


def blob_signature(factor: float, sigma_voxels: np.ndarray) -> np.ndarray:
    """Responses of the channels at the centre of a Gaussian blob of height 1, shape (channels,).

    The blob, its mean and their Gaussians are products of one line per axis each, and so is all that is done.

    Parameters
    ----------
    factor
        Standard deviation of the blob, as a multiple of the point spread function's.
    sigma_voxels
        Standard deviations (z, y, x) of the point spread function in voxels.
    """
    half = [
        h + int(np.ceil(5 * factor * s)) for h, s in zip(filter_halo(sigma_voxels), sigma_voxels, strict=True)
    ]
    blob = [
        np.exp(-0.5 * (np.arange(-h, h + 1) / (factor * s)) ** 2)
        for h, s in zip(half, sigma_voxels, strict=True)
    ]
    wide = MEAN_FACTOR * sigma_voxels
    support = _smoothed([np.ones_like(line) for line in blob], wide)
    mean = [line / norm for line, norm in zip(_smoothed(blob, wide), support, strict=True)]
    found = []
    for channel, step in zip(FACTORS, STEPS, strict=True):
        blob, mean = (_smoothed(lines, step * sigma_voxels) for lines in (blob, mean))
        found.append(_laplacian(blob, channel * sigma_voxels) - _laplacian(mean, channel * sigma_voxels))
    return np.array(found)


def _smoothed(lines: list[np.ndarray], sigma_voxels: np.ndarray) -> list[np.ndarray]:
    return [
        ndimage.convolve1d(line, gaussian_weights(sigma), mode="constant")
        for line, sigma in zip(lines, sigma_voxels, strict=True)
    ]


def _laplacian(lines: list[np.ndarray], sigma_voxels: np.ndarray) -> float:
    """Negative second differences, times variances, in the middle of the product of three lines."""
    middle = [line[len(line) // 2] for line in lines]
    beside = [line[len(line) // 2 - 1] + line[len(line) // 2 + 1] for line in lines]
    curvature = [2 - b / m for b, m in zip(beside, middle, strict=True)]
    return float(np.prod(middle) * np.dot(sigma_voxels**2, curvature))
