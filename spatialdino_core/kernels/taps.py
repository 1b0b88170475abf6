"""Which raw voxels an output voxel is made from, and with which weights: orthogonal interpolation.

A raw stack is a set of parallel image planes. Within the plane spanned by their normal and the tilted
pixel axis, output voxel (k, i) lies at a real plane number ``t`` and a real pixel ``r``. The planes next
to it are read where the plane normal through the voxel meets them, at ``r + (t - q) m`` on plane q, and
not at ``r``: neighbouring planes are displaced by ``m`` pixels, and reading all of them at ``r`` blurs
([1]_, [2]_). The table is the same for every row of the third axis. Maths on indices only, no images;
what executes the table is in ``combine.py``.

Cubic interpolation is cubic convolution [3]_: linear interpolation and a correction by the curvature on
both sides, ``c f (1-f)² (v₋₁ - 2 v₀ + v₁) + c f² (1-f) (v₀ - 2 v₁ + v₂)``, exact for linear images. With
c = -1/2 (Catmull-Rom) it is exact for quadratic ones, too; with c = -0.55 its mean error for a point
spread function with a standard deviation of 0.85 to 2 pixels, which is what microscopes sample, is 6 to
20 % lower. Nothing is extrapolated: where the cubic kernel reaches beyond the stack, interpolation is
linear, and where only one of two planes was imaged, its value is taken.

References
----------
.. [1] Maioli, High-speed 3-D fluorescence imaging by oblique plane microscopy, thesis, Imperial
   College London (2016).
.. [2] Sapoznik et al., eLife 9, e57681 (2020).
.. [3] Keys, IEEE Transactions on Acoustics, Speech, and Signal Processing 29, 1153 (1981).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

SNAP = 1e-6
"""Positions this close to a whole voxel count as whole: rounding errors of the geometry must not cost an
edge its voxels."""

CURVATURE = -0.55
"""The share c of the curvature that cubic convolution takes off."""

Line = tuple[float, float, float]
Block = tuple[slice, slice]


@dataclass(frozen=True, kw_only=True)
class PlaneMap:
    """Positions of output voxels (k, i) in a raw stack: linear functions ``a k + b i + c``.

    Attributes
    ----------
    planes, pixels
        Size of the raw stack along the scan, S, and along the tilted axis, R.
    plane
        Coefficients (a, b, c) of the plane number t, planes ascending along their normal.
    pixel
        Coefficients of the pixel r.
    shear
        Displacement m of the next plane along the tilted axis (pixels).
    reversed_planes
        Whether the stack was recorded down the normal: plane q is then array plane S - 1 - q.
    rows, columns
        Output voxels k and i that are asked for; a crop of the output is a smaller range.
    """

    planes: int
    pixels: int
    plane: Line
    pixel: Line
    shear: float
    reversed_planes: bool
    rows: range
    columns: range

    def cropped(self, rows: range, columns: range) -> PlaneMap:
        """The same map for other output voxels."""
        return PlaneMap(**(self.__dict__ | {"rows": rows, "columns": columns}))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows k and of columns i."""
        return len(self.rows), len(self.columns)

    def valid_columns(self, k: int) -> tuple[int, int]:
        """Half-open range of columns of row ``k`` that lie within the stack, 0 ≤ t ≤ S - 1 and
        0 ≤ r ≤ R - 1; within ``columns``, may be empty."""
        start, stop = self.columns.start, self.columns.stop
        for (a, b, c), last in ((self.plane, self.planes - 1), (self.pixel, self.pixels - 1)):
            low, high = _solve(b, a * k + c, last)
            start, stop = max(start, low), min(stop, high)
        return start, max(start, stop)


def _solve(slope: float, constant: float, last: int) -> tuple[int, int]:
    """Integers i with ``0 ≤ slope i + constant ≤ last``, as a half-open range."""
    if slope == 0:
        inside = -SNAP <= constant <= last + SNAP
        return (-(2**62), 2**62) if inside else (0, 0)
    ends = sorted(((0 - constant) / slope, (last - constant) / slope))
    return math.ceil(ends[0] - SNAP), math.floor(ends[1] + SNAP) + 1


