"""The point spread function in a frame's voxels, and the linear filters that detect blobs of its size.

A channel of the filters is the negative Laplacian of a Gaussian, a factor broader than the point spread
function, of an image minus its mean over the surroundings. Weighted sums of a few channels make any blob
filter: which weights make a good detector is the business of :mod:`.detect.observer`; how a frame is gone
through that of :mod:`.detect.sweep`; what is searched for in the responses that of :mod:`.detect.blobs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from spatialdino_core.segment.detect.convolve import TRUNCATE, gaussian_weights
from spatialdino_core.segment.detect.noise import mesh_cell
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.volume import Triple, Voxel

FACTORS = np.array([0.6, 1.0, 1.6, 2.4])
"""Standard deviations of the channels, as multiples of the point spread function's. Measured on simulated
movies, more channels separate particles from noise and texture no better than by 2 %."""
STEPS = np.sqrt(np.diff(FACTORS**2, prepend=0.0))
"""A Gaussian of one channel is that of the channel before, smoothed by this much more."""
MEAN_FACTOR = 4.0
"""Standard deviation of the mean that is subtracted, as a multiple of the point spread function's."""


@dataclass(frozen=True, eq=False)
class Optics:
    """What follows from the point spread function, the voxel size and the sizes that are searched for.

    Attributes
    ----------
    sigma_um, sigma_voxels
        Shape (3,): standard deviations (z, y, x) of the point spread function.
    size_factors
        Shape (sizes,): of the blobs that are searched for, as multiples of the point spread function.
    signatures
        Shape (sizes, channels): responses of the channels to a blob of each size.
    halo
        See :func:`filter_halo`.
    cell
        Voxels (z, y, x) of a cell in which noise is measured.
    """

    sigma_um: np.ndarray
    sigma_voxels: np.ndarray
    size_factors: np.ndarray
    signatures: np.ndarray
    halo: Triple
    cell: Triple

    @staticmethod
    @lru_cache(maxsize=8)  # the same for every frame, and signatures are as slow as filtering a small one
    def of(parameters: SegmentParameters, voxel_um: Voxel) -> Optics:
        """For frames with that voxel size."""
        psf, sizes = parameters.optics, parameters.size_factors
        sigma_um = np.array([psf.sigma_axial_um, psf.sigma_lateral_um, psf.sigma_lateral_um])
        sigma_voxels = sigma_um / np.array(voxel_um)
        signatures = np.stack([blob_signature(size, sigma_voxels) for size in sizes])
        arrays = sigma_um, sigma_voxels, np.array(sizes), signatures
        for one in arrays:
            one.flags.writeable = False
        cell = mesh_cell(parameters.noise_window_um, voxel_um)
        return Optics(*arrays, filter_halo(sigma_voxels), cell)


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
