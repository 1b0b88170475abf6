"""Which patches of a volume become tokens, and in which order. Not their embedding.

Patches without data are left out: neither computed nor seen. Patches of equal bits may be one token that
counts as many; without positions that is exact, because equal tokens stay equal in every layer, and n equal
keys are one key of log-weight log n.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
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
    """

    grid: Grid
    patch: NDArray[np.int64]
    count: NDArray[np.int64]
    row_of: NDArray[np.int64]

    def places(self, rows: slice) -> Tensor:
        """(rows, 3) int64 places (z, y, x) in the grid of the patches of a range of rows."""
        return torch.from_numpy(np.stack(np.unravel_index(self.patch[rows], self.grid), axis=-1))


def lay_out(
    volume: NDArray[np.float32],
    side: int,
    valid: NDArray[np.bool_] | None,
    *,
    merge: bool,
) -> TokenLayout:
    """Choose tokens, in raster order of the first patch that each stands for.

    Parameters
    ----------
    volume
        (C, Z, Y, X), sides multiples of ``side``, the patch (voxels).
    valid
        (gz, gy, gx): patches with data; None for all.
    merge
        Whether patches of equal bits become one row.
    """
    gz, gy, gx = (n // side for n in volume.shape[1:])
    grid = (gz, gy, gx)
    kept = np.arange(gz * gy * gx) if valid is None else np.flatnonzero(valid)
    if merge:
        _, first, inverse = np.unique(_digests(volume, side)[kept], return_index=True, return_inverse=True)
    else:
        first = inverse = np.arange(len(kept))
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    row_of = np.full(gz * gy * gx, -1, np.int64)
    row_of[kept] = rank[inverse]
    count = np.bincount(rank[inverse], minlength=len(order))
    return TokenLayout(grid, kept[first[order]], count, row_of)


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


def _digests(volume: NDArray[np.float32], side: int) -> NDArray[np.void]:
    """128-bit digest of each patch, in raster order."""
    gz, gy, gx = (n // side for n in volume.shape[1:])
    digests = np.empty(gz * gy * gx, "V16")
    for start, z, y in tiles((gz, gy, gx)):
        voxels = tile_voxels(volume, side, z, y)
        cut = voxels.reshape(len(voxels), side, -1, side, gx, side).transpose(2, 4, 0, 1, 3, 5)
        rows = np.ascontiguousarray(cut).reshape(-1, len(voxels) * side**3)
        words = b"".join(xxhash.xxh3_128_digest(row.data) for row in rows)
        digests[start : start + len(rows)] = np.frombuffer(words, "V16")
    return digests