@dataclass(frozen=True, eq=False)
class Taps:
    """The interpolation of every output voxel (k, i) that lies within the stack.

    Attributes
    ----------
    shape
        Rows k and columns i of the output.
    block
        Part of the raw stack that is read: array planes and pixels. ``start`` counts within it.
    offsets
        int64 (rows + 1): entries of row k are ``offsets[k]`` to ``offsets[k + 1]``.
    first
        int64 (rows): the output column (counted within the output) of the first entry of each row.
    start
        int32 (entries, planes): first pixel that is read on each plane, flattened (plane, pixel).
    weight
        float32 (entries, planes, pixels): weights of that pixel and of those that follow; they sum to 1.
    """

    shape: tuple[int, int]
    block: Block
    offsets: NDArray[np.int64]
    first: NDArray[np.int64]
    start: NDArray[np.int32]
    weight: NDArray[np.float32]

    @cached_property
    def block_shape(self) -> tuple[int, int]:
        """Planes and pixels of the block."""
        planes, pixels = self.block
        return planes.stop - planes.start, pixels.stop - pixels.start

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Bool (rows, columns): where there is an entry."""
        column = np.arange(self.shape[1])
        last = self.first + np.diff(self.offsets)
        return (column >= self.first[:, None]) & (column < last[:, None])

    @cached_property
    def runs(self) -> NDArray[np.int64]:
        """int64 (rows, 2): the longest part of each row, as entries, along which weights stay the same
        and the pixel advances by one: a plain filter. Empty where there is none."""
        return np.array([self._run(k) for k in range(self.shape[0])], np.int64).reshape(-1, 2)

    def _run(self, k: int) -> tuple[int, int]:
        begin, end = self.offsets[k], self.offsets[k + 1]
        middle = (begin + end) // 2
        if begin == end or self.start.shape[1] > 1 or self.weight.shape[2] % 2:
            return begin, begin
        part = slice(begin, end)
        step = np.arange(begin, end) - middle
        alike = (self.weight[part] == self.weight[middle]).all((1, 2))
        alike &= self.start[part, 0] - self.start[middle, 0] == step
        odd_before = np.flatnonzero(~alike[: middle - begin])
        odd_after = np.flatnonzero(~alike[middle - begin :])
        low = begin + odd_before[-1] + 1 if len(odd_before) else begin
        high = middle + odd_after[0] if len(odd_after) else end
        return low, high


def make_taps(plane_map: PlaneMap, order: int) -> Taps:
    """Tabulate an interpolation.

    Parameters
    ----------
    plane_map
        Where output voxels lie.
    order
        1: linear, 3: cubic.

    Returns
    -------
    Taps
        With the smallest block of the raw stack that it needs.
    """
    ranges = [plane_map.valid_columns(k) for k in plane_map.rows]
    lengths = np.array([stop - start for start, stop in ranges], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    first = np.array([start for start, _ in ranges], np.int64)
    k = np.repeat(np.array(plane_map.rows, np.float64), lengths)
    i = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - first, lengths)
    t = _evaluate(plane_map.plane, k, i)
    r = _evaluate(plane_map.pixel, k, i)
    array_plane, pixel, weight = _orthogonal(plane_map, t, r, order)
    block = _bounding_block(array_plane, pixel, weight, plane_map)
    within = (array_plane - block[0].start) * (block[1].stop - block[1].start) + pixel - block[1].start
    return Taps(
        plane_map.shape,
        block,
        offsets,
        first - plane_map.columns.start,
        np.ascontiguousarray(within, np.int32),
        np.ascontiguousarray(weight, np.float32),
    )


def _evaluate(line: Line, k: NDArray[np.float64], i: NDArray[np.int64]) -> NDArray[np.float64]:
    return line[0] * k + line[1] * i + line[2]


def _orthogonal(
    plane_map: PlaneMap, t: NDArray[np.float64], r: NDArray[np.float64], order: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Array planes and first pixels (entries, planes) and weights (entries, planes, pixels)."""
    whole, fraction = split(t)
    reach = 0 if not fraction.any() else (order + 1) // 2
    steps = np.arange(1 - reach, reach + 1) if reach else np.array([0])
    plane = whole[:, None] + steps
    position = r[:, None] + (t[:, None] - plane) * plane_map.shear
    imaged = (plane >= 0) & (plane < plane_map.planes)
    imaged &= (position >= -SNAP) & (position <= plane_map.pixels - 1 + SNAP)
    across = _weights_across(fraction, imaged)
    pixel, within = weights_along(np.where(imaged, position, 0.0), plane_map.pixels, order)
    # A plane that does not count is read where one that counts is read: memory that is at hand.
    instead = np.argmax(across != 0, axis=1)[:, None]
    counts = across != 0
    plane = np.where(counts, plane, np.take_along_axis(plane, instead, 1))
    pixel = np.where(counts, pixel, np.take_along_axis(pixel, instead, 1))
    array_plane = plane_map.planes - 1 - plane if plane_map.reversed_planes else plane
    return array_plane, pixel, across[:, :, None] * within


