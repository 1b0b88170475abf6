"""Boxes of voxels around places in a frame: cut out, and freed from the light of neighbours.

What is fitted or outlined there is not its business: see :mod:`.localise`, :mod:`.pairs`, :mod:`.instances`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from spatialdino_core.compiled import njit
from spatialdino_core.segment.volume import Volume

FADED = 3.0
"""Standard deviations from its centre at which the light of a neighbour has faded out."""
# Sums may be taken in any order, but what is not a number stays what it is.
FAST = {"contract", "reassoc", "nsz", "arcp"}
KEPT_VOXELS = 40_000_000
"""Boxes with more voxels than this, some 0.2 GB, are cut out anew each time that they are gone through."""
CHUNK_VOXELS = 250_000
"""Voxels of boxes held at once, which bounds memory and stays in the processor's cache."""


@dataclass(frozen=True)
class Boxes:
    """Boxes of one size.

    Attributes
    ----------
    rows
        Shape (n,): which places they are around.
    corner
        Shape (n, 3), int64: their first voxels (z, y, x); may lie outside of the frame.
    values
        Shape (n, z, y, x), zero where unusable.
    usable
        Shape (n, z, y, x), bool: in the frame and valid.
    count
        Shape (n,), int64: usable voxels.
    level
        Shape (n,): what was taken off the values.
    frame
        Shape (z, y, x) of the frame.
    """

    rows: np.ndarray
    corner: np.ndarray
    values: np.ndarray
    usable: np.ndarray
    count: np.ndarray
    level: np.ndarray
    frame: tuple[int, ...]

    @cached_property
    def inside(self) -> np.ndarray:
        """Which of the box's places along z, y, x lie in the frame, bool (n, 3, longest edge)."""
        edges = np.array(self.values.shape[1:])[:, None]  # (3, 1)
        along = np.arange(edges.max())
        voxel = self.corner[:, :, None] + along  # (n, 3, longest edge)
        return np.asarray((voxel >= 0) & (voxel < np.array(self.frame)[:, None]) & (along < edges))

    @cached_property
    def masked(self) -> np.ndarray:
        """Rows of boxes where voxels in the frame are invalid."""
        return np.flatnonzero(self.count < self.inside.sum(axis=2).prod(axis=1))

    def offsets(self, position: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        """Distances (n, 3, longest edge) along z, y, x from ``position`` in units of ``sigma``, (n, 3)."""
        voxel = self.corner[:, :, None] + np.arange(max(self.values.shape[1:]))
        return np.asarray((voxel - position[:, :, None]) / sigma[:, :, None])

    def profiles(self, *functions: np.ndarray) -> np.ndarray:
        """Functions (n, 3, longest edge) along the axes, together and zero beyond the box and the frame."""
        return np.stack(functions, axis=2) * self.inside[:, :, None]

    def squares_without(self, model: np.ndarray) -> np.ndarray:
        """Squared residuals (n, z, y, x) of a model; zero where unusable."""
        return np.where(self.usable, self.values - model, 0) ** 2


def cut_boxes(volume: Volume, places: np.ndarray, rows: np.ndarray, half: np.ndarray) -> Iterator[Boxes]:
    """The boxes around some places, as many at a time as memory allows; ``values`` are float32.

    Parameters
    ----------
    volume
        The frame.
    places
        Shape (n, 3), voxels (z, y, x).
    rows
        Those of ``places`` that are wanted.
    half
        Shape (3,): half edges of the boxes in voxels.
    """
    frame = np.ascontiguousarray(volume.image, None if volume.image.dtype == np.uint16 else np.float32)
    mask = np.ascontiguousarray(np.ones((1, 1, 1), bool) if volume.valid is None else volume.valid)
    shape = [int(edge) for edge in 2 * half + 1]
    pieces = -(-len(rows) * int(np.prod(shape)) // CHUNK_VOXELS)
    for some in np.array_split(rows, pieces) if pieces else []:
        corner = np.round(places[some]).astype(np.int64) - half
        values, usable = np.zeros((len(some), *shape), np.float32), np.zeros((len(some), *shape), bool)
        count = np.empty(len(some), np.int64)
        _cut(frame, mask, corner, values, usable, count)
        yield Boxes(some, corner, values, usable, count, np.zeros(len(some)), frame.shape)


@njit(nogil=True, cache=True)
def _cut(
    frame: np.ndarray,
    mask: np.ndarray,
    corner: np.ndarray,
    values: np.ndarray,
    usable: np.ndarray,
    count: np.ndarray,
) -> None:
    n, depth, height, width = values.shape
    deep, high, wide = mask.shape[0] > 1, mask.shape[1] > 1, mask.shape[2] > 1
    for i in range(n):
        used = 0
        start = min(max(0, -corner[i, 2]), width)
        stop = max(start, min(width, frame.shape[2] - corner[i, 2]))
        for a in range(depth):
            z = corner[i, 0] + a
            for b in range(height):
                y = corner[i, 1] + b
                if not (0 <= z < frame.shape[0] and 0 <= y < frame.shape[1]):
                    continue
                for c in range(start, stop):
                    x = corner[i, 2] + c
                    known = mask[z if deep else 0, y if high else 0, x if wide else 0]
                    usable[i, a, b, c] = known
                    if known:
                        values[i, a, b, c] = frame[z, y, x]
                        used += 1
        count[i] = used


@dataclass(frozen=True)
class Neighbours:
    """Which places lie near one another.

    Attributes
    ----------
    first, other
        Those near place i are ``other[first[i] : first[i + 1]]``, rising, int64.
    """

    first: np.ndarray
    other: np.ndarray


def neighbours(position: np.ndarray, reach: np.ndarray) -> Neighbours:
    """Pairs of places (n, 3) within ``reach`` (3,) along every axis.

    Examples
    --------
    >>> near = neighbours(np.array([[0.0, 0, 0], [0, 0, 9], [0, 1, 2]]), np.array([2.0, 2, 3]))
    >>> near.first.tolist(), near.other.tolist()
    ([0, 1, 1, 2], [2, 0])
    """
    pairs = cKDTree(position / reach).query_pairs(1.0, p=np.inf, output_type="ndarray")
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))].astype(np.int64)
    first = np.searchsorted(both[:, 0], np.arange(len(position) + 1))
    return Neighbours(first, np.ascontiguousarray(both[:, 1]))


