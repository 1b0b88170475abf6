"""Which patches of a volume become tokens, and in which order. Not their embedding.

Patches without data are left out: neither computed nor seen. Patches of equal bits may be one token that
counts as many; without positions that is exact, because equal tokens stay equal in every layer, and n equal
keys are one key of log-weight log n. Foreground comes first, so that a range of rows is exact in the
clustered path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from spatialdino_core.encoder.positions import Grid

TILE_PATCHES = 4096
"""Patches looked at together; a few MB of voxels."""


@dataclass(frozen=True)
class TokenLayout:
    """Rows of the token matrix, leading tokens (class, registers) not among them.

    Attributes
    ----------
    grid
        (gz, gy, gx) patches.
    patch
        (T,) int64, place in raster order of the (first) patch that each row stands for.
    count
        (T,) int64, how many patches it stands for.
    row_of
        (N,) int64, row of each patch of the grid; -1 without data.
    foreground
        The first so many rows are foreground.
    """

    grid: Grid
    patch: NDArray[np.int64]
    count: NDArray[np.int64]
    row_of: NDArray[np.int64]
    foreground: int

    def places(self, rows: slice) -> Tensor:
        """(rows, 3) int64 places (z, y, x) in the grid of the patches of a range of rows."""
        return torch.from_numpy(np.stack(np.unravel_index(self.patch[rows], self.grid), axis=-1))


def lay_out(
    volume: NDArray[np.float32],
    side: int,
    valid: NDArray[np.bool_] | None,
    foreground: NDArray[np.bool_] | None,
    *,
    merge: bool,
    clustered: bool,
) -> TokenLayout:
    """Choose tokens and their order.

    Parameters
    ----------
    volume
        (C, Z, Y, X), sides multiples of ``side``, the patch (voxels).
    valid
        (gz, gy, gx): patches with data; None for all.
    foreground
        (gz, gy, gx): patches to keep exact; None: chosen by `bright_patches`. Used only if ``clustered``.
    merge
        Whether patches of equal bits become one row.
    clustered
        Whether foreground is told apart; else no row is.
    """
    gz, gy, gx = (n // side for n in volume.shape[1:])
    grid = (gz, gy, gx)
    kept = np.arange(gz * gy * gx) if valid is None else np.flatnonzero(valid)
    digests, peaks = _looked_at(volume, side, merge, clustered and foreground is None)
    if merge:
        _, first, inverse = np.unique(digests[kept], return_index=True, return_inverse=True)
    else:
        first = inverse = np.arange(len(kept))
    front = np.zeros(len(first), bool)
    if clustered:
        if foreground is None:
            foreground = bright_patches(peaks.reshape(grid), valid)
        np.logical_or.at(front, inverse, foreground.reshape(-1)[kept])
    order = np.lexsort((first, ~front))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    row_of = np.full(gz * gy * gx, -1, np.int64)
    row_of[kept] = rank[inverse]
    count = np.bincount(rank[inverse], minlength=len(order))
    return TokenLayout(grid, kept[first[order]], count, row_of, int(front.sum()))


def bright_patches(peaks: NDArray[np.float32], valid: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Patches whose brightest voxel stands out, and their neighbours.

    Stands out: above the median by six times the median absolute deviation (as a standard deviation, 1.4826)
    of the patches with data. What it misses is not lost, only clustered.
    """
    among = peaks[valid] if valid is not None else peaks.ravel()
    if not among.size:
        return np.zeros(peaks.shape, bool)
    middle = np.median(among)
    spread = 1.4826 * np.median(np.abs(among - middle))
    neighbours = ndimage.generate_binary_structure(3, 3)
    return ndimage.binary_dilation(peaks > middle + 6 * spread, neighbours)


def tiles(grid: Grid, patches: int = TILE_PATCHES) -> Iterator[tuple[int, slice, slice]]:
    """Cut a grid into runs of whole rows along x within a layer: (first patch, layer z, rows y)."""
    gz, gy, gx = grid
    step = max(1, patches // gx)
    for z in range(gz):
        for y in range(0, gy, step):
            yield (z * gy + y) * gx, slice(z, z + 1), slice(y, min(y + step, gy))


def tile_voxels(volume: NDArray[np.float32], side: int, z: slice, y: slice) -> NDArray[np.float32]:
    """(C, Z, Y, X) voxels of a tile, contiguous."""
    return np.ascontiguousarray(
        volume[:, z.start * side : z.stop * side, y.start * side : y.stop * side], np.float32
    )


def _looked_at(volume: NDArray[np.float32], side: int, digest: bool, peak: bool) -> tuple[Any, Any]:
    """128-bit digest of each patch and its greatest voxel, in raster order; empty if not wanted."""
    gz, gy, gx = (n // side for n in volume.shape[1:])
    digests = np.empty(gz * gy * gx if digest else 0, "V16")
    peaks = np.empty(gz * gy * gx if peak else 0, np.float32)
    for start, z, y in tiles((gz, gy, gx)) if digest or peak else ():
        voxels = tile_voxels(volume, side, z, y)
        cut = voxels.reshape(len(voxels), side, -1, side, gx, side).transpose(2, 4, 0, 1, 3, 5)
        rows = np.ascontiguousarray(cut).reshape(-1, len(voxels) * side**3)
        if digest:
            words = b"".join(xxhash.xxh3_128_digest(row.data) for row in rows)
            digests[start : start + len(rows)] = np.frombuffer(words, "V16")
        if peak:
            peaks[start : start + len(rows)] = rows.max(axis=1)
    return digests, peaks
