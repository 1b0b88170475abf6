"""Blob detection: local maxima of the detector's response, and their z-scores.

The detector is blind to constant background. Not the decision which maxima are particles: that is
:mod:`..believe.evidence`, calibrated by :mod:`..believe.calibration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from spatialdino_core.compiled import njit
from spatialdino_core.segment.detect.maxima import blob_maxima
from spatialdino_core.segment.detect.noise import STRIDE, NoiseMesh, empty_mesh, fill_mesh, finish_mesh
from spatialdino_core.segment.detect.observer import Detector
from spatialdino_core.segment.detect.sweep import Responses, Source, values_in
from spatialdino_core.segment.detect.tiles import TILE_VOXELS, Rows, Tile, some_rows, tiles
from spatialdino_core.segment.detections import Detections, Table
from spatialdino_core.segment.optics import Optics
from spatialdino_core.segment.volume import Triple, Volume

if TYPE_CHECKING:
    import torch

    from spatialdino_core.segment.detect.device_responses import DeviceResponses

SUPPRESSION = 1.5
"""Of two maxima closer than this many standard deviations of the broader blob only the more significant
stays; two equal Gaussian spots merge into one maximum below two standard deviations (Sparrow's limit)."""
MIN_SIGNIFICANCE = 2.0
"""Maxima below this z-score are never particles nor informative about the tail of the noise."""
IMAGE_ROWS, DETECTOR_ROWS = 12, 18
"""A tile of so many rows for each image and each detector stands for what is kept of them: ten times that."""


class Blobs(NamedTuple):
    """Maxima of the response and of its negative, at least :data:`MIN_SIGNIFICANCE` significant."""

    bright: Detections
    dark: Detections


def find_blobs(
    volumes: Sequence[Volume],
    detector: Detector,
    optics: Optics,
    *,
    with_dark: bool = False,
    tile_voxels: int = TILE_VOXELS,
    most_voxels: int | None = None,
    threads: int = 1,
    device: torch.device | None = None,
) -> Blobs:
    """Bright blobs of a frame and, on request, the dark ones that tell how noise behaves.

    Parameters
    ----------
    volumes
        The frame, and means of other frames that help.
    detector
        From :meth:`.observer.Observer.detector`.
    optics
        Sizes that are looked for.
    with_dark
        Whether to look for dark blobs as well; else there are none.
    tile_voxels
        Largest tile; memory only.
    most_voxels
        Look at :func:`.tiles.some_rows`, with about so many voxels, instead of at the whole frame.
    threads
        Parts of the frame that are gone through at the same time; time only.
    device
        Where responses are computed with PyTorch; None: compiled code on the CPU. Rounding differs.

    Raises
    ------
    BadInputError
        If a valid voxel is NaN or infinite.
    """
    search, shape = _Search.of(volumes, detector, optics, with_dark, device), volumes[0].shape
    columns = _columns(search.weights, shape, optics.cell, search.halo, tile_voxels)
    parts = product(columns, some_rows(shape, optics.cell, most_voxels, threads))
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda part: search.maxima(*part), parts))
    noise = [finish_mesh(mesh, optics.cell) for mesh in search.meshes]
    least_share = detector.min_single_frame_share
    bright, *dark = (
        _significant(_Maxima.joined(one), noise, noise[search.own], optics, least_share)
        for one in zip(*found, strict=True)
    )
    return Blobs(bright, dark[0] if dark else bright.keep(np.empty(0, np.intp)))


def responses_at(
    volume: Volume,
    weights: np.ndarray,
    positions: Sequence[np.ndarray],
    optics: Optics,
    *,
    most_voxels: int | None = None,
) -> list[np.ndarray]:
    """Responses of the detector for the first size at ``positions``, each (n, 3) voxels (z, y, x).

    The other parameters are those of :func:`find_blobs`. NaN where a place was not looked at.
    """
    source = Source.of([volume], optics.sigma_voxels)
    places = np.concatenate(positions).astype(np.intp)
    found = np.full(len(places), np.nan)
    columns = _columns(weights[:1], volume.shape, optics.cell, optics.halo, TILE_VOXELS)
    for tile, rows in product(columns, some_rows(volume.shape, optics.cell, most_voxels)):
        depth, _, width = tile.core
        z, y, x = places.T
        inside = (z >= depth.start) & (z < depth.stop) & (x >= width.start) & (x < width.stop)
        sweep = Responses(source, weights[:1], rows, (tile.outer[0], tile.outer[2]))
        for first, stop in sweep:
            here = inside & (y >= first) & (y < stop)
            found[here] = values_in(sweep.rings[0], places[here] - tile.corner)
    return np.split(found, np.cumsum([len(one) for one in positions])[:-1])


@dataclass(frozen=True, eq=False)
class _Maxima(Table):
    """Maxima of the detectors' responses.

    ``position`` (n, 3), intp, voxels (z, y, x); the ``response`` there (n,) and that of the detector for the
    frame ``alone`` (n,); the number of the ``size`` (n,) that the detector is for.
    """

    position: np.ndarray
    response: np.ndarray
    alone: np.ndarray
    size: np.ndarray


