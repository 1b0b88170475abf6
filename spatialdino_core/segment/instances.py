"""Instance labels: which voxels belong to which particle.

Foreground is what rises above a fraction of each particle's own height, in an image that is smoothed lightly
and, where a particle hardly stands out from noise and texture, drawn towards the shape of a point. It is
shared out between particles by a Voronoi partition in micrometres. Not the detection of particles, nor their
measurement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from spatialdino_core.segment.filters import TRUNCATE, load_block, psf_sigma_um, smooth, typical_level
from spatialdino_core.segment.inputs import Voxel
from spatialdino_core.segment.localise import Spots
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.tiles import TILE_VOXELS, Tile, Triple, tiles, valid_box

SMOOTHING = 0.7
"""Smoothing before the voxels are judged, in standard deviations of the point spread function."""
VARIETY = 0.1
"""Mean squared difference of objects' true shapes from points, in squared heights: the Wiener filter's."""
GRID: Triple = (1, 1, 1)
SEED_CHUNK = 2048
"""Spots whose surroundings are looked at together, which bounds memory."""


def label_spots(
    frame: np.ndarray,
    voxel_um: Voxel,
    valid: np.ndarray | None,
    spots: Spots,
    parameters: SegmentParameters,
    *,
    where: str,
    tile_voxels: int = TILE_VOXELS,
) -> np.ndarray:
    """Label the voxels of every spot.

    A voxel belongs to the spot whose centre is nearest in µm, if it lies within ``max_radius_um`` of it, is
    brighter than the spot's background plus ``mask_level`` times its height, and is connected
    (6-neighbours) to the spot's central voxel through such voxels. Every spot owns at least its central
    voxel, unless that is invalid or an earlier spot's.

    Brightness is judged after smoothing, at the level that leaves the outline of a point where it is
    without. A Wiener filter weighs it with the fitted point: ``g · measured + (1 − g) · point``, both in
    heights, where ``g = VARIETY / (VARIETY + mean squared difference of the two)``. A bright object is
    outlined as it is, one in noise as the point it was taken for.

    Parameters
    ----------
    frame
        Intensities (z, y, x), any real dtype.
    voxel_um
        Voxel size (z, y, x) in µm.
    valid
        Boolean mask broadcastable to ``frame``, or None.
    spots
        Fitted spots; those listed first win ties.
    parameters
        Optics, radius and mask level.
    where
        Name of the frame for error messages.
    tile_voxels
        Largest tile; memory only.

    Returns
    -------
    numpy.ndarray
        Labels (z, y, x), uint32: 0 is background, row i of ``spots`` is i + 1. Labels can be missing.
    """
    shape = frame.shape[0], frame.shape[1], frame.shape[2]
    labels = np.zeros(shape, np.uint32)
    if not len(spots.amplitude):
        return labels
    sigma = SMOOTHING * psf_sigma_um(parameters) / np.array(voxel_um)
    halo = np.ceil(TRUNCATE * sigma + 1).astype(int)
    level = typical_level(frame, valid)
    points = _Points.smoothed(spots, sigma, level)
    centre = _central_voxels(spots, shape)
    shared: list[tuple[np.ndarray, ...]] = []
    for tile in tiles(shape, GRID, (int(halo[0]), int(halo[1]), int(halo[2])), tile_voxels):
        nearby = _spots_near(tile, spots.position, parameters.max_radius_um / np.array(voxel_um))
        if not len(nearby):
            continue
        mean = smooth(load_block(frame, tile, valid, level, where), valid_box(valid, tile.outer), sigma)
        voxel, owner = _voronoi(tile, shape, nearby, spots.position, voxel_um, parameters.max_radius_um)
        index = np.unravel_index(voxel, shape)
        known = np.ones(len(voxel), bool) if valid is None else np.broadcast_to(valid, shape)[index]
        local = tuple(axis - part.start for axis, part in zip(index, tile.outer, strict=True))
        shared.append((voxel[known], owner[known], mean[local][known]))
    if shared:
        voxel, owner, value = (np.concatenate(column) for column in zip(*shared, strict=True))
        order = np.argsort(voxel)  # so that sums do not depend on the tiles
        voxel, owner, value = voxel[order], owner[order], value[order]
        places = np.stack(np.unravel_index(voxel, shape), axis=1)
        bright = points.outline(places, owner, value, parameters.mask_level) | (voxel == centre[owner])
        voxel, owner = _connected(voxel[bright], owner[bright], centre, shape)
        labels.reshape(-1)[voxel] = owner + 1
    return labels


@dataclass(frozen=True)
class _Points:
    """The fitted points in the smoothed image, one row each.

    ``position``, ``sigma`` (n, 3) in voxels; ``background``, ``height`` (n,) in counts of that image;
    ``widened`` (n,) is the part of a squared distance from the centre, in standard deviations, that smoothing
    leaves.
    """

    position: np.ndarray
    sigma: np.ndarray
    background: np.ndarray
    height: np.ndarray
    widened: np.ndarray

    @staticmethod
    def smoothed(spots: Spots, by: np.ndarray, level: float) -> _Points:
        """Points after a Gaussian filter of standard deviation ``by`` (3,) in voxels, less ``level``."""
        sigma = np.sqrt(spots.sigma**2 + by**2)
        height = spots.amplitude * np.prod(spots.sigma / sigma, axis=1)
        widened = ((spots.sigma / sigma) ** 2).mean(axis=1)
        return _Points(spots.position, sigma, spots.background - level, height, widened)

    def outline(
        self, places: np.ndarray, owner: np.ndarray, value: np.ndarray, mask_level: float
    ) -> np.ndarray:
        """Whether voxels ``places`` (v, 3) of brightness ``value`` belong to their ``owner``."""
        distance = ((places - self.position[owner]) / self.sigma[owner]) ** 2
        height = np.where(self.height > 0, self.height, np.inf)
        point = np.exp(-0.5 * distance.sum(axis=1))
        measured = (value - self.background[owner]) / height[owner]
        size = np.maximum(np.bincount(owner, minlength=len(height)), 1)
        noise = np.bincount(owner, (measured - point) ** 2, minlength=len(height)) / size
        gain = (VARIETY / (VARIETY + noise))[owner]
        # Where a point was as bright as mask_level, it is as bright as this after smoothing.
        return np.asarray(gain * measured + (1 - gain) * point > mask_level ** self.widened[owner])


def _central_voxels(spots: Spots, shape: Triple) -> np.ndarray:
    nearest = np.clip(np.round(spots.position).astype(np.intp), 0, np.array(shape) - 1)
    return np.ravel_multi_index(tuple(nearest.T), shape)


def _spots_near(tile: Tile, position: np.ndarray, reach: np.ndarray) -> np.ndarray:
    low = np.array([part.start for part in tile.core]) - reach
    high = np.array([part.stop - 1 for part in tile.core]) + reach
    return np.flatnonzero(((position >= low) & (position <= high)).all(axis=1))


def _voronoi(
    tile: Tile, shape: Triple, nearby: np.ndarray, position: np.ndarray, voxel_um: Voxel, radius_um: float
) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices, rising, of the core's voxels within reach of a spot, and the nearest spot of each."""
    around = _voxels_around(tile, shape, position[nearby], voxel_um, radius_um)
    voxel = np.unique(np.concatenate(list(around)))
    tree = cKDTree(position[nearby] * np.array(voxel_um))
    points = np.stack(np.unravel_index(voxel, shape), axis=1) * np.array(voxel_um)
    distance, index = tree.query(points, distance_upper_bound=radius_um)
    found = np.isfinite(distance)
    return voxel[found], nearby[index[found]]


