"""Blob detection: local maxima of the detector's response, and their z-scores.

The detector is blind to constant background. Not the decision which maxima are particles: that is
:mod:`.evidence`, calibrated by :mod:`.calibration`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from spatialdino_core.segment.channels import filter_halo, flattened, weighted_response
from spatialdino_core.segment.filters import load_block, psf_sigma_um, typical_level
from spatialdino_core.segment.inputs import Voxel
from spatialdino_core.segment.noise import NoiseMesh, empty_mesh, fill_mesh, finish_mesh, mesh_cell
from spatialdino_core.segment.observer import Detector
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.tiles import TILE_VOXELS, Box, Tile, Triple, tiles, valid_box

Maxima = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Positions (n, 3) in voxels of the maxima at one size in one tile, and responses (n,) of the detector and of
that for the frame alone."""

SUPPRESSION = 1.5
"""Of two maxima closer than this many standard deviations of the broader blob only the more significant
stays; two equal Gaussian spots merge into one maximum below two standard deviations (Sparrow's limit)."""
MIN_CURVATURE = 0.1
"""Least curvature of the response along any direction, relative to the sum over three directions: 1/3 on a
round blob, 1/6 on one twice as long as wide, 0 on edges and ridges (the idea of Lowe 2004, Int. J. Comput.
Vis. 60, 91, section 4.1)."""
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
    size
        Shape (n,), intp: index into ``SegmentParameters.size_factors``.
    """

    position: np.ndarray
    z_score: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.z_score)

    def keep(self, rows: np.ndarray) -> Peaks:
        """The peaks that ``rows``, a boolean mask or indices, selects."""
        return Peaks(self.position[rows], self.z_score[rows], self.size[rows])


def find_peaks(
    images: Sequence[np.ndarray],
    detector: Detector,
    voxel_um: Voxel,
    valid: np.ndarray | None,
    parameters: SegmentParameters,
    *,
    where: str,
    with_dark: bool = False,
    tile_voxels: int = TILE_VOXELS,
    most_voxels: int | None = None,
) -> tuple[Peaks, Peaks]:
    """Bright blobs of a frame and, on request, the dark ones that tell how noise behaves.

    Parameters
    ----------
    images
        Intensities (z, y, x), any real dtype: the frame, and means of other frames that help.
    detector
        From :meth:`.observer.Observer.detector`.
    voxel_um
        Voxel size (z, y, x) in µm.
    valid
        Boolean mask broadcastable to a frame, e.g. (z, 1, x), or None.
    parameters
        Optics, sizes and the noise window.
    where
        Name of the frame for error messages.
    with_dark
        Whether to look for dark blobs as well.
    tile_voxels
        Largest tile; memory only.
    most_voxels
        Look at an even choice of tiles with about so many voxels, instead of at the whole frame.

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
    cell = mesh_cell(parameters.noise_window_um, voxel_um)
    sigma = psf_sigma_um(parameters) / np.array(voxel_um)
    half = np.maximum(1, np.round(sigma)).astype(int)
    meshes = [empty_mesh(_triple(images[0].shape), cell) for _ in (*detector.weights, detector.single_frame)]
    signs = (1, -1) if with_dark else (1,)
    found: list[list[list[Maxima]]] = [[[] for _ in detector.weights] for _ in signs]
    alone = len(images) == 1
    for tile, blocks in _flat_tiles(images, voxel_um, valid, parameters, where, tile_voxels, most_voxels):
        part = valid_box(valid, tile.outer)
        own = weighted_response(blocks[:1], detector.single_frame[0], sigma)
        fill_mesh(meshes[-1], own[tile.inner], valid, tile.core, cell)
        for size, one in enumerate(detector.weights):
            response = own if alone and size == 0 else weighted_response(blocks, one, sigma)
            fill_mesh(meshes[size], response[tile.inner], valid, tile.core, cell)
            for sign, lists in zip(signs, found, strict=True):
                lists[size].append(_tile_maxima(sign * response, sign * own, tile, part, half, sigma))
    noise = [finish_mesh(mesh, cell) for mesh in meshes]
    peaks = [
        _peaks(lists, noise, sigma, parameters.size_factors, detector.min_single_frame_share)
        for lists in found
    ]
    return (peaks[0], peaks[1]) if with_dark else (peaks[0], peaks[0].keep(np.empty(0, np.intp)))


def responses_at(
    image: np.ndarray,
    weights: np.ndarray,
    positions: Sequence[np.ndarray],
    voxel_um: Voxel,
    valid: np.ndarray | None,
    parameters: SegmentParameters,
    *,
    where: str,
    most_voxels: int | None = None,
) -> list[np.ndarray]:
    """Responses of the detector for the first size at ``positions``, each (n, 3) voxels (z, y, x).

    The other parameters are those of :func:`find_peaks`. NaN where a place was not looked at.
    """
    sigma = psf_sigma_um(parameters) / np.array(voxel_um)
    places = [position.astype(np.intp) for position in positions]
    found = [np.full(len(place), np.nan) for place in places]
    for tile, blocks in _flat_tiles([image], voxel_um, valid, parameters, where, TILE_VOXELS, most_voxels):
        response = weighted_response(blocks, weights[0], sigma)
        low, high = ([getattr(part, end) for part in tile.core] for end in ("start", "stop"))
        for place, values in zip(places, found, strict=True):
            here = ((place >= low) & (place < high)).all(axis=1)
            values[here] = response[tuple((place[here] - [part.start for part in tile.outer]).T)]
    return found


