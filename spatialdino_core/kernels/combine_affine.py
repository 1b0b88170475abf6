"""Weighted sums of raw voxels where no axis is left alone: a channel that is registered by an affine.

The same orthogonal interpolation as in ``taps.py``, with the third axis interpolated, too, voxel by voxel: an
order of magnitude slower than ``combine.py``, and needed only for a registration that turns or scales.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.compiled import njit
from spatialdino_core.kernels.combine import Stack
from spatialdino_core.kernels.combine_cpu import _rounded
from spatialdino_core.kernels.taps import SNAP, cubic_weights

_cubic_weights = njit(nogil=True, inline="always")(cubic_weights)


def combine_affine(
    raw: Stack,
    matrix: NDArray[np.float64],
    shear: float,
    order: int,
    reversed_planes: bool,
    fill: int,
    shape: tuple[int, int, int],
    *,
    threads: int | None = None,
) -> NDArray[np.uint16]:
    """Resample one frame through an affine, on the CPU.

    Parameters
    ----------
    raw
        (planes, batch, pixels), uint16 or float32, any strides.
    matrix
        float64 (3, 4): from output indices (k, batch, i, 1) to plane number, batch position and pixel,
        planes ascending along their normal.
    shear
        Displacement of the next plane (pixels).
    order
        1: linear; 3: cubic.
    reversed_planes
        Whether the stack was recorded down the normal.
    fill
        Value of voxels outside the stack.
    shape
        Of the output (k, batch, i).

    Returns
    -------
    ndarray
        uint16 (k, batch, i).
    """
    out = np.empty(shape, np.uint16)
    workers = threads or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(workers) as pool:
        list(
            pool.map(
                lambda k: _row(raw, matrix, shear, order + 1, reversed_planes, fill, k, out[k]),
                range(shape[0]),
            )
        )
    return out


@njit(nogil=True, inline="always")
def _along(position: float, length: int, count: int, weight: Any) -> int:
    """First sample and ``count`` weights; linear next to the ends."""
    whole = int(np.floor(position + SNAP))
    f = position - whole
    if f < SNAP:
        f = 0.0
    if count == 4 and whole >= 1 and whole <= length - 3:
        weight[0], weight[1], weight[2], weight[3] = _cubic_weights(f)
        return whole - 1
    weight[:] = 0
    first = min(max(whole, 0), max(length - 2, 0))
    weight[0], weight[min(1, length - 1)] = 1 - (whole - first) - f, (whole - first) + f
    if length == 1:
        weight[0] = 1
    return first


@njit(nogil=True, cache=True)
def _row(
    raw: Any, matrix: Any, shear: float, count: int, reversed_planes: bool, fill: int, k: int, out: Any
) -> None:  # fmt: skip
    planes, batch, pixels = raw.shape
    across, along, beside = np.empty(count), np.empty(count), np.empty(count)
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            t = matrix[0, 0] * k + matrix[0, 1] * j + matrix[0, 2] * i + matrix[0, 3]
            b = matrix[1, 0] * k + matrix[1, 1] * j + matrix[1, 2] * i + matrix[1, 3]
            r = matrix[2, 0] * k + matrix[2, 1] * j + matrix[2, 2] * i + matrix[2, 3]
            out[j, i] = fill
            if t < -SNAP or t > planes - 1 + SNAP or b < -SNAP or b > batch - 1 + SNAP:
                continue
            if r < -SNAP or r > pixels - 1 + SNAP:
                continue
            first_plane = _planes(t, r, shear, planes, pixels, count, across)
            first_line = _along(b, batch, count, beside)
            total = 0.0
            for p in range(count):
                if across[p] == 0:
                    continue
                q = first_plane + p
                first = _along(r + (t - q) * shear, pixels, count, along)
                if reversed_planes:
                    q = planes - 1 - q
                for n in range(count):
                    if beside[n] != 0:
                        line = 0.0
                        for e in range(count):
                            if along[e] != 0:
                                line += along[e] * raw[q, first_line + n, first + e]
                        total += across[p] * beside[n] * line
            out[j, i] = _rounded(np.float32(total))


@njit(nogil=True, inline="always")
def _planes(t: float, r: float, shear: float, planes: int, pixels: int, count: int, weight: Any) -> int:
    """First plane and weights: cubic where all four were imaged, linear where both neighbours were,
    else the one that was."""
    whole = int(np.floor(t + SNAP))
    f = t - whole
    if f < SNAP:
        f = 0.0
    if count == 4:
        complete = whole >= 1 and whole <= planes - 3
        for q in range(whole - 1, whole + 3):
            position = r + (t - q) * shear
            complete = complete and position >= -SNAP and position <= pixels - 1 + SNAP
        if complete:
            return _along(t, planes, count, weight)
    below = r + (t - whole) * shear
    above = r + (t - whole - 1) * shear
    has_below = below >= -SNAP and below <= pixels - 1 + SNAP
    has_above = whole + 1 < planes and above >= -SNAP and above <= pixels - 1 + SNAP
    share = f if has_below and has_above else (0.0 if has_below else 1.0)
    weight[:] = 0
    weight[0] = 1 - share
    weight[1] = share
    return whole
