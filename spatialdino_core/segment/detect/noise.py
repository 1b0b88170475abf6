"""Local noise of a filter response: a coarse mesh of robust standard deviations.

The noise is measured, not modelled: it comprises photon noise, camera noise, the correlations that deskewing
leaves, and whatever background texture survives the filter. Not the background itself: the filters of
:mod:`.blobs` remove it, and :mod:`..measure.localise` fits what is left under each particle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from spatialdino_core.segment.volume import Box, Triple, Volume, Voxel

LOWER_SIGMA_QUANTILE = 0.158655
"""Quantile of a normal distribution one standard deviation below its median."""
MIN_VALID_FRACTION = 0.2
"""Cells with fewer valid voxels borrow the noise of their nearest neighbour."""
FLOOR_FRACTION = 0.25
"""Least noise of a cell, relative to the frame's median: clipped or empty regions are not infinitely
quiet."""
NEIGHBOUR_PERCENTILE = 80
MIN_CELL_VOXELS = 256
"""Smaller cells would know their own noise too poorly."""
STRIDE = (1, 2, 2)
"""Neighbouring responses are correlated, so every other voxel tells as much for a quarter of the time."""


def mesh_cell(window_um: float, voxel_um: Voxel) -> Triple:
    """Shape of a mesh cell (z, y, x) in voxels: even numbers, so that strides agree between tiles.

    Cells are enlarged, if need be, to hold :data:`MIN_CELL_VOXELS` voxels.
    """
    least = (MIN_CELL_VOXELS * np.prod(voxel_um)) ** (1 / 3)
    window_um = max(window_um, float(least))
    edges = [2 * max(1, math.ceil(window_um / size / 2 - 1e-9)) for size in voxel_um]
    return edges[0], edges[1], edges[2]


@dataclass(frozen=True)
class NoiseMesh:
    """Standard deviation of a response on a coarse mesh.

    Attributes
    ----------
    sigma
        Array (cells z, cells y, cells x), float64, in units of the response; zeros where the whole frame is
        constant.
    cell
        Shape of one mesh cell (z, y, x) in voxels.
    """

    sigma: np.ndarray
    cell: Triple

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Noise at ``positions``, shape (n, 3), voxels (z, y, x); trilinear between cell centres."""
        coordinates = (positions + 0.5) / np.array(self.cell) - 0.5
        return ndimage.map_coordinates(self.sigma, coordinates.T, order=1, mode="nearest")


def empty_mesh(shape: Triple, cell: Triple) -> np.ndarray:
    """Array of NaN with one element per mesh cell, to be filled by :func:`fill_mesh` tile by tile."""
    return np.full([-(-n // c) for n, c in zip(shape, cell, strict=True)], np.nan)


def fill_mesh(mesh: np.ndarray, response: np.ndarray, volume: Volume, core: Box, cell: Triple) -> None:
    """Write the robust standard deviation of ``response`` into the cells of ``mesh`` that ``core`` covers.

    The estimate is the distance from the median to the 15.9 % quantile on either side, whichever is shorter:
    for normal noise the standard deviation, and blind to bright particles until they fill much of a cell. The
    lower side alone would be blind to bright blobs of noise, too, but not to dark ones, which then would look
    weaker.

    Parameters
    ----------
    mesh
        Array (cells z, cells y, cells x); changed in place.
    response
        Filter response (z, y, x) of every :data:`STRIDE`-th voxel in ``core``.
    volume
        The whole frame.
    core
        Box of voxels whose first corner lies on the mesh.
    cell
        Shape of one mesh cell (z, y, x) in voxels.
    """
    if volume.valid is not None:
        every = tuple(slice(None, None, step) for step in STRIDE)
        response = np.where(volume.known(core)[every], response, np.nan)
    strided = [-(-edge // step) for edge, step in zip(cell, STRIDE, strict=True)]
    cells = _cells_as_rows(response, strided)
    rows = cells.reshape(-1, cells.shape[-1])
    rows.sort(axis=1)
    count = np.sum(~np.isnan(rows), axis=1)
    middle = _quantile(rows, count, 0.5)
    lower = middle - _quantile(rows, count, LOWER_SIGMA_QUANTILE)
    upper = _quantile(rows, count, 1 - LOWER_SIGMA_QUANTILE) - middle
    spread = np.minimum(lower, upper)
    spread[count < MIN_VALID_FRACTION * np.prod(strided)] = np.nan
    corner = [part.start // c for part, c in zip(core, cell, strict=True)]
    box = tuple(slice(i, i + n) for i, n in zip(corner, cells.shape[:3], strict=True))
    mesh[box] = spread.reshape(cells.shape[:3])


def finish_mesh(mesh: np.ndarray, cell: Triple) -> NoiseMesh:
    """Fill empty cells from their nearest neighbour, apply a 3×3×3 percentile filter and the floor.

    The filtered mesh follows SExtractor's background map (Bertin & Arnouts 1996, A&AS 117, 393), with a
    percentile above the median: where quiet surroundings meet a textured cell, the noise of the cell
    counts.
    """
    empty = np.isnan(mesh)
    if empty.all():
        return NoiseMesh(np.zeros_like(mesh), cell)
    if empty.any():
        nearest = ndimage.distance_transform_edt(
            empty, sampling=cell, return_distances=False, return_indices=True
        )
        mesh = mesh[tuple(nearest)]
    smooth = ndimage.percentile_filter(mesh, NEIGHBOUR_PERCENTILE, size=3, mode="nearest")
    known = smooth > 0
    if known.any():
        smooth *= np.median(mesh[known] / smooth[known])  # in uniform noise, the percentile's own bias
    positive = smooth[smooth > 0]
    floor = FLOOR_FRACTION * float(np.median(positive)) if positive.size else 0.0
    return NoiseMesh(np.maximum(smooth, floor), cell)


def _cells_as_rows(response: np.ndarray, cell: Sequence[int]) -> np.ndarray:
    """Voxels of each cell, shape (cells z, cells y, cells x, voxels); NaN beyond the frame."""
    pad = [(0, -n % c) for n, c in zip(response.shape, cell, strict=True)]
    if any(high for _, high in pad):
        response = np.pad(response, pad, constant_values=np.nan)
    counts = [n // c for n, c in zip(response.shape, cell, strict=True)]
    split = response.reshape(counts[0], cell[0], counts[1], cell[1], counts[2], cell[2])
    return np.ascontiguousarray(split.transpose(0, 2, 4, 1, 3, 5)).reshape(*counts, -1)


def _quantile(rows: np.ndarray, count: np.ndarray, q: float) -> np.ndarray:
    """Quantile of the first ``count`` values of each sorted row (NaN sorts last)."""
    position = np.floor(q * np.maximum(count - 1, 0)).astype(np.intp)
    return rows[np.arange(len(rows)), position].astype(np.float64)