def _flat_tiles(
    images: Sequence[np.ndarray],
    voxel_um: Voxel,
    valid: np.ndarray | None,
    parameters: SegmentParameters,
    where: str,
    tile_voxels: int,
    most_voxels: int | None,
) -> Iterator[tuple[Tile, list[np.ndarray]]]:
    """Tile by tile, the images as the filters take them."""
    sigma = psf_sigma_um(parameters) / np.array(voxel_um)
    shape, cell = _triple(images[0].shape), mesh_cell(parameters.noise_window_um, voxel_um)
    halo = np.array(filter_halo(sigma)) + np.maximum(1, np.round(sigma)).astype(int) + 1
    levels = [typical_level(image, valid) for image in images]
    for tile in _some(list(tiles(shape, cell, _triple(halo), tile_voxels)), most_voxels):
        part = valid_box(valid, tile.outer)
        yield (
            tile,
            [
                flattened(load_block(image, tile, valid, level, where), part, sigma)
                for image, level in zip(images, levels, strict=True)
            ],
        )


def share_of_frame(shape: tuple[int, ...], most_voxels: int) -> float:
    """Which share of a frame :func:`find_peaks` looks at."""
    return min(1.0, most_voxels / float(np.prod(shape)))


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

    Examples
    --------
    The second row gives way to the first; the third is then near no row that stays.

    >>> suppress(np.array([[0.0, 0, 0], [0, 0, 1], [0, 0, 2]]), np.full(3, 1.5)).tolist()
    [True, False, True]
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


def _some(pieces: list[Tile], most_voxels: int | None) -> list[Tile]:
    """An even choice of tiles whose cores have about ``most_voxels`` voxels."""
    if most_voxels is None:
        return pieces
    whole = sum(_volume(tile.core) for tile in pieces)
    count = max(1, round(len(pieces) * min(1.0, most_voxels / whole)))
    return [pieces[i] for i in np.linspace(0, len(pieces) - 1, count + 2)[1:-1].round().astype(int)]


def _volume(box: Box) -> int:
    return int(np.prod([part.stop - part.start for part in box]))


def _tile_maxima(
    response: np.ndarray,
    own: np.ndarray,
    tile: Tile,
    valid: np.ndarray | None,
    half: np.ndarray,
    sigma: np.ndarray,
) -> Maxima:
    """Positive blob-like maxima in the tile's core: positions in the frame, and responses."""
    is_peak = response == ndimage.maximum_filter(response, size=tuple(2 * half + 1), mode="nearest")
    is_peak &= response > 0
    if valid is not None:
        is_peak &= valid
    inside = np.argwhere(is_peak[tile.inner]) + [part.start for part in tile.inner]
    inside = inside[roundness(response, inside, sigma) >= MIN_CURVATURE]
    at = tuple(inside.T)
    return inside + np.array([part.start for part in tile.outer]), response[at], own[at]


def roundness(response: np.ndarray, at: np.ndarray, sigma_voxels: np.ndarray) -> np.ndarray:
    """Weakest curvature at maxima ``at`` (n, 3), relative to the sum over three directions, shape (n,).

    The smallest eigenvalue of the negative Hessian over its trace, lengths in units of ``sigma_voxels``.
    """
    hessian = np.empty((len(at), 3, 3))
    unit = np.eye(3, dtype=np.intp)
    for a in range(3):
        hessian[:, a, a] = 2 * _beside(response, at, 0 * unit[a]) - _both_sides(response, at, unit[a])
        for b in range(a):
            mixed = _both_sides(response, at, unit[a] + unit[b]) - _both_sides(
                response, at, unit[a] - unit[b]
            )
            hessian[:, a, b] = hessian[:, b, a] = -mixed / 4
    value = np.linalg.eigvalsh(hessian * np.outer(sigma_voxels, sigma_voxels))
    total = value.sum(axis=1)
    return np.divide(value[:, 0], total, out=np.zeros(len(at)), where=total > 0)


def _beside(volume: np.ndarray, at: np.ndarray, step: np.ndarray) -> np.ndarray:
    index = np.clip(at + step, 0, np.array(volume.shape) - 1)
    return volume[tuple(index.T)].astype(np.float64)


def _both_sides(volume: np.ndarray, at: np.ndarray, step: np.ndarray) -> np.ndarray:
    return _beside(volume, at, step) + _beside(volume, at, -step)


def _peaks(
    lists: list[list[Maxima]],
    noise: list[NoiseMesh],
    sigma: np.ndarray,
    sizes: tuple[float, ...],
    min_single_frame_share: float,
) -> Peaks:
    """Join the sizes: z-scores, the most significant first, one peak per blob."""
    *noises, own_noise = noise
    position, value, own = (
        [np.concatenate([tile[k] for tile in parts]) for parts in lists] for k in range(3)
    )
    scores = [_z_score(v, mesh.at(p)) for v, mesh, p in zip(value, noises, position, strict=True)]
    own_scores = [_z_score(v, own_noise.at(p)) for v, p in zip(own, position, strict=True)]
    size = np.repeat(np.arange(len(lists)), [len(p) for p in position])
    peaks = Peaks(np.concatenate(position).astype(np.float64), np.concatenate(scores), size)
    seen_alone = (
        np.concatenate(own_scores) >= min_single_frame_share * peaks.z_score
        if np.isfinite(min_single_frame_share)
        else True
    )
    peaks = peaks.keep((peaks.z_score >= MIN_SIGNIFICANCE) & seen_alone)
    z, y, x = peaks.position.T
    peaks = peaks.keep(np.lexsort((x, y, z, peaks.size, -peaks.z_score)))
    radius = SUPPRESSION * np.asarray(sizes)[peaks.size]
    return peaks.keep(suppress(peaks.position / sigma, radius))


def _z_score(value: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return np.divide(value, noise, out=np.zeros(len(value)), where=noise > 0)
