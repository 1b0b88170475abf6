"""Reading a block of a frame and smoothing it.

Smoothing is a normalised convolution, so that neither the frame's border nor the fill around a deskewed frame
counts. Not the filters that detect: those are in :mod:`.channels`.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.convolve import TRUNCATE
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.tiles import Tile, valid_box


def psf_sigma_um(parameters: SegmentParameters) -> np.ndarray:
    """Standard deviations (z, y, x) of the point spread function in µm, shape (3,)."""
    optics = parameters.optics
    return np.array([optics.sigma_axial_um, optics.sigma_lateral_um, optics.sigma_lateral_um])


def smooth(
    block: np.ndarray, valid: np.ndarray | None, sigma_voxels: np.ndarray, *, min_support: float = 1e-3
) -> np.ndarray:
    """Normalised convolution with a Gaussian (Knutsson & Westin 1993, CVPR, 515).

    Parameters
    ----------
    block
        Intensities (z, y, x), float32; zero wherever ``valid`` is false.
    valid
        Boolean mask broadcastable to ``block``, or None. Voxels beyond the block count as invalid.
    sigma_voxels
        Standard deviations (z, y, x) in voxels.
    min_support
        Smoothed validity below which a voxel is too far from valid data to be extrapolated to.

    Returns
    -------
    numpy.ndarray
        Weighted mean of the valid voxels around each voxel, float32; zero out of reach of valid voxels.
    """
    mean = ndimage.gaussian_filter(block, sigma_voxels, mode="constant", truncate=TRUNCATE)
    separable, masked = _support(block.shape, valid, sigma_voxels)
    for axis_support in separable:
        mean /= axis_support
    if masked is not None:
        reachable = masked >= min_support
        mean *= np.where(reachable, 1 / np.maximum(masked, min_support), 0).astype(np.float32)
    return mean


def load_block(
    frame: np.ndarray, tile: Tile, valid: np.ndarray | None, level: float, where: str
) -> np.ndarray:
    """One tile with its halo, float32, minus ``level`` (for precision); invalid voxels are zero."""
    block = frame[tile.outer].astype(np.float32) - np.float32(level)
    part = valid_box(valid, tile.outer)
    if part is not None:
        block = np.where(part, block, np.float32(0))
    if not np.isfinite(block).all():
        raise BadInputError(
            where,
            found="NaN or infinite intensities",
            expected="finite intensities in all valid voxels",
            remedy="Check the file and the stage that wrote it, or mark these voxels as invalid.",
        )
    return block


def typical_level(frame: np.ndarray, valid: np.ndarray | None) -> float:
    """A constant near the valid intensities, from a sparse sample: subtracting it saves float32 digits."""
    sparse = (slice(None, None, 4), slice(None, None, 8), slice(None, None, 8))
    sample = frame[sparse]
    if valid is not None:
        sample = sample[np.broadcast_to(valid, frame.shape)[sparse]]
    finite = sample[np.isfinite(sample)]
    return float(np.median(finite)) if finite.size else 0.0


def _support(
    shape: tuple[int, ...], valid: np.ndarray | None, sigma_voxels: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Smoothed validity: one broadcastable array per axis that the mask leaves whole, and the mask's own."""
    separable, full_axes = [], []
    for axis, n in enumerate(shape):
        if valid is not None and valid.shape[axis] == n and n > 1:
            full_axes.append(axis)
            continue
        ones = np.ones(n, np.float32)
        along = ndimage.gaussian_filter1d(ones, sigma_voxels[axis], mode="constant", truncate=TRUNCATE)
        separable.append(along.reshape([-1 if a == axis else 1 for a in range(3)]))
    if valid is None:
        return separable, None
    masked = valid.astype(np.float32)
    for axis in full_axes:
        masked = ndimage.gaussian_filter1d(
            masked, sigma_voxels[axis], axis, mode="constant", truncate=TRUNCATE
        )
    return separable, masked
