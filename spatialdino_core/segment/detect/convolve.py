"""Gaussians along each axis and second differences, row by row: the arithmetic of :mod:`..optics`, compiled.

A row of a frame is a plane (z, x). Of all rows only the newest are kept, in rings: row y lies in
``ring[y % len(ring)]``. So what one step leaves is still in the processor's cache when the next one needs it.
Everything beyond the frame is zero. A value is summed up in the same order whatever is computed beside it, so
it has the same bits however a frame is cut. All arrays are float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spatialdino_core.compiled import njit

TRUNCATE = 4.0
"""Support of the Gaussian kernels in standard deviations."""


def gaussian_weights(sigma: float) -> np.ndarray:
    """A Gaussian of standard deviation ``sigma``, cut at :data:`TRUNCATE`: (2 · reach + 1,), float32."""
    reach = int(TRUNCATE * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return (weights / weights.sum()).astype(np.float32)


@njit(nogil=True, fastmath={"contract"})
def _weigh_four(out: Any, rows: Any, w: Any, k: int) -> None:
    """Add each of four rows to each of four sums, its weight ``w[k + 3 + row - sum]``."""
    out0, out1, out2, out3 = out
    row0, row1, row2, row3 = rows
    w0, w1, w2, w3, w4, w5, w6 = w[k], w[k + 1], w[k + 2], w[k + 3], w[k + 4], w[k + 5], w[k + 6]
    for i in range(len(out0)):
        a, b, c, d = row0[i], row1[i], row2[i], row3[i]
        out0[i] = (((out0[i] + w3 * a) + w4 * b) + w5 * c) + w6 * d
        out1[i] = (((out1[i] + w2 * a) + w3 * b) + w4 * c) + w5 * d
        out2[i] = (((out2[i] + w1 * a) + w2 * b) + w3 * c) + w4 * d
        out3[i] = (((out3[i] + w0 * a) + w1 * b) + w2 * c) + w3 * d


@njit(nogil=True, cache=True, fastmath={"contract"})
def smooth_rows(
    source: np.ndarray, ring: np.ndarray, first: int, stop: int, height: int, weights: np.ndarray
) -> None:
    """Rows ``first`` to ``stop`` of a frame with ``height`` rows, smoothed along the rows.

    Four rows at a time: each row that is read then serves four.

    Parameters
    ----------
    source, ring
        Rings (rows, z, x): what is smoothed, and where the result goes.
    first, stop, height
        Numbers of rows.
    weights
        Shape (2 · reach + 1,); see :func:`gaussian_weights`.
    """
    reach, size, wide = len(weights) // 2, len(source), source.shape[2]
    fours = (2 * reach + 7) // 4
    spread = np.zeros(4 * fours + 6, np.float32)
    for k in range(len(weights)):
        spread[3 + k] = weights[k]
    nothing, spare = np.zeros(wide, np.float32), np.zeros(wide, np.float32)
    place = np.full(stop - first + 4 * fours + 4, -1)
    for k in range(len(place)):
        y = first - reach + k
        if 0 <= y < height:
            place[k] = y % size
    for z in range(source.shape[1]):
        for y in range(first, stop, 4):
            out0 = ring[y % len(ring), z]
            out1 = ring[(y + 1) % len(ring), z] if y + 1 < stop else spare
            out2 = ring[(y + 2) % len(ring), z] if y + 2 < stop else spare
            out3 = ring[(y + 3) % len(ring), z] if y + 3 < stop else spare
            for i in range(wide):
                out0[i] = out1[i] = out2[i] = out3[i] = np.float32(0)
            for k in range(0, 4 * fours, 4):
                p = y - first + k
                p0, p1, p2, p3 = place[p], place[p + 1], place[p + 2], place[p + 3]
                if max(p0, p1, p2, p3) < 0:
                    continue
                row0 = source[p0, z] if p0 >= 0 else nothing
                row1 = source[p1, z] if p1 >= 0 else nothing
                row2 = source[p2, z] if p2 >= 0 else nothing
                row3 = source[p3, z] if p3 >= 0 else nothing
                _weigh_four((out0, out1, out2, out3), (row0, row1, row2, row3), spread, k)


@njit(nogil=True, cache=True, fastmath={"contract"})
def smooth_x(source: np.ndarray, out: np.ndarray, weights: np.ndarray) -> None:
    """A plane (z, x) smoothed along x, into ``out``."""
    deep, wide = source.shape
    reach = len(weights) // 2
    fours = max(1, (reach + 3) // 4)
    side = np.zeros(4 * fours, np.float32)
    for j in range(reach):
        side[j] = weights[reach + 1 + j]
    margin, middle = len(side), weights[reach]
    padded = np.zeros(wide + 2 * margin, np.float32)
    for z in range(deep):
        row, result = source[z], out[z]
        for i in range(wide):
            padded[margin + i] = row[i]
            result[i] = middle * row[i]
        for j in range(0, margin, 4):
            low, high = padded[margin - j - 4 :], padded[margin + j + 1 :]
            w0, w1, w2, w3 = side[j], side[j + 1], side[j + 2], side[j + 3]
            for i in range(wide):
                result[i] += (
                    w0 * (low[i + 3] + high[i])
                    + w1 * (low[i + 2] + high[i + 1])
                    + w2 * (low[i + 1] + high[i + 2])
                    + w3 * (low[i] + high[i + 3])
                )


@njit(nogil=True, cache=True, fastmath={"contract"})
def add_scaled(total: np.ndarray, plane: np.ndarray, factor: np.float32) -> None:
    """Add ``factor`` times a plane (z, x) to another."""
    for z in range(len(total)):
        row, other = total[z], plane[z]
        for i in range(len(row)):
            row[i] += factor * other[i]


@njit(nogil=True, cache=True, fastmath={"contract"})
def laplacian(
    source: np.ndarray, ring: np.ndarray, first: int, stop: int, height: int, variance: np.ndarray
) -> None:
    """Negative second differences along each axis, times ``variance`` (z, y, x), of rows of a frame."""
    size, deep, wide = source.shape
    for y in range(first, stop):
        for z in range(deep):
            row, out = source[y % size, z], ring[y % len(ring), z]
            for i in range(wide):
                out[i] = np.float32(2) * (variance[0] + variance[1] + variance[2]) * row[i]
            for side in (-1, 1):
                if 0 <= z + side < deep:
                    beside = source[y % size, z + side]
                    for i in range(wide):
                        out[i] -= variance[0] * beside[i]
                if 0 <= y + side < height:
                    beside = source[(y + side) % size, z]
                    for i in range(wide):
                        out[i] -= variance[1] * beside[i]
            for i in range(wide - 1):
                out[i] -= variance[2] * row[i + 1]
            for i in range(1, wide):
                out[i] -= variance[2] * row[i - 1]
