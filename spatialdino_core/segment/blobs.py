"""Blob detection: multi-scale Laplacian of Gaussian, its local maxima, and their z-scores.

The Laplacian is blind to constant and linear background; smoothing is a normalised convolution, so that neither
the frame's border nor the fill around a deskewed frame makes a response. Not the decision which maxima are
particles: that needs the calibrated threshold of :mod:`.calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.inputs import Voxel
from spatialdino_core.segment.noise import NoiseMesh, empty_mesh, fill_mesh, finish_mesh, mesh_cell
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.tiles import TILE_VOXELS, Tile, Triple, tiles, valid_box

TRUNCATE = 4.0
"""Support of the Gaussian kernels in standard deviations."""
MIN_SUPPORT = 1e-3
"""Smoothed validity below which a voxel is too far from valid data to be extrapolated to."""
SUPPRESSION = 1.5
"""Of two maxima closer than this many standard deviations of the broader blob only the more significant stays;
two equal Gaussian spots merge into one maximum below two standard deviations (Sparrow's limit)."""
MIN_CURVATURE = 0.15
"""Least curvature along any direction, relative to the sum over three directions: 1/3 on a round blob, 1/6 on one
twice as long as wide, 0 on edges and ridges (the idea of Lowe 2004, Int. J. Comput. Vis. 60, 91, section 4.1)."""
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


def psf_sigma_um(parameters: SegmentParameters) -> np.ndarray:
    """Standard deviations (z, y, x) of the point spread function in µm, shape (3,)."""
    return np.array([parameters.sigma_axial_um, parameters.sigma_lateral_um, parameters.sigma_lateral_um])


def smooth(block: np.ndarray, valid: np.ndarray | None, sigma_voxels: np.ndarray) -> np.ndarray:
    """Normalised convolution with a Gaussian (Knutsson & Westin 1993, CVPR, 515).

    Parameters
    ----------
    block
        Intensities (z, y, x), float32; zero wherever ``valid`` is false.
    valid
        Boolean mask broadcastable to ``block``, or None. Voxels beyond the block count as invalid.
    sigma_voxels
        Standard deviations (z, y, x) in voxels.

    Returns
    -------
    numpy.ndarray
        Weighted mean of the valid voxels around each voxel, float32; zero out of reach of valid voxels.
    """
    mean = ndimage.gaussian_filter(block, sigma_voxels, mode="constant", truncate=TRUNCATE)
    separable, masked = _support(block.shape, valid, sigma_voxels)
    for axis_support in separable:
        mean /= axis_support
    if masked is not None:
        reachable = masked >= MIN_SUPPORT
        mean *= np.where(reachable, 1 / np.maximum(masked, MIN_SUPPORT), 0).astype(np.float32)
    return mean


def log_response(mean: np.ndarray, sigma_voxels: np.ndarray) -> np.ndarray:
    """Scale-normalised negative Laplacian of the smoothed block ``mean``: positive on bright blobs.

    The derivative along each axis is a central second difference times the axis' variance (Lindeberg 1998,
    Int. J. Comput. Vis. 30, 79). Same shape and dtype as ``mean``.
    """
    response = np.zeros_like(mean)
    for axis, sigma in enumerate(sigma_voxels):
        weights = -np.array([1.0, -2.0, 1.0]) * sigma**2
        response += ndimage.correlate1d(mean, weights, axis=axis, mode="nearest")
    return response


def find_peaks(
    frame: np.ndarray,
    voxel_um: Voxel,
    valid: np.ndarray | None,
    parameters: SegmentParameters,
    *,
    where: str,
    tile_voxels: int = TILE_VOXELS,
) -> tuple[Peaks, Peaks]:
    """Bright blobs of a frame, and the dark ones that tell how noise behaves.

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
    tile_voxels
        Largest tile; memory only.

    Returns
    -------
    bright, dark
        Maxima of the response and of its negative, at least :data:`MIN_SIGNIFICANCE` significant.

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
    level = typical_level(frame)
    meshes = [empty_mesh(shape, cell) for _ in sigmas]
    found: list[list[list[tuple[np.ndarray, np.ndarray]]]] = [[[] for _ in sigmas], [[] for _ in sigmas]]
    for tile in tiles(shape, cell, _triple(halo), tile_voxels):
        block = load_block(frame, tile, valid, level, where)
        part = valid_box(valid, tile.outer)
        for scale, sigma in enumerate(sigmas):
            mean = smooth(block, part, sigma)
            response = log_response(mean, sigma)
            fill_mesh(meshes[scale], response[tile.inner], valid, tile.core, cell)
            for sign, lists in zip((1, -1), found, strict=True):
                lists[scale].append(_tile_maxima(sign * response, sign * mean, part, tile, half, sigma))
    noise = [finish_mesh(mesh, cell) for mesh in meshes]
    spacing = psf_sigma_um(parameters) / np.array(voxel_um)
    bright, dark = (_peaks(lists, noise, spacing, parameters.scale_factors) for lists in found)
    return bright, dark


def load_block(frame: np.ndarray, tile: Tile, valid: np.ndarray | None, level: float, where: str) -> np.ndarray:
    """One tile with its halo, float32, minus ``level`` (for precision); invalid voxels are zero."""
    block = frame[tile.outer].astype(np.float32) - np.float32(level)
    part = valid_box(valid, tile.outer)
    if part is not None:
        block = np.where(part, block, np.float32(0))
    if not np.isfinite(block).all():
        raise BadInputError(
            where,
            found="NaN or infinite intensities",
            expected="finite intensities in all valid voxels",
            remedy="Check the file and the stage that wrote it, or mark these voxels as invalid.",
        )
    return block


def typical_level(frame: np.ndarray) -> float:
    """A constant near the frame's intensities, from a sparse sample: subtracting it saves float32 digits."""
    sample = frame[::4, ::8, ::8]
    finite = sample[np.isfinite(sample)]
    return float(np.median(finite)) if finite.size else 0.0


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


def _support(
    shape: tuple[int, ...], valid: np.ndarray | None, sigma_voxels: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Smoothed validity: one broadcastable array per axis that the mask leaves whole, and the mask's own."""
    separable, full_axes = [], []
    for axis, n in enumerate(shape):
        if valid is not None and valid.shape[axis] == n and n > 1:
            full_axes.append(axis)
            continue
        ones = np.ones(n, np.float32)
        along = ndimage.gaussian_filter1d(ones, sigma_voxels[axis], mode="constant", truncate=TRUNCATE)
        separable.append(along.reshape([-1 if a == axis else 1 for a in range(3)]))
    if valid is None:
        return separable, None
    masked = valid.astype(np.float32)
    for axis in full_axes:
        masked = ndimage.gaussian_filter1d(masked, sigma_voxels[axis], axis, mode="constant", truncate=TRUNCATE)
    return separable, masked


def _border_gain(
    shape: tuple[int, ...], valid: np.ndarray | None, sigma_voxels: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """Noise of the normalised mean at voxels ``at``, relative to that far from any border.

    White noise averaged with weights g over the valid voxels V has the variance Σ_V g² / (Σ_V g)²; the square of a
    Gaussian is a Gaussian narrower by √2.
    """
    index = tuple(at.T)
    wide, wide_mask = _support(shape, valid, sigma_voxels)
    narrow, narrow_mask = _support(shape, valid, sigma_voxels / np.sqrt(2))

    def sample(separable: list[np.ndarray], masked: np.ndarray | None) -> np.ndarray:
        factors = separable if masked is None else [*separable, masked]
        return np.prod([np.broadcast_to(factor, shape)[index] for factor in factors], axis=0)

    return np.sqrt(sample(narrow, narrow_mask)) / sample(wide, wide_mask)


def _tile_maxima(
    response: np.ndarray,
    mean: np.ndarray,
    valid: np.ndarray | None,
    tile: Tile,
    half: np.ndarray,
    sigma_voxels: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Positive blob-like maxima in the tile's core: positions in the frame, and response over border gain."""
    is_peak = response == ndimage.maximum_filter(response, size=tuple(2 * half + 1), mode="nearest")
    is_peak &= response > 0
    if valid is not None:
        is_peak &= valid
    inside = np.argwhere(is_peak[tile.inner]) + [part.start for part in tile.inner]
    inside = inside[_weakest_curvature(mean, inside, sigma_voxels) >= MIN_CURVATURE * response[tuple(inside.T)]]
    value = response[tuple(inside.T)] / _border_gain(response.shape, valid, sigma_voxels, inside)
    return inside + np.array([part.start for part in tile.outer]), value


def _weakest_curvature(mean: np.ndarray, at: np.ndarray, sigma_voxels: np.ndarray) -> np.ndarray:
    """Smallest eigenvalue of the scale-normalised negative Hessian at voxels ``at``, shape (n,).

    A third of the Laplacian on a round blob, near zero on the edge of a cell, a filament or a membrane.
    """
    last = np.array(mean.shape) - 1

    def shifted(*step: int) -> np.ndarray:
        return mean[tuple(np.clip(at + step, 0, last).T)].astype(np.float64)

    hessian = np.empty((len(at), 3, 3))
    unit = np.eye(3, dtype=np.intp)
    for a in range(3):
        hessian[:, a, a] = 2 * shifted(0, 0, 0) - shifted(*unit[a]) - shifted(*-unit[a])
        for b in range(a):
            same, cross = unit[a] + unit[b], unit[a] - unit[b]
            mixed = shifted(*same) + shifted(*-same) - shifted(*cross) - shifted(*-cross)
            hessian[:, a, b] = hessian[:, b, a] = -mixed / 4
    return np.linalg.eigvalsh(hessian * np.outer(sigma_voxels, sigma_voxels))[:, 0]


def _peaks(
    lists: list[list[tuple[np.ndarray, np.ndarray]]],
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