@dataclass(frozen=True)
class Light:
    """What blobs shed into each other's boxes.

    Attributes
    ----------
    position, sigma
        Shape (n, 3): centres and standard deviations of all blobs in voxels.
    amplitude
        Shape (n,): their heights.
    near
        Pairs that may be near enough.
    """

    position: np.ndarray
    sigma: np.ndarray
    amplitude: np.ndarray
    near: Neighbours

    def without(self, boxes: Boxes, near: np.ndarray) -> Boxes:
        """Boxes, float64, without light from blobs about ``near`` (3,), and less the mean that is left.

        Light counts up to :data:`FADED` standard deviations further away.
        """
        n, *edges = boxes.values.shape
        values, level = boxes.values.astype(np.float64), np.empty(n)
        _take_off(
            values.reshape(n, edges[0], -1),
            boxes.usable.reshape(n, edges[0], -1),
            np.array(edges, np.int64),
            boxes.count,
            level,
            boxes.corner,
            boxes.rows,
            self.position,
            self.sigma,
            self.amplitude,
            self.near.first,
            self.near.other,
            np.asarray(near + 1, np.float64),
        )
        return replace(boxes, values=values, level=level)


@njit(nogil=True, cache=True, fastmath=FAST)
def _take_off(
    values: np.ndarray,
    usable: np.ndarray,
    edges: np.ndarray,
    count: np.ndarray,
    level: np.ndarray,
    corner: np.ndarray,
    rows: np.ndarray,
    position: np.ndarray,
    sigma: np.ndarray,
    amplitude: np.ndarray,
    first: np.ndarray,
    other: np.ndarray,
    near: np.ndarray,
) -> None:
    n, depth, plane = values.shape
    bell, across = np.empty((3, max(edges[0], edges[1], edges[2]))), np.empty(plane)
    for i in range(n):
        row = rows[i]
        for k in range(first[row], first[row + 1]):
            m = other[k]
            reaches = amplitude[m] != 0
            for a in range(3):
                apart = abs(position[row, a] - position[m, a])
                reaches = reaches and apart < near[a] + FADED * sigma[m, a]
            if not reaches:
                continue
            for a in range(3):
                for b in range(edges[a]):
                    offset = (corner[i, a] + b - position[m, a]) / sigma[m, a]
                    bell[a, b] = np.exp(-0.5 * offset * offset)
            for v in range(plane):
                across[v] = bell[1, v // edges[2]] * bell[2, v % edges[2]]
            for z in range(depth):
                height = amplitude[m] * bell[0, z]
                for v in range(plane):
                    values[i, z, v] -= height * across[v]
        total = 0.0
        for z in range(depth):
            for v in range(plane):
                total += values[i, z, v] * usable[i, z, v]
        level[i] = total / max(count[i], 1)
        for z in range(depth):
            for v in range(plane):
                values[i, z, v] = (values[i, z, v] - level[i]) * usable[i, z, v]
