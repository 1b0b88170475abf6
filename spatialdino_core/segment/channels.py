"""The linear filters behind detection: a few Gaussian channels, weighted sums of which make any blob filter.

A channel is the negative Laplacian of a Gaussian, a factor broader than the point spread function. Which
weights make a good detector is the business of :mod:`.observer`; what is searched for in its responses that
of :mod:`.blobs`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from spatialdino_core.segment.filters import TRUNCATE, smooth
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


def channel_responses(block: np.ndarray, sigma_voxels: np.ndarray) -> np.ndarray:
    """Responses of all channels.

    Parameters
    ----------
    block
        Intensities (z, y, x), float32, :func:`flattened`.
    sigma_voxels
        Standard deviations (z, y, x) of the point spread function in voxels.

    Returns
    -------
    numpy.ndarray
        Shape (channels, z, y, x), float32; scale-normalised (Lindeberg 1998, Int. J. Comput. Vis. 30, 79).
    """
    found = []
    for factor, step in zip(FACTORS, STEPS, strict=True):
        block = _gaussian(block, step * sigma_voxels)
        found.append(_laplacian(block, factor * sigma_voxels))
    return np.stack(found)


def weighted_response(
    images: Sequence[np.ndarray], weights: np.ndarray, sigma_voxels: np.ndarray
) -> np.ndarray:
    """Sum of all channels of all images, each with its weight, at the price of one image.

    Gaussians are smoothed Gaussians, so the sum is built from the broadest channel to the narrowest, as
    Horner's rule builds a polynomial, and the Laplacian is taken once.

    Parameters
    ----------
    images
        Arrays (z, y, x), float32, :func:`flattened`.
    weights
        Shape (images, channels).
    sigma_voxels
        Standard deviations (z, y, x) of the point spread function in voxels.

    Returns
    -------
    numpy.ndarray
        Response (z, y, x), float32: positive on bright blobs.
    """
    total = np.zeros_like(images[0])
    for channel in reversed(range(len(FACTORS))):
        for image, weight in zip(images, weights[:, channel], strict=True):
            total += np.float32(weight * FACTORS[channel] ** 2) * image
        total = _gaussian(total, STEPS[channel] * sigma_voxels)
    return _laplacian(total, sigma_voxels)


def blob_signature(factor: float, sigma_voxels: np.ndarray) -> np.ndarray:
    """Responses of the channels at the centre of a Gaussian blob of height 1, shape (channels,).

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
    profiles = [
        np.exp(-0.5 * (np.arange(-h, h + 1) / (factor * s)) ** 2)
        for h, s in zip(half, sigma_voxels, strict=True)
    ]
    blob = np.einsum("i,j,k->ijk", *profiles).astype(np.float32)
    responses = channel_responses(flattened(blob, None, sigma_voxels), sigma_voxels)
    return responses[:, half[0], half[1], half[2]].astype(np.float64)


def flattened(block: np.ndarray, valid: np.ndarray | None, sigma_voxels: np.ndarray) -> np.ndarray:
    """A block minus its mean over the surroundings, zero where there are no data.

    So neither the frame's border nor the fill of a deskewed frame is an edge to the filters, which may take
    everything outside as zero.

    Parameters
    ----------
    block
        Intensities (z, y, x), float32; zero where there are no data. Voxels beyond it count as invalid.
    valid
        Bool, broadcastable to ``block``, or None.
    sigma_voxels
        Standard deviations (z, y, x) of the point spread function in voxels.
    """
    flat = block - smooth(block, valid, MEAN_FACTOR * sigma_voxels)
    return flat if valid is None else np.where(valid, flat, np.float32(0))


def _gaussian(block: np.ndarray, sigma_voxels: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(block, sigma_voxels, mode="constant", truncate=TRUNCATE)


def _laplacian(block: np.ndarray, sigma_voxels: np.ndarray) -> np.ndarray:
    """Negative second differences along each axis, times its variance; zero beyond the block."""
    response = np.float32(2 * np.sum(sigma_voxels**2)) * block
    for axis, sigma in enumerate(sigma_voxels):
        along, result = np.moveaxis(block, axis, 0), np.moveaxis(response, axis, 0)
        result[1:] -= np.float32(sigma**2) * along[:-1]
        result[:-1] -= np.float32(sigma**2) * along[1:]
    return response
