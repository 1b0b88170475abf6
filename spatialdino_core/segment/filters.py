"""Linear filters of a block: normalised smoothing, Laplacian of Gaussian, curvature, noise at borders.

Smoothing is a normalised convolution, so that neither the frame's border nor the fill around a deskewed frame
makes a response. What is searched for in the responses is the business of :mod:`.blobs`.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.tiles import Tile, valid_box

TRUNCATE = 4.0
"""Support of the Gaussian kernels in standard deviations."""
FILTER_TO_BLOB = np.sqrt(3 / 7)
"""Width of the Gaussian blob that is most significant at a filter's width, over the latter. The response
k² (σ² + k²)^(−5/2) over the noise of white noise, k^(−3/2), peaks at k² = 7/3 σ²."""
MIN_SUPPORT = 1e-3
"""Smoothed validity below which a voxel is too far from valid data to be extrapolated to."""


def psf_sigma_um(parameters: SegmentParameters) -> np.ndarray:
    """Standard deviations (z, y, x) of the point spread function in µm, shape (3,)."""
    return np.array([parameters.sigma_axial_um, parameters.sigma_lateral_um, parameters.sigma_lateral_um])


def smooth(block: np.ndarray, valid: np.ndarray | None, sigma_voxels: np.ndarray) -> np.ndarray:
    """Normalised convolution with a Gaussian (Knutsson & Westin 1993, CVPR, 515).

    Parameters
    ----------
    block
        Intensities (z, y, x), float32; zero wherever ``valid`` is false.
    valid
        Boolean mask broadcastable to ``block``, or None. Voxels beyond the block count as invalid.
    sigma_voxels
        Standard deviations (z, y, x) in voxels.

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
        reachable = masked >= MIN_SUPPORT
        mean *= np.where(reachable, 1 / np.maximum(masked, MIN_SUPPORT), 0).astype(np.float32)
    return mean


def log_response(mean: np.ndarray, sigma_voxels: np.ndarray) -> np.ndarray:
    """Scale-normalised negative Laplacian of the smoothed block ``mean``: positive on bright blobs.

    The derivative along each axis is a central second difference times the axis' variance (Lindeberg 1998,
    Int. J. Comput. Vis. 30, 79). Same shape and dtype as ``mean``.
    """
    response = np.zeros_like(mean)
    for axis, sigma in enumerate(sigma_voxels):
        weights = -np.array([1.0, -2.0, 1.0]) * sigma**2
        response += ndimage.correlate1d(mean, weights, axis=axis, mode="nearest")
    return response


def border_gain(
    shape: tuple[int, ...], valid: np.ndarray | None, sigma_voxels: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """Noise of the normalised mean at voxels ``at``, relative to that far from any border.

    White noise averaged with weights g over the valid voxels V has the variance Σ_V g² / (Σ_V g)²; the
    square of a Gaussian is a Gaussian narrower by √2.
    """
    index = tuple(at.T)
    wide, wide_mask = _support(shape, valid, sigma_voxels)
    narrow, narrow_mask = _support(shape, valid, sigma_voxels / np.sqrt(2))

    def sample(separable: list[np.ndarray], masked: np.ndarray | None) -> np.ndarray:
        factors = separable if masked is None else [*separable, masked]
        return np.prod([np.broadcast_to(factor, shape)[index] for factor in factors], axis=0)

    return np.sqrt(sample(narrow, narrow_mask)) / sample(wide, wide_mask)


def weakest_curvature(mean: np.ndarray, at: np.ndarray, sigma_voxels: np.ndarray) -> np.ndarray:
    """Smallest eigenvalue of the scale-normalised negative Hessian at voxels ``at``, shape (n,).

    A third of the Laplacian on a round blob, near zero on the edge of a cell, a filament or a membrane.
    """
    hessian = np.empty((len(at), 3, 3))
    unit = np.eye(3, dtype=np.intp)
    for a in range(3):
        hessian[:, a, a] = 2 * _beside(mean, at, 0 * unit[a]) - _both_sides(mean, at, unit[a])
        for b in range(a):
            mixed = _both_sides(mean, at, unit[a] + unit[b]) - _both_sides(mean, at, unit[a] - unit[b])
            hessian[:, a, b] = hessian[:, b, a] = -mixed / 4
    return np.linalg.eigvalsh(hessian * np.outer(sigma_voxels, sigma_voxels))[:, 0]


def slope(mean: np.ndarray, at: np.ndarray, sigma_voxels: np.ndarray) -> np.ndarray:
    """Length of the scale-normalised gradient at voxels ``at``, shape (n,): near zero on top of a blob."""
    steps = np.eye(3, dtype=np.intp)
    rise = [(_beside(mean, at, step) - _beside(mean, at, -step)) / 2 for step in steps]
    return np.linalg.norm(np.stack(rise, axis=1) * sigma_voxels, axis=1)


def _beside(mean: np.ndarray, at: np.ndarray, step: np.ndarray) -> np.ndarray:
    index = np.clip(at + step, 0, np.array(mean.shape) - 1)
    return mean[tuple(index.T)].astype(np.float64)


def _both_sides(mean: np.ndarray, at: np.ndarray, step: np.ndarray) -> np.ndarray:
    return _beside(mean, at, step) + _beside(mean, at, -step)


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
