"""Blob detection: multi-scale Laplacian of Gaussian, its local maxima, and their z-scores.

The Laplacian is blind to constant and linear background. Not the decision which maxima are particles: that
needs the calibrated threshold of :mod:`.calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from spatialdino_core.segment.filters import (
    TRUNCATE,
    border_gain,
    load_block,
    log_response,
    psf_sigma_um,
    slope,
    smooth,
    typical_level,
    weakest_curvature,
)
from spatialdino_core.segment.inputs import Voxel
from spatialdino_core.segment.noise import NoiseMesh, empty_mesh, fill_mesh, finish_mesh, mesh_cell
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.tiles import TILE_VOXELS, Tile, Triple, tiles, valid_box

Maxima = tuple[np.ndarray, np.ndarray]
"""Positions (n, 3) in voxels and responses (n,) of the maxima at one scale in one tile."""

SUPPRESSION = 1.5
"""Of two maxima closer than this many standard deviations of the broader blob only the more significant
stays; two equal Gaussian spots merge into one maximum below two standard deviations (Sparrow's limit)."""
MIN_CURVATURE = 0.15
"""Least curvature along any direction, relative to the sum over three directions: 1/3 on a round blob, 1/6
on one twice as long as wide, 0 on edges and ridges (the idea of Lowe 2004, Int. J. Comput. Vis. 60, 91,
section 4.1)."""
MAX_SLOPE = 0.5
"""Greatest slope at a maximum of the response, relative to it: 0 on top of a blob, about 1 beside an edge."""
MIN_SIGNIFICANCE = 2.0
"""Maxima below this z-score are never particles nor informative about the tail of the noise."""


@dataclass(frozen=True)
class Peaks:
    """Local maxima of the response in one frame, one row each, the most significant first.

    Attributes
    ----------
    position
        Shape (n, 3), float64, voxels (z, y, x); whole numbers.
    z_score
        Shape (n,): response over its local noise.
    scale
        Shape (n,), intp: index into ``SegmentParameters.scale_factors``.
    """

    position: np.ndarray
    z_score: np.ndarray
    scale: np.ndarray

    def __len__(self) -> int:
        return len(self.z_score)

    def keep(self, rows: np.ndarray) -> Peaks:
        """The peaks that ``rows``, a boolean mask or indices, selects."""
        return Peaks(self.position[rows], self.z_score[rows], self.scale[rows])


def find_peaks(
    frame: np.ndarray,
    voxel_um: Voxel,
    valid: np.ndarray | None,
    parameters: SegmentParameters,
    *,
    where: str,
    with_dark: bool = False,
    tile_voxels: int = TILE_VOXELS,
) -> tuple[Peaks, Peaks]:
    """Bright blobs of a frame and, on request, the dark ones that tell how noise behaves.

    Parameters
    ----------
    frame
        Intensities (z, y, x), any real dtype.
    voxel_um
        Voxel size (z, y, x) in µm.
    valid
        Boolean mask broadcastable to ``frame``, e.g. (z, 1, x), or None.
    parameters
        Optics, scales and the noise window.
    where
        Name of the frame for error messages.
    with_dark
        Whether to look for dark blobs as well.
    tile_voxels
        Largest tile; memory only.

    Returns
    -------
    bright, dark
        Maxima of the response and of its negative, at least :data:`MIN_SIGNIFICANCE` significant. Without
        ``with_dark`` there are no dark ones.

    Raises
    ------
    BadInputError
        If a valid voxel is NaN or infinite.
    """
    sigmas = np.outer(parameters.scale_factors, psf_sigma_um(parameters)) / np.array(voxel_um)
    shape = _triple(frame.shape)
    cell = mesh_cell(parameters.noise_window_um, voxel_um)
    half = np.maximum(1, np.round(sigmas[0])).astype(int)
    halo = np.ceil(TRUNCATE * sigmas.max(axis=0) + 1.5 + half).astype(int)
    level = typical_level(frame, valid)
    meshes = [empty_mesh(shape, cell) for _ in sigmas]
    signs = (1, -1) if with_dark else (1,)
    found: list[list[list[Maxima]]] = [[[] for _ in sigmas] for _ in signs]
    for tile in tiles(shape, cell, _triple(halo), tile_voxels):
        block = load_block(frame, tile, valid, level, where)
        part = valid_box(valid, tile.outer)
        for scale, sigma in enumerate(sigmas):
            mean = smooth(block, part, sigma)
            response = log_response(mean, sigma)
            fill_mesh(meshes[scale], response[tile.inner], valid, tile.core, cell)
            for sign, lists in zip(signs, found, strict=True):
                lists[scale].append(_tile_maxima(sign * response, sign * mean, part, tile, half, sigma))
    noise = [finish_mesh(mesh, cell) for mesh in meshes]
    spacing = psf_sigma_um(parameters) / np.array(voxel_um)
    peaks = [_peaks(lists, noise, spacing, parameters.scale_factors) for lists in found]
    return (peaks[0], peaks[1]) if with_dark else (peaks[0], peaks[0].keep(np.empty(0, np.intp)))


def suppress(position: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Greedy non-maximum suppression of rows sorted by falling significance.

    Parameters
    ----------
    position
        Shape (n, 3) in any unit.
    radius
        Shape (n,), same unit. Of two rows closer than the larger of their radii the first stays.

    Returns
    -------
    numpy.ndarray
        Boolean mask of the rows that stay, shape (n,).
    """
    stays = np.ones(len(position), dtype=bool)
    if len(position) < 2:
        return stays
    pairs = cKDTree(position).query_pairs(float(radius.max()), output_type="ndarray")
    distance = np.linalg.norm(position[pairs[:, 0]] - position[pairs[:, 1]], axis=1)
    pairs = np.sort(pairs[distance < np.maximum(radius[pairs[:, 0]], radius[pairs[:, 1]])], axis=1)
    for first, second in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].tolist():
        if stays[first]:
            stays[second] = False
    return stays


def _triple(values: np.ndarray | tuple[int, ...]) -> Triple:
    return int(values[0]), int(values[1]), int(values[2])


def _tile_maxima(
    response: np.ndarray,
    mean: np.ndarray,
    valid: np.ndarray | None,
    tile: Tile,
    half: np.ndarray,
    sigma_voxels: np.ndarray,
) -> Maxima:
    """Positive blob-like maxima in the tile's core: positions in the frame, and response over border gain."""
    is_peak = response == ndimage.maximum_filter(response, size=tuple(2 * half + 1), mode="nearest")
    is_peak &= response > 0
    if valid is not None:
        is_peak &= valid
    inside = np.argwhere(is_peak[tile.inner]) + [part.start for part in tile.inner]
    height = response[tuple(inside.T)]
    is_blob = weakest_curvature(mean, inside, sigma_voxels) >= MIN_CURVATURE * height
    inside = inside[is_blob & (slope(mean, inside, sigma_voxels) <= MAX_SLOPE * height)]
    value = response[tuple(inside.T)] / border_gain(response.shape, valid, sigma_voxels, inside)
    return inside + np.array([part.start for part in tile.outer]), value


def _peaks(
    lists: list[list[Maxima]],
    noise: list[NoiseMesh],
    spacing: np.ndarray,
    factors: tuple[float, ...],
) -> Peaks:
    """Join the scales: z-scores, the most significant first, one peak per blob."""
    position = [np.concatenate([p for p, _ in parts]) for parts in lists]
    sigma = [mesh.at(p) for mesh, p in zip(noise, position, strict=True)]
    value = [np.concatenate([v for _, v in parts]) for parts in lists]
    scores = [np.divide(v, s, out=np.zeros(len(v)), where=s > 0) for v, s in zip(value, sigma, strict=True)]
    scale = np.repeat(np.arange(len(lists)), [len(p) for p in position])
    peaks = Peaks(np.concatenate(position).astype(np.float64), np.concatenate(scores), scale)
    peaks = peaks.keep(peaks.z_score >= MIN_SIGNIFICANCE)
    z, y, x = peaks.position.T
    peaks = peaks.keep(np.lexsort((x, y, z, peaks.scale, -peaks.z_score)))
    radius = SUPPRESSION * np.asarray(factors)[peaks.scale]
    return peaks.keep(suppress(peaks.position / spacing, radius))
