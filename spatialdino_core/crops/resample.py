"""Resampling to isotropic voxels: separable linear interpolation in physical coordinates.

Voxel 0 is centred at 0 µm before and after, so positions in µm do not move. Axes that shrink are
smoothed first (anti-aliasing).
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d


def resampled_length(length: int, ratio: float) -> int:
    """Voxels of size ``ratio`` (in old voxels) whose centres lie within ``length`` old voxel centres."""
    return int(np.floor((length - 1) / ratio + 1e-6)) + 1


def resample_isotropic(
    frame: np.ndarray, voxel_um: tuple[float, float, float], target_um: float
) -> np.ndarray:
    """Resample a volume to cubic voxels.

    Parameters
    ----------
    frame
        (z, y, x) float32.
    voxel_um
        Its voxel size (z, y, x), µm.
    target_um
        Wanted voxel size, µm.

    Returns
    -------
    numpy.ndarray
        float32; index i along an axis is at i · ``target_um``.
    """
    result = frame
    for axis, size in enumerate(voxel_um):
        result = resample_axis(result, axis, target_um / size)
    return np.ascontiguousarray(result, np.float32)


def resample_axis(volume: np.ndarray, axis: int, ratio: float) -> np.ndarray:
    """Resample one axis; output index i is at input position i · ``ratio``.

    Shrinking axes are smoothed with a Gaussian of standard deviation √(ratio² − 1)/2 voxels first,
    which widens a voxel's response to about that of the larger voxel; edges are repeated.
    """
    if abs(ratio - 1) < 1e-6:
        return volume
    if ratio > 1:
        volume = gaussian_filter1d(volume, np.sqrt(ratio**2 - 1) / 2, axis=axis, mode="nearest")
    position = np.arange(resampled_length(volume.shape[axis], ratio)) * ratio
    lower = np.minimum(position.astype(int), max(volume.shape[axis] - 2, 0))
    upper = np.minimum(lower + 1, volume.shape[axis] - 1)
    weight = (
        (position - lower).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(volume.ndim)])
    )
    return volume.take(lower, axis) * (1 - weight) + volume.take(upper, axis) * weight
