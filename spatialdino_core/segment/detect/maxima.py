"""Blob-like local maxima in rows of a filter response, compiled. How much they weigh is for :mod:`.blobs`.

Rows are kept in rings, as in :mod:`.convolve`.
"""

from __future__ import annotations

import numpy as np

from spatialdino_core.compiled import njit

MIN_CURVATURE = 0.1
"""Least curvature of the response along any direction, relative to the sum over three directions: 1/3 on a
round blob, 1/6 on one twice as long as wide, 0 on edges and ridges (the idea of Lowe 2004, Int. J. Comput.
Vis. 60, 91, section 4.1)."""
EXPECTED = 0.02
"""Maxima per voxel, for which there is room at first."""


def blob_maxima(
    ring: np.ndarray,
    rows: tuple[int, int],
    height: int,
    core: tuple[slice, slice],
    half: np.ndarray,
    sigma_voxels: np.ndarray,
    sign: int,
) -> np.ndarray:
    """Positive maxima of a response, or of its negative, that are round enough to be blobs.

    Parameters
    ----------
    ring
        Response (rows, z, x), float32; it holds ``rows`` and as many beside them as ``half`` asks for.
    rows
        Number of the first row to look at, and of the first one not to.
    height
        Rows of the frame.
    core
        Where to look along z and x.
    half
        No voxel so near along (z, y, x) is higher; at least 1 each.
    sigma_voxels
        Standard deviations (z, y, x) of the point spread function in voxels: the unit of curvatures' lengths.
    sign
        1, or -1 for maxima of the negative.

    Returns
    -------
    numpy.ndarray
        Positions (n, 3), intp: z, y, x; z and x counted from the ring's first ones.
    """
    depth, width = core
    box = np.array([depth.start, depth.stop, width.start, width.stop])
    room = 64 + int(EXPECTED * (rows[1] - rows[0]) * ring[0].size)
    while True:
        found = np.empty((room, 3), np.intp)
        count = _maxima(ring, *rows, height, box, half, sigma_voxels.astype(np.float64), float(sign), found)
        if count <= room:
            return found[:count]
        room = count


@njit(nogil=True, cache=True)
def _maxima(
    ring: np.ndarray,
    first: int,
    stop: int,
    height: int,
    box: np.ndarray,
    half: np.ndarray,
    sigma: np.ndarray,
    sign: float,
    found: np.ndarray,
) -> int:
    """Fill ``found`` as far as there is room; the number of all maxima."""
    size, deep, wide = ring.shape
    count, candidate = 0, np.zeros(wide, np.bool_)
    for y in range(first, stop):
        for z in range(box[0], box[1]):
            row = ring[y % size, z]
            _rise(
                row, sign, candidate,
                ring[y % size, max(z - 1, 0)], ring[y % size, min(z + 1, deep - 1)],
                ring[max(y - 1, 0) % size, z], ring[min(y + 1, height - 1) % size, z],
            )  # fmt: skip
            for x in range(box[2], box[3]):
                if not candidate[x]:
                    continue
                if not _is_highest(ring, z, y, x, height, half, sign):
                    continue
                if not _is_round(ring, z, y, x, height, sigma, sign):
                    continue
                if count < len(found):
                    found[count, 0], found[count, 1], found[count, 2] = z, y, x
                count += 1
    return count


@njit(nogil=True)
def _rise(row, sign, candidate, above, below, before, after) -> None:  # type: ignore[no-untyped-def]
    """Which voxels of a row are positive and no lower than their neighbours along each axis."""
    last = len(row) - 1
    candidate[0], candidate[last] = sign * row[0] > 0, sign * row[last] > 0
    for x in range(1, last):
        value = sign * row[x]
        candidate[x] = (
            (value > 0)
            & (value >= sign * row[x - 1])
            & (value >= sign * row[x + 1])
            & (value >= sign * above[x])
            & (value >= sign * below[x])
            & (value >= sign * before[x])
            & (value >= sign * after[x])
        )


@njit(nogil=True)
def _is_highest(ring, z, y, x, height, half, sign) -> bool:  # type: ignore[no-untyped-def]
    size, deep, wide = ring.shape
    value = sign * ring[y % size, z, x]
    for b in range(max(y - half[1], 0), min(y + half[1] + 1, height)):
        for a in range(max(z - half[0], 0), min(z + half[0] + 1, deep)):
            for c in range(max(x - half[2], 0), min(x + half[2] + 1, wide)):
                if sign * ring[b % size, a, c] > value:
                    return False
    return True


@njit(nogil=True)
def _is_round(ring, z, y, x, height, sigma, sign) -> bool:  # type: ignore[no-untyped-def]
    """Whether no eigenvalue of the negative Hessian is below a share of its trace (Sylvester's criterion)."""
    size, deep, wide = ring.shape
    za, zb = max(z - 1, 0), min(z + 1, deep - 1)
    ya, y0, yb = max(y - 1, 0) % size, y % size, min(y + 1, height - 1) % size
    xa, xb = max(x - 1, 0), min(x + 1, wide - 1)
    sz, sy, sx = sigma[0], sigma[1], sigma[2]
    middle = 2 * np.float64(ring[y0, z, x])
    zz = sign * sz * sz * (middle - ring[y0, za, x] - ring[y0, zb, x])
    yy = sign * sy * sy * (middle - ring[ya, z, x] - ring[yb, z, x])
    xx = sign * sx * sx * (middle - ring[y0, z, xa] - ring[y0, z, xb])
    one = np.float64(1)
    zy = sign * sz * sy / 4 * (one * ring[ya, zb, x] + ring[yb, za, x] - ring[ya, za, x] - ring[yb, zb, x])
    zx = (
        sign * sz * sx / 4 * (one * ring[y0, zb, xa] + ring[y0, za, xb] - ring[y0, za, xa] - ring[y0, zb, xb])
    )
    yx = sign * sy * sx / 4 * (one * ring[yb, z, xa] + ring[ya, z, xb] - ring[ya, z, xa] - ring[yb, z, xb])
    least = MIN_CURVATURE * (zz + yy + xx)
    zz, yy, xx = zz - least, yy - least, xx - least
    minor = zz * yy - zy * zy
    determinant = xx * minor - zz * yx * yx - yy * zx * zx + 2 * zy * zx * yx
    return least > 0 and zz > 0 and minor > 0 and determinant > 0