def _weights_across(fraction: NDArray[np.float64], imaged: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights of the planes: cubic where all four were imaged, linear where the two next to the voxel
    were, else that one of the two which was."""
    if imaged.shape[1] == 1:
        return np.ones_like(imaged, np.float64)
    inner = imaged.shape[1] // 2
    below, above = imaged[:, inner - 1], imaged[:, inner]
    weights = np.zeros(imaged.shape)
    share = np.where(below & above, fraction, np.where(below, 0.0, 1.0))
    weights[:, inner - 1], weights[:, inner] = 1 - share, share
    if imaged.shape[1] == 4:
        complete = imaged.all(1)
        weights[complete] = cubic_convolution(fraction[complete])
    return weights


def weights_along(
    position: NDArray[np.float64], pixels: int, order: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """First pixel and weights of an interpolation along one axis.

    Parameters
    ----------
    position
        Any shape, between 0 and ``pixels - 1``.
    pixels
        Length of the axis.
    order
        1: linear; 3: cubic where four pixels are there, linear next to the ends.

    Returns
    -------
    first
        int64, as ``position``.
    weight
        float64 (..., order + 1); on an axis that is shorter (..., 2), or (..., 1).
    """
    whole, fraction = split(position)
    count = order + 1 if pixels > order else min(2, pixels)
    first = np.clip(whole - (count - 1) // 2, 0, pixels - count)
    weight = np.zeros((*position.shape, count))
    left = np.clip(whole - first, 0, count - 1)
    right = np.clip(left + 1, 0, count - 1)
    np.put_along_axis(weight, left[..., None], (1 - fraction)[..., None], -1)
    share = np.take_along_axis(weight, right[..., None], -1)[..., 0] * (right == left) + fraction
    np.put_along_axis(weight, right[..., None], share[..., None], -1)
    if count == 4:
        cubic = (whole >= 1) & (whole <= pixels - 3)
        weight[cubic] = cubic_convolution(fraction[cubic])
    return first, weight


def split(position: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Whole part and fraction in [0, 1); positions within `SNAP` of a whole number count as whole."""
    whole = np.floor(position + SNAP)
    fraction = position - whole
    return whole.astype(np.int64), np.where(fraction < SNAP, 0.0, fraction)


def cubic_convolution(fraction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (..., 4) of the samples at -1, 0, 1, 2 for positions in [0, 1).

    Examples
    --------
    >>> cubic_convolution(np.array([0.25, 0.5])).round(3).tolist()
    [[-0.077, 0.879, 0.224, -0.026], [-0.069, 0.569, 0.569, -0.069]]
    """
    return np.stack(cubic_weights(fraction), -1)


def cubic_weights(f: Any) -> tuple[Any, Any, Any, Any]:
    """The four weights of `cubic_convolution`, for a number or an array; plain enough to be compiled."""
    before, after = CURVATURE * f * (1 - f) ** 2, CURVATURE * f**2 * (1 - f)
    return before, 1 - f - 2 * before + after, f + before - 2 * after, after


def _bounding_block(
    array_plane: NDArray[np.int64],
    pixel: NDArray[np.int64],
    weight: NDArray[np.float64],
    plane_map: PlaneMap,
) -> Block:
    if not len(array_plane):
        return slice(0, 1), slice(0, plane_map.pixels)
    return (
        slice(int(array_plane.min()), int(array_plane.max()) + 1),
        slice(int(pixel.min()), int(pixel.max()) + weight.shape[2]),
    )
