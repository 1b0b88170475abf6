"""Resampling along one axis: which samples each output sample is made of, with which weights. In NumPy.

What resamples volumes on any device with these weights is `crops.resample`; bits are the same.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SAME_RATIO = 1e-6
TRUNCATE = 4.0  # standard deviations at which the smoothing kernel ends


class Taps(NamedTuple):
    """Weighted sum that makes each output sample: arrays (taps, samples)."""

    indices: NDArray[np.intp]
    weights: NDArray[np.float32]


def resampled_length(length: int, ratio: float) -> int:
    """Voxels of size ``ratio`` (in old voxels) whose centres lie within ``length`` old voxel centres."""
    return math.floor((length - 1) / ratio + SAME_RATIO) + 1


def resample_axis(
    volume: NDArray[Any], axis: int, ratio: float, *, start: float = 0.0, length: int | None = None
) -> NDArray[np.float32]:
    """Resample one axis; output index i is at input position ``start + i * ratio``.

    Shrinking axes are smoothed with a Gaussian of standard deviation √(ratio² − 1)/2 voxels first,
    which widens a voxel's response to about that of the larger voxel; edges are repeated.

    Parameters
    ----------
    volume
        Array of any real dtype.
    axis
        To resample.
    ratio
        New voxel size over the old one.
    start
        Where output index 0 lies (input voxels).
    length
        Number of output samples; by default those that lie within the input, counted from ``start`` 0.
    """
    count = resampled_length(volume.shape[axis], ratio) if length is None else length
    taps = axis_taps(0, count, volume.shape[axis], ratio, start)
    return _weigh(np.array(volume, np.float32), axis, taps)


def axis_taps(first: int, stop: int, length: int, ratio: float, origin: float = 0.0) -> Taps:
    """Smoothing by a Gaussian and linear interpolation of the smoothed samples, as one weighted sum."""
    if abs(ratio - 1) < SAME_RATIO:
        ratio = 1.0
    position = np.clip(origin + np.arange(first, stop) * ratio, 0, length - 1)
    lower = position.astype(np.intp)
    fraction = position - lower
    kernel = _gaussian(math.sqrt(ratio**2 - 1) / 2 if ratio > 1 else 0.0)
    weights = np.outer(np.append(kernel, 0), 1 - fraction) + np.outer(np.insert(kernel, 0, 0), fraction)
    reach = len(kernel) // 2
    indices = np.clip(lower + np.arange(-reach, reach + 2)[:, None], 0, length - 1)
    return Taps(indices, weights.astype(np.float32))


def _gaussian(sigma: float) -> NDArray[np.float64]:
    if sigma == 0:
        return np.ones(1)
    reach = int(TRUNCATE * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(kernel / kernel.sum())


def _weigh(volume: NDArray[np.float32], axis: int, taps: Taps) -> NDArray[np.float32]:
    """The weighted sums, multiplied and added in steps of their own: a fused step rounds otherwise."""
    if is_identity(taps, volume.shape[axis]):
        return volume
    along = [1] * volume.ndim
    along[axis] = -1
    total = volume.take(taps.indices[0], axis)
    total *= taps.weights[0].reshape(along)
    term = np.empty_like(total)
    for indices, weights in zip(taps.indices[1:], taps.weights[1:], strict=True):
        if weights.any():
            volume.take(indices, axis, out=term, mode="clip")
            term *= weights.reshape(along)
            total += term
    return total


def is_identity(taps: Taps, length: int) -> bool:
    """Whether the sums are the samples themselves."""
    return (
        np.array_equal(taps.indices[0], np.arange(length))
        and bool((taps.weights[0] == 1).all())
        and not taps.weights[1:].any()
    )