@dataclass(frozen=True, eq=False)
class _Search:
    """What is looked for, and in what.

    Attributes
    ----------
    source
        The images.
    optics
        Sizes, the filters' reach, the noise meshes' cell.
    weights
        Shape (detectors, images, channels): those for all sizes, and that for the frame alone.
    own
        Which of them is for the frame alone.
    signs
        1 for bright blobs, -1 for dark ones.
    meshes
        One per detector; they are filled.
    device
        See :func:`find_blobs`.
    """

    source: Source
    optics: Optics
    weights: np.ndarray
    own: int
    signs: tuple[int, ...]
    meshes: list[np.ndarray]
    device: torch.device | None

    @staticmethod
    def of(
        volumes: Sequence[Volume],
        detector: Detector,
        optics: Optics,
        with_dark: bool,
        device: torch.device | None,
    ) -> _Search:
        weights, own = detector.weights, 0
        if len(volumes) > 1:
            without_help = np.zeros_like(weights[:1])
            without_help[:, :1] = detector.single_frame[:1]
            weights, own = np.concatenate([weights, without_help]), len(weights)
        meshes = [empty_mesh(volumes[0].shape, optics.cell) for _ in weights]
        source = Source.of(volumes, optics.sigma_voxels)
        return _Search(source, optics, weights, own, (1, -1) if with_dark else (1,), meshes, device)

    @property
    def half(self) -> np.ndarray:
        """No voxel so near to a maximum is higher."""
        return np.maximum(1, np.round(self.optics.sigma_voxels)).astype(np.intp)

    @property
    def halo(self) -> Triple:
        """Voxels around a voxel that decide whether it is a maximum."""
        z, y, x = (np.array(self.optics.halo) + self.half + 1).tolist()
        return z, y, x

    def maxima(self, tile: Tile, rows: Rows) -> list[_Maxima]:
        """Maxima in a part of the frame, per sign; fills that part of the meshes."""
        cell, sweep = self.optics.cell[1], self._sweep(tile, rows)
        found: list[list[_Maxima]] = [[] for _ in self.signs]
        measured = rows[0]
        for finished in sweep:
            while measured < finished[1] and (measured + cell <= finished[1] or finished[1] == rows[1]):
                self._measure(sweep.rings, tile, (measured, min(measured + cell, rows[1])))
                measured += cell
            for sign, parts in zip(self.signs, found, strict=True):
                for size in range(self.own or len(self.weights)):
                    parts.append(self._maxima_in(sweep.rings, size, finished, tile, sign))
        return [_Maxima.joined(parts) for parts in found]

    def _sweep(self, tile: Tile, rows: Rows) -> Responses | DeviceResponses:
        part, beside, kept = (tile.outer[0], tile.outer[2]), int(self.half[1]), self.optics.cell[1]
        if self.device is None:
            return Responses(self.source, self.weights, rows, part, beside, kept)
        from spatialdino_core.segment.detect.device_responses import DeviceResponses  # it loads torch

        return DeviceResponses(self.source, self.weights, rows, part, beside, kept, device=self.device)

    def _measure(self, rings: Sequence[np.ndarray], tile: Tile, rows: Rows) -> None:
        core = tile.core[0], slice(*rows), tile.core[2]
        volume, cell = self.source.volumes[0], self.optics.cell
        for ring, mesh in zip(rings, self.meshes, strict=True):
            response = ring[np.arange(*rows, STRIDE[1]) % len(ring), tile.inner[0], tile.inner[2]]
            strided = response.swapaxes(0, 1)[:: STRIDE[0], :, :: STRIDE[2]]
            fill_mesh(mesh, strided, volume, core, cell)

    def _maxima_in(
        self, rings: Sequence[np.ndarray], size: int, rows: Rows, tile: Tile, sign: int
    ) -> _Maxima:
        core, sigma = (tile.inner[0], tile.inner[2]), self.optics.sigma_voxels
        at = blob_maxima(rings[size], rows, self.source.height, core, self.half, sigma, sign)
        at = at[self.source.volumes[0].known_at(at + tile.corner)]
        response, alone = (sign * values_in(rings[one], at) for one in (size, self.own))
        return _Maxima(at + tile.corner, response, alone, np.full(len(at), size))


def _columns(weights: np.ndarray, shape: Triple, cell: Triple, halo: Triple, tile_voxels: int) -> list[Tile]:
    """All rows together, cut along z and x only, as far as memory asks for it."""
    flat = (shape[0], 1, shape[2]), (cell[0], 1, cell[2]), (halo[0], 0, halo[2])
    rows = DETECTOR_ROWS * weights.shape[0] + IMAGE_ROWS * weights.shape[1]
    return list(tiles(*flat, tile_voxels // rows))


def _significant(
    maxima: _Maxima, noise: Sequence[NoiseMesh], own_noise: NoiseMesh, optics: Optics, least_share: float
) -> Detections:
    """Z-scores, the most significant first, one maximum per blob."""
    z_score = np.empty(len(maxima))
    for size in np.unique(maxima.size):
        rows = maxima.size == size
        z_score[rows] = _z_score(maxima.response[rows], noise[size].at(maxima.position[rows]))
    keep = z_score >= MIN_SIGNIFICANCE
    if np.isfinite(least_share):
        keep &= _z_score(maxima.alone, own_noise.at(maxima.position)) >= least_share * z_score
    maxima, z_score = maxima.keep(keep), z_score[keep]
    order = np.lexsort((*maxima.position.T[::-1], maxima.size, -z_score))
    position, width = maxima.position[order].astype(np.float64), optics.size_factors[maxima.size[order]]
    found = Detections.at(position, z_score[order], width)
    return found.keep(suppress(position / optics.sigma_voxels, SUPPRESSION * width))


def _z_score(response: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return np.divide(response, noise, out=np.zeros(len(response)), where=noise > 0)


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
    _give_way(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))], stays)
    return stays


@njit(nogil=True, cache=True)
def _give_way(pairs: np.ndarray, stays: np.ndarray) -> None:
    for k in range(len(pairs)):
        if stays[pairs[k, 0]]:
            stays[pairs[k, 1]] = False
