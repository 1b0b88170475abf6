"""Cutting a frame into tiles, so that temporary memory does not grow with the frame.

Every filter of this room has finite support, hence a tile with a halo of that support gives bit for bit
what the whole frame would give. Not about storage: chunks and shards belong to the movie store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from spatialdino_core.segment.volume import Box, Triple, Volume

Rows = tuple[int, int]
"""Number of the first row, a plane (z, x), and of the first one after them."""

TILE_VOXELS = 8_000_000
"""Largest tile, halo included: about 0.3 GB of temporary arrays. It changes memory, never a result."""
MIN_ROWS = 64
"""Where a part of a frame is looked at, at least so many rows together: those around them cost time, too."""


@dataclass(frozen=True)
class Tile:
    """One piece of a frame; all boxes are (z, y, x) slices in voxels.

    Attributes
    ----------
    core
        The voxels this tile answers for. The cores of all tiles partition the frame.
    outer
        The core with its halo, cut at the frame's border.
    inner
        The core, counted from the first voxel of ``outer``.
    """

    core: Box
    outer: Box
    inner: Box

    @property
    def corner(self) -> np.ndarray:
        """What is added to positions (n, 3) in the tile's rows, which count as the frame's do."""
        return np.array([self.outer[0].start, 0, self.outer[2].start])


def tiles(shape: Triple, grid: Triple, halo: Triple, tile_voxels: int = TILE_VOXELS) -> Iterator[Tile]:
    """Partition a frame of ``shape`` into tiles whose cores start at multiples of ``grid``.

    Parameters
    ----------
    shape
        Frame shape (z, y, x) in voxels.
    grid
        Core edges are multiples of these numbers of voxels, except at the frame's end.
    halo
        Voxels needed around a core along z, y and x.
    tile_voxels
        Tiles are halved along their longest axis until they hold no more voxels than this, halo included, or
        cannot be halved.

    Examples
    --------
    >>> [tile.core[2] for tile in tiles((1, 1, 10), grid=(1, 1, 2), halo=(0, 0, 1), tile_voxels=8)]
    [slice(0, 6, None), slice(6, 10, None)]
    """
    size = _core_size(shape, grid, halo, tile_voxels)
    for start in product(*(range(0, n, step) for n, step in zip(shape, size, strict=True))):
        yield _tile(start, shape, size, halo)


def _core_size(shape: Triple, grid: Triple, halo: Triple, tile_voxels: int) -> list[int]:
    cells = [-(-n // g) for n, g in zip(shape, grid, strict=True)]

    def voxels() -> int:
        return int(
            np.prod([min(n, c * g + 2 * h) for n, c, g, h in zip(shape, cells, grid, halo, strict=True)])
        )

    while voxels() > tile_voxels and max(cells) > 1:
        longest = int(np.argmax([c * g if c > 1 else 0 for c, g in zip(cells, grid, strict=True)]))
        cells[longest] = -(-cells[longest] // 2)
    return [c * g for c, g in zip(cells, grid, strict=True)]


def _tile(start: tuple[int, ...], shape: Triple, size: list[int], halo: Triple) -> Tile:
    core, outer, inner = [], [], []
    for first, n, length, margin in zip(start, shape, size, halo, strict=True):
        last = min(first + length, n)
        low, high = max(first - margin, 0), min(last + margin, n)
        core.append(slice(first, last))
        outer.append(slice(low, high))
        inner.append(slice(first - low, last - low))
    return Tile((core[0], core[1], core[2]), (outer[0], outer[1], outer[2]), (inner[0], inner[1], inner[2]))


def best_known_tile(volume: Volume, halo: Triple) -> Tile:
    """The tile with most valid voxels in its core; of several the one nearest to the frame's centre."""

    def rank(tile: Tile) -> tuple[int, float]:
        middle = [(part.start + part.stop - n) / n for part, n in zip(tile.core, volume.shape, strict=True)]
        return -int(np.count_nonzero(volume.known(tile.core))), float(np.linalg.norm(middle))

    return min(tiles(volume.shape, (1, 1, 1), halo), key=rank)


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
    """Which share of a frame is looked at; parameters are those of :func:`some_rows`."""
    return sum(stop - first for first, stop in some_rows(shape, cell, most_voxels)) / shape[1]
