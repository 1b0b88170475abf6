"""Blob detection: local maxima of the detector's response, and their z-scores.

The detector is blind to constant background. Not the decision which maxima are particles: that is
:mod:`.evidence`, calibrated by :mod:`.calibration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from scipy.spatial import cKDTree

from spatialdino_core.compiled import njit
from spatialdino_core.segment.channels import filter_halo
from spatialdino_core.segment.filters import psf_sigma_um
from spatialdino_core.segment.inputs import Voxel
from spatialdino_core.segment.maxima import blob_maxima
from spatialdino_core.segment.noise import STRIDE, NoiseMesh, empty_mesh, fill_mesh, finish_mesh, mesh_cell
from spatialdino_core.segment.observer import Detector
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.sweep import Responses, Rows, Source, values_in
from spatialdino_core.segment.tiles import TILE_VOXELS, Tile, Triple, tiles

Maxima = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Positions (n, 3) in voxels of maxima, and responses (n,): of the detector, of that for the frame alone."""

SUPPRESSION = 1.5
"""Of two maxima closer than this many standard deviations of the broader blob only the more significant
stays; two equal Gaussian spots merge into one maximum below two standard deviations (Sparrow's limit)."""
MIN_SIGNIFICANCE = 2.0
"""Maxima below this z-score are never particles nor informative about the tail of the noise."""
IMAGE_ROWS, DETECTOR_ROWS = 12, 18
"""A tile of so many rows for each image and each detector stands for what is kept of them: ten times that."""
MIN_ROWS = 64
"""Where a part of a frame is looked at, at least so many rows together: those around them cost time, too."""


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
    threads: int = 1,
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
        Look at :func:`some_rows`, with about so many voxels, instead of at the whole frame.
    threads
        Parts of the frame that are gone through at the same time; time only.

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
    shape = _triple(images[0].shape)
    alone = len(images) == 1
    weights = (
        detector.weights
        if alone
        else np.stack([*detector.weights, _padded(detector.single_frame[0], len(images))])
    )
    search = _Search(
        source=Source.of(images, valid, sigma, where),
        weights=weights,
        own=0 if alone else len(weights) - 1,
        signs=(1, -1) if with_dark else (1,),
        valid=valid,
        cell=cell,
        meshes=[empty_mesh(shape, cell) for _ in weights],
    )
    parts = product(
        _parts(weights, shape, cell, search.halo, tile_voxels), some_rows(shape, cell, most_voxels, threads)
    )
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda one: search.maxima(*one), parts))
    noise = [finish_mesh(mesh, cell) for mesh in search.meshes]
    share = detector.min_single_frame_share
    peaks = [
        _peaks(
            [_joined(one) for one in zip(*lists, strict=True)],
            noise,
            noise[search.own],
            sigma,
            parameters.size_factors,
            share,
        )
        for lists in zip(*found, strict=True)
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
    cell = mesh_cell(parameters.noise_window_um, voxel_um)
    sigma = psf_sigma_um(parameters) / np.array(voxel_um)
    shape = _triple(image.shape)
    source = Source.of([image], valid, sigma, where)
    places = np.concatenate(positions).astype(np.intp)
    found = np.full(len(places), np.nan)
    for tile, rows in product(
        _parts(weights[:1], shape, cell, filter_halo(sigma), TILE_VOXELS), some_rows(shape, cell, most_voxels)
    ):
        depth, _, width = tile.core
        z, y, x = places.T
        inside = (z >= depth.start) & (z < depth.stop) & (x >= width.start) & (x < width.stop)
        sweep = Responses(source, weights[:1], rows, (tile.outer[0], tile.outer[2]))
        for first, stop in sweep:
            here = inside & (y >= first) & (y < stop)
            found[here] = values_in(sweep.rings[0], places[here] - _corner(tile))
    return np.split(found, np.cumsum([len(one) for one in positions])[:-1])


def some_rows(shape: Triple, cell: Triple, most_voxels: int | None, pieces: int = 1) -> list[Rows]:
    """Rows of a frame to look at: an even choice of about ``most_voxels`` voxels, or all in pieces."""
    cells = -(-shape[1] // cell[1])
    wanted = cells if most_voxels is None else round(cells * min(1.0, most_voxels / float(np.prod(shape))))
    if wanted < cells:
        pieces = max(1, wanted * cell[1] // MIN_ROWS)
        length = max(1, wanted // pieces)
        first = ((np.arange(pieces) + 0.5) * cells / pieces - length / 2).astype(int)
        return [(n * cell[1], min((n + length) * cell[1], shape[1])) for n in first.tolist()]
    edges = np.unique(np.linspace(0, cells, pieces + 1).astype(int)) * cell[1]
    return [(first, min(stop, shape[1])) for first, stop in pairwise(edges.tolist())]


def share_of_frame(shape: Triple, cell: Triple, most_voxels: int) -> float:
    """Which share of a frame :func:`find_peaks` looks at; parameters are those of :func:`some_rows`."""
    return sum(stop - first for first, stop in some_rows(shape, cell, most_voxels)) / shape[1]


@dataclass(frozen=True)
class _Search:
    """What is looked for, and in what.

    Attributes
    ----------
    source
        The images.
    weights
        Shape (detectors, images, channels): those for all sizes, and that for the frame alone.
    own
        Which of them is for the frame alone.
    signs
        1 for bright blobs, -1 for dark ones.
    valid
        Mask of the frame, or None.
    cell
        Of the noise meshes.
    meshes
        One per detector; they are filled.
    """

    source: Source
    weights: np.ndarray
    own: int
    signs: tuple[int, ...]
    valid: np.ndarray | None
    cell: Triple
    meshes: list[np.ndarray]

    @property
    def half(self) -> np.ndarray:
        """No voxel so near to a maximum is higher."""
        return np.maximum(1, np.round(self.source.sigma_voxels)).astype(np.intp)

    @property
    def halo(self) -> Triple:
        """Voxels around a voxel that decide whether it is a maximum."""
        return _triple(np.array(filter_halo(self.source.sigma_voxels)) + self.half + 1)

    def maxima(self, tile: Tile, rows: Rows) -> list[list[Maxima]]:
        """Maxima in a part of the frame, per sign and size; fills that part of the meshes."""
        cell, half = self.cell[1], self.half
        sweep = Responses(
            self.source, self.weights, rows, (tile.outer[0], tile.outer[2]), beside=int(half[1]), kept=cell
        )
        sizes = len(self.weights) if self.own == 0 else self.own
        found: list[list[list[Maxima]]] = [[[] for _ in range(sizes)] for _ in self.signs]
        measured = rows[0]
        for finished in sweep:
            while measured < finished[1] and (measured + cell <= finished[1] or finished[1] == rows[1]):
                self._measure(sweep.rings, tile, (measured, min(measured + cell, rows[1])))
                measured += cell
            for sign, lists in zip(self.signs, found, strict=True):
                for ring, parts in zip(sweep.rings, lists, strict=False):
                    at = blob_maxima(
                        ring,
                        finished,
                        self.source.height,
                        (tile.inner[0], tile.inner[2]),
                        half,
                        self.source.sigma_voxels,
                        sign,
                    )
                    value, own = (sign * values_in(one, at) for one in (ring, sweep.rings[self.own]))
                    parts.append(self._known(at + _corner(tile), value, own))
        return [[_joined(parts) for parts in lists] for lists in found]

    def _measure(self, rings: Sequence[np.ndarray], tile: Tile, rows: Rows) -> None:
        core = tile.core[0], slice(*rows), tile.core[2]
        for ring, mesh in zip(rings, self.meshes, strict=True):
            response = ring[np.arange(*rows, STRIDE[1]) % len(ring), tile.inner[0], tile.inner[2]]
            fill_mesh(
                mesh, response.swapaxes(0, 1)[:: STRIDE[0], :, :: STRIDE[2]], self.valid, core, self.cell
            )

    def _known(self, position: np.ndarray, value: np.ndarray, own: np.ndarray) -> Maxima:
        if self.valid is None:
            return position, value, own
        at = np.minimum(position, np.array(self.valid.shape) - 1)
        keep = self.valid[tuple(at.T)]
        return position[keep], value[keep], own[keep]


def _joined(parts: Sequence[Maxima]) -> Maxima:
    position, value, own = (np.concatenate(one) for one in zip(*parts, strict=True))
    return position, value, own


def _corner(tile: Tile) -> np.ndarray:
    """What is added to positions in a tile's rows."""
    return np.array([tile.outer[0].start, 0, tile.outer[2].start])


def _parts(weights: np.ndarray, shape: Triple, cell: Triple, halo: Triple, tile_voxels: int) -> list[Tile]:
    """All rows together, cut along z and x only, as far as memory asks for it."""
    flat = (shape[0], 1, shape[2]), (cell[0], 1, cell[2]), (halo[0], 0, halo[2])
    rows = DETECTOR_ROWS * weights.shape[0] + IMAGE_ROWS * weights.shape[1]
    return list(tiles(*flat, tile_voxels // rows))


def _padded(weights: np.ndarray, images: int) -> np.ndarray:
    """Weights (1, channels) of the first image, and zeros for all others."""
    return np.concatenate([weights, np.zeros((images - 1, weights.shape[1]))])


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


def _triple(values: np.ndarray | tuple[int, ...]) -> Triple:
    return int(values[0]), int(values[1]), int(values[2])


def _peaks(
    maxima: list[Maxima],
    noise: list[NoiseMesh],
    own_noise: NoiseMesh,
    sigma: np.ndarray,
    sizes: tuple[float, ...],
    min_single_frame_share: float,
) -> Peaks:
    """Join the sizes: z-scores, the most significant first, one peak per blob."""
    found = []
    for size, ((position, value, own), mesh) in enumerate(zip(maxima, noise, strict=False)):
        peaks = Peaks(position, _z_score(value, mesh.at(position)), np.full(len(value), size))
        keep = peaks.z_score >= MIN_SIGNIFICANCE
        if np.isfinite(min_single_frame_share):
            keep &= _z_score(own, own_noise.at(position)) >= min_single_frame_share * peaks.z_score
        found.append(peaks.keep(keep))
    peaks = Peaks(
        np.concatenate([one.position for one in found]).astype(np.float64),
        np.concatenate([one.z_score for one in found]),
        np.concatenate([one.size for one in found]),
    )
    z, y, x = peaks.position.T
    peaks = peaks.keep(np.lexsort((x, y, z, peaks.size, -peaks.z_score)))
    radius = SUPPRESSION * np.asarray(sizes)[peaks.size]
    return peaks.keep(suppress(peaks.position / sigma, radius))


def _z_score(value: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return np.divide(value, noise, out=np.zeros(len(value)), where=noise > 0)
