"""Gaussian models in boxes of voxels around many places at once: what fits of particles are built from.

Not the fits themselves: those are in :mod:`.localise` and :mod:`.pairs`.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

PLANE = 4
"""Terms of a background that is a plane."""
FADED = 3.0
"""Standard deviations from its centre at which the light of a neighbour has faded out."""
CHUNK_NUMBERS = 32_000_000
"""Numbers, of all terms of a model in all voxels of boxes, held at once, which bounds memory."""


def chunks(rows: np.ndarray, half: np.ndarray, terms: int) -> list[np.ndarray]:
    """``rows`` in parts whose boxes of half edges ``half`` (3,) are fitted at once with so many terms."""
    pieces = -(-len(rows) * int(np.prod(2 * half + 1)) * terms // CHUNK_NUMBERS)
    return np.array_split(rows, max(1, pieces))


def boxes(
    frame: np.ndarray, valid: np.ndarray | None, places: np.ndarray, half: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Voxel coordinates per axis (n, length), intensities and validity (n, z, y, x) around ``places``.

    Parameters
    ----------
    frame
        Intensities (z, y, x), any real dtype.
    valid
        Boolean mask broadcastable to ``frame``, or None.
    places
        Shape (n, 3), voxels (z, y, x).
    half
        Shape (3,): half edges of the boxes in voxels.
    """
    centre = np.round(places).astype(np.intp)
    axes = [centre[:, a, None] + np.arange(-half[a], half[a] + 1) for a in range(3)]
    inside = [(axis >= 0) & (axis < n) for axis, n in zip(axes, frame.shape, strict=True)]
    index = open_mesh([np.clip(axis, 0, n - 1) for axis, n in zip(axes, frame.shape, strict=True)])
    usable = inside[0][:, :, None, None] & inside[1][:, None, :, None] & inside[2][:, None, None, :]
    if valid is not None:
        usable &= np.broadcast_to(valid, frame.shape)[index]
    values = np.where(usable, frame[index], 0).astype(np.float64)
    return axes, values, usable


def subtract_mean(values: np.ndarray, usable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intensities (n, z, y, x) minus the mean of each box, zero where unusable; and the means (n,)."""
    values = np.where(usable, values, 0)
    level = values.sum(axis=(1, 2, 3)) / np.maximum(usable.sum(axis=(1, 2, 3)), 1)
    return np.where(usable, values - level[:, None, None, None], 0), level


def open_mesh(axes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per-axis values (n, length) made broadcastable to boxes (n, z, y, x)."""
    return axes[0][:, :, None, None], axes[1][:, None, :, None], axes[2][:, None, None, :]


def offsets(
    axes: list[np.ndarray], position: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances from ``position`` (n, 3) along each axis in units of ``sigma`` (n, 3), as an open mesh."""
    return open_mesh([(axis - position[:, a, None]) / sigma[:, a, None] for a, axis in enumerate(axes)])


def gaussian(axes: list[np.ndarray], position: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Gaussians of unit height in boxes, shape (n, z, y, x)."""
    z, y, x = (np.exp(-0.5 * offset**2) for offset in offsets(axes, position, sigma))
    return np.asarray(z * y * x)


def least_squares(design: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Coefficients (n, terms) of ``design`` (n, terms, voxels) that fit ``target`` (n, voxels) best."""
    normal = regularised(design @ design.transpose(0, 2, 1))
    return np.asarray(np.linalg.solve(normal, design @ target[:, :, None])[:, :, 0])


def regularised(normal: np.ndarray) -> np.ndarray:
    """Keep boxes that are mostly invalid solvable."""
    diagonal = np.arange(normal.shape[1])
    normal[:, diagonal, diagonal] = normal[:, diagonal, diagonal] * (1 + 1e-9) + 1e-9
    return normal


class Neighbours:
    """Pairs of blobs close enough to shine into each other's box, and the light they shed there.

    Parameters
    ----------
    position, sigma
        Shape (n, 3): centres and standard deviations of all blobs in voxels.
    amplitude
        Shape (n,): their heights.
    half
        Half edges of the box of each blob in voxels, (n, 3) or (3,).
    """

    def __init__(
        self, position: np.ndarray, sigma: np.ndarray, amplitude: np.ndarray, half: np.ndarray
    ) -> None:
        self.position, self.sigma, self.amplitude = position, sigma, amplitude
        half = np.broadcast_to(half, position.shape)
        reach = half.max(axis=0) + FADED * sigma.max(axis=0) + 1
        pairs = cKDTree(position / reach).query_pairs(np.sqrt(3), output_type="ndarray")
        both = np.concatenate([pairs, pairs[:, ::-1]]) if len(pairs) else np.empty((0, 2), np.intp)
        both = both[np.lexsort((both[:, 1], both[:, 0]))]
        apart = np.abs(position[both[:, 0]] - position[both[:, 1]])
        limit = half[both[:, 0]] + FADED * sigma[both[:, 1]] + 1
        self.pairs = both[(apart < limit).all(axis=1)]

    def light(self, rows: np.ndarray, axes: list[np.ndarray]) -> np.ndarray:
        """Sum of the neighbours' models in the boxes of ``rows``; ``axes`` are their voxels (n, length)."""
        total = np.zeros([len(rows), *(axis.shape[1] for axis in axes)])
        slot = np.full(len(self.amplitude), -1)
        slot[rows] = np.arange(len(rows))
        mine = self.pairs[slot[self.pairs[:, 0]] >= 0]
        pieces = 8 * len(mine) * int(np.prod(total.shape[1:])) // CHUNK_NUMBERS
        for part in np.array_split(mine, max(1, pieces)):
            target, source = slot[part[:, 0]], part[:, 1]
            shape = gaussian([axis[target] for axis in axes], self.position[source], self.sigma[source])
            np.add.at(total, target, self.amplitude[source, None, None, None] * shape)
        return total
