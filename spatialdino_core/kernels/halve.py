"""Halving of images for multiscale pyramids, compiled with Numba: means of two voxels along chosen axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.compiled import njit


def halved(volume: NDArray[Any], factors: Sequence[int]) -> NDArray[np.float32]:
    """Block means of a volume.

    Parameters
    ----------
    volume
        (z, y, x), any real dtype.
    factors
        1 or 2 for each axis.

    Returns
    -------
    ndarray
        float32, of half the length (rounded up) where the factor is 2; a last block that is cut off by the
        border is the mean of what it holds.

    Examples
    --------
    >>> halved(np.arange(5.0).reshape(1, 1, 5), (1, 1, 2)).tolist()
    [[[0.5, 2.5, 4.0]]]
    """
    shape = tuple(-(-length // factor) for length, factor in zip(volume.shape, factors, strict=True))
    out = np.zeros(shape, np.float32)
    _add_blocks(np.ascontiguousarray(volume), factors[0], factors[1], factors[2], out)
    return out


@njit(nogil=True, cache=True)
def _add_blocks(volume: Any, fz: int, fy: int, fx: int, out: Any) -> None:
    depth, height, width = volume.shape
    for z in range(depth):
        for y in range(height):
            source, target = volume[z, y], out[z // fz, y // fy]
            if fx == 2:
                for x in range(width // 2):
                    target[x] += np.float32(source[2 * x]) + np.float32(source[2 * x + 1])
                if width % 2:
                    target[width // 2] += 2 * np.float32(source[width - 1])
            else:
                for x in range(width):
                    target[x] += np.float32(source[x])
    for z in range(out.shape[0]):
        planes = min(fz, depth - z * fz)
        for y in range(out.shape[1]):
            share = np.float32(1.0 / (planes * min(fy, height - y * fy) * fx))
            target = out[z, y]
            for x in range(out.shape[2]):
                target[x] *= share