def _voxels_around(
    tile: Tile, shape: Triple, position: np.ndarray, voxel_um: Voxel, radius_um: float
) -> Iterator[np.ndarray]:
    half = np.ceil(radius_um / np.array(voxel_um)).astype(np.intp)
    steps = np.stack(np.meshgrid(*(np.arange(-h, h + 1) for h in half), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    steps = steps[np.linalg.norm(np.maximum(np.abs(steps) - 0.5, 0) * voxel_um, axis=1) <= radius_um]
    low = np.array([part.start for part in tile.core])
    high = np.array([part.stop for part in tile.core])
    for start in range(0, len(position), SEED_CHUNK):
        centre = np.round(position[start : start + SEED_CHUNK]).astype(np.intp)
        around = (centre[:, None] + steps).reshape(-1, 3)
        around = around[((around >= low) & (around < high)).all(axis=1)]
        yield np.unique(np.ravel_multi_index(tuple(around.T), shape))


def _connected(
    voxel: np.ndarray, owner: np.ndarray, centre: np.ndarray, shape: Triple
) -> tuple[np.ndarray, np.ndarray]:
    """Keep, of each owner's voxels, rising, those connected to its central voxel."""
    coordinates = np.unravel_index(voxel, shape)
    rows, columns = [], []
    for axis, step in enumerate((shape[1] * shape[2], shape[2], 1)):
        neighbour = np.minimum(np.searchsorted(voxel, voxel + step), len(voxel) - 1)
        joined = (voxel[neighbour] == voxel + step) & (owner[neighbour] == owner)
        joined &= coordinates[axis] + 1 < shape[axis]
        rows.append(np.flatnonzero(joined))
        columns.append(neighbour[joined])
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(row), np.int8), (row, column)), shape=(len(voxel), len(voxel)))
    count, component = connected_components(graph, directed=False)
    is_centre = voxel == centre[owner]
    anchored = np.zeros(count, dtype=bool)
    anchored[component[is_centre]] = True
    keep = anchored[component]
    return voxel[keep], owner[keep]
