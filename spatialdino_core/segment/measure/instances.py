"""Instance labels: which voxels belong to which particle.

Foreground is what rises above a fraction of each particle's own height, in an image that is smoothed lightly
and, where a particle hardly stands out from noise and texture, drawn towards the shape of a point. It is
shared out between particles by a Voronoi partition in micrometres. Not the detection of particles, nor their
measurement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spatialdino_core.compiled import njit
from spatialdino_core.segment.detect.convolve import TRUNCATE
from spatialdino_core.segment.detections import Detections
from spatialdino_core.segment.measure.boxes import Boxes, Neighbours, cut_boxes, neighbours
from spatialdino_core.segment.optics import Optics
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.volume import Volume

SMOOTHING = 0.7
"""Smoothing before the voxels are judged, in standard deviations of the point spread function."""
VARIETY = 0.1
"""Mean squared difference of objects' true shapes from points, in squared heights: the Wiener filter's."""


@dataclass(frozen=True)
class Labels:
    """The voxels of objects.

    Attributes
    ----------
    shape
        Of the frame (z, y, x).
    voxel
        Shape (v,): flat indices of voxels, by object, those of one object rising.
    owner
        Shape (v,), intp: the object of each.
    objects
        How many there are; some may have no voxel.
    """

    shape: tuple[int, ...]
    voxel: np.ndarray
    owner: np.ndarray
    objects: int

    @property
    def sizes(self) -> np.ndarray:
        """Voxels of each object, (objects,)."""
        return np.bincount(self.owner, minlength=self.objects)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums of values (v,) over each object, (objects,)."""
        return np.bincount(self.owner, values, minlength=self.objects)

    @property
    def index(self) -> tuple[np.ndarray, ...]:
        """Coordinates of the voxels along z, y and x, each (v,)."""
        return np.unravel_index(self.voxel, self.shape)

    def keep(self, objects: np.ndarray) -> Labels:
        """Only some objects, a boolean mask (objects,), numbered anew."""
        kept = objects[self.owner]
        owner = (np.cumsum(objects) - 1)[self.owner[kept]]
        return Labels(self.shape, self.voxel[kept], owner, int(np.count_nonzero(objects)))

    def image(self) -> np.ndarray:
        """Labels (z, y, x), uint32: 0 is background, object i is i + 1."""
        found = np.zeros(self.shape, np.uint32)
        found.reshape(-1)[self.voxel] = self.owner + 1
        return found


def label_spots(volume: Volume, spots: Detections, optics: Optics, parameters: SegmentParameters) -> Labels:
    """Label the voxels of every spot.

    A voxel belongs to the spot whose centre is nearest in µm, if it lies within ``max_radius_um`` of it, is
    brighter than the spot's background plus ``mask_level`` times its height, and is connected
    (6-neighbours) to the spot's central voxel through such voxels. Every spot owns at least its central
    voxel, unless that is invalid or an earlier spot's.

    Brightness is judged after smoothing, at the level that leaves the outline of a point where it is
    without. A Wiener filter weighs it with the fitted point: ``g · measured + (1 − g) · point``, both in
    heights, where ``g = VARIETY / (VARIETY + mean squared difference of the two)``. A bright object is
    outlined as it is, one in noise as the point it was taken for.

    Parameters
    ----------
    volume
        The image, finite where valid.
    spots
        Fitted; those listed first win ties.
    optics
        The point spread function.
    parameters
        Radius and mask level.

    Returns
    -------
    Labels
        In the order of ``spots``.
    """
    size = np.array(volume.voxel_um)
    sigma = SMOOTHING * optics.sigma_voxels
    reach = np.ceil(parameters.max_radius_um / size).astype(np.int64)
    halo = (TRUNCATE * sigma + 0.5).astype(np.int64)
    points = _smoothed_points(spots, sigma, volume.level)
    # Where a point was as bright as mask_level, it is as bright as this after smoothing.
    least = parameters.mask_level ** ((spots.sigma / points.sigma) ** 2).mean(axis=1)
    territories = _Territories(
        np.ascontiguousarray(spots.position * size),
        size,
        parameters.max_radius_um**2,
        neighbours(spots.position, 2 * parameters.max_radius_um / size),
    )
    voxel, owner = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    for boxes in cut_boxes(volume, spots.position, np.arange(len(spots)), reach + halo):
        inner = _smoothed(boxes, volume.level, sigma, halo)
        own = territories.of(inner)
        centre = np.clip(np.round(spots.position[boxes.rows]).astype(np.int64), 0, np.array(volume.shape) - 1)
        centre -= inner.corner
        bright = _outline(inner, own, points.keep(boxes.rows), least[boxes.rows])
        bright[np.arange(len(centre)), *centre.T] = own[np.arange(len(centre)), *centre.T]
        connected = np.zeros(own.shape, bool)
        _flood(bright, centre, connected)
        box, *places = np.nonzero(connected)
        places = [place + inner.corner[box, a] for a, place in enumerate(places)]
        voxel.append(np.ravel_multi_index(places, volume.shape))
        owner.append(boxes.rows[box])
    return Labels(volume.shape, np.concatenate(voxel), np.concatenate(owner), len(spots))


def _smoothed_points(spots: Detections, by: np.ndarray, level: float) -> Detections:
    """Points after a Gaussian filter of standard deviation ``by`` (3,) in voxels, less ``level``."""
    sigma = np.sqrt(spots.sigma**2 + by**2)
    height = spots.amplitude * np.prod(spots.sigma / sigma, axis=1)
    return replace(spots, sigma=sigma, amplitude=height, background=spots.background - level)


def _outline(boxes: Boxes, own: np.ndarray, points: Detections, least: np.ndarray) -> np.ndarray:
    """Which of the voxels that are their ``own`` (n, z, y, x) are bright enough to belong to n points.

    ``least`` (n,) is how bright, relative to the height of the point.
    """
    bell = np.exp(-0.5 * boxes.offsets(points.position, points.sigma) ** 2)
    depth, height, width = own.shape[1:]
    point = np.einsum("nz,ny,nx->nzyx", bell[:, 0, :depth], bell[:, 1, :height], bell[:, 2, :width])
    peak = np.where(points.amplitude > 0, points.amplitude, np.inf)[:, None, None, None]
    measured = (boxes.values - points.background[:, None, None, None]) / peak
    different = (measured - point) * own
    size = np.maximum(np.einsum("nzyx->n", own, dtype=np.int64), 1)
    noise = np.einsum("nzyx,nzyx->n", different, different) / size
    gain = (VARIETY / (VARIETY + noise))[:, None, None, None]
    return np.asarray(own & (gain * measured + (1 - gain) * point > least[:, None, None, None]))


def _smoothed(boxes: Boxes, level: float, sigma: np.ndarray, halo: np.ndarray) -> Boxes:
    """Boxes without their halo: normalised convolution of intensities, less a level, with a Gaussian."""
    z, y, x = (
        _gaussian_matrix(length, edge, spread)
        for length, edge, spread in zip(boxes.values.shape[1:], halo, sigma, strict=True)
    )

    def filtered(values: np.ndarray) -> np.ndarray:
        n, depth, height, width = values.shape
        along = (z @ values.reshape(n, depth, height * width)).reshape(n, len(z), height, width)
        return np.asarray(y @ along @ x.T)

    mean = filtered(np.where(boxes.usable, boxes.values - np.float32(level), np.float32(0)))
    broken = np.flatnonzero(boxes.count < boxes.usable[0].size)
    inner = (slice(None), *(slice(edge, -edge or None) for edge in halo))
    usable = np.ascontiguousarray(boxes.usable[inner])
    support = filtered(boxes.usable[broken].astype(np.float32))
    mean[broken] = np.where(usable[broken], mean[broken] / np.where(support > 0, support, 1), 0)
    count = np.einsum("nzyx->n", usable, dtype=np.int64)
    return replace(boxes, corner=boxes.corner + halo, values=mean, usable=usable, count=count)


def _gaussian_matrix(length: int, halo: int, sigma: float) -> np.ndarray:
    """Filter of lines as a product: (length − 2 halo, length), float32."""
    offset = np.arange(length) - np.arange(halo, length - halo)[:, None]
    weight = np.exp(-0.5 * (offset / sigma) ** 2) * (np.abs(offset) <= halo)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class _Territories:
    """A Voronoi partition: ``position`` (n, 3) in µm, ``size`` (3,) of a voxel, and how far it reaches."""

    position: np.ndarray
    size: np.ndarray
    squared_radius: float
    near: Neighbours

    def of(self, boxes: Boxes) -> np.ndarray:
        """Which voxels of boxes (n, z, y, x) are nearest to the place that the box is around."""
        own = boxes.usable.copy()
        _leave_own(
            own,
            boxes.corner,
            boxes.rows,
            self.position,
            self.size,
            self.squared_radius,
            self.near.first,
            self.near.other,
        )
        return own


@njit(nogil=True, cache=True)
def _leave_own(
    own: np.ndarray,
    corner: np.ndarray,
    rows: np.ndarray,
    position: np.ndarray,
    size: np.ndarray,
    squared_radius: float,
    first: np.ndarray,
    other: np.ndarray,
) -> None:
    longest = max(own.shape)
    mine, theirs = np.empty((3, longest)), np.empty((3, longest))
    for i in range(len(rows)):
        row = rows[i]
        _squares(corner[i], own.shape, position[row], size, mine)
        for z in range(own.shape[1]):
            for y in range(own.shape[2]):
                for x in range(own.shape[3]):
                    near = mine[0, z] + mine[1, y] + mine[2, x] < squared_radius
                    own[i, z, y, x] = own[i, z, y, x] and near
        for n in range(first[row], first[row + 1]):
            rival = other[n]
            _squares(corner[i], own.shape, position[rival], size, theirs)
            for z in range(own.shape[1]):
                for y in range(own.shape[2]):
                    for x in range(own.shape[3]):
                        my = mine[0, z] + mine[1, y] + mine[2, x]
                        their = theirs[0, z] + theirs[1, y] + theirs[2, x]
                        if their < my or (their == my and rival < row):
                            own[i, z, y, x] = False


@njit(nogil=True, cache=True)
def _squares(
    corner: np.ndarray, shape: tuple[int, ...], position: np.ndarray, size: np.ndarray, found: np.ndarray
) -> None:
    """Squared distances along each axis."""
    for a in range(3):
        for k in range(shape[1 + a]):
            found[a, k] = ((corner[a] + k) * size[a] - position[a]) ** 2


@njit(nogil=True, cache=True)
def _flood(inside: np.ndarray, start: np.ndarray, found: np.ndarray) -> None:
    """What is connected to ``start`` (n, 3) in boxes (n, z, y, x), by faces."""
    n, depth, height, width = inside.shape
    stack = np.empty((depth * height * width, 3), np.int64)
    for i in range(n):
        top = 0
        z, y, x = start[i, 0], start[i, 1], start[i, 2]
        if inside[i, z, y, x]:
            found[i, z, y, x] = True
            stack[0, 0], stack[0, 1], stack[0, 2] = z, y, x
            top = 1
        while top:
            top -= 1
            z, y, x = stack[top, 0], stack[top, 1], stack[top, 2]
            for face in range(6):
                step = 1 if face % 2 else -1
                a = z + (step if face < 2 else 0)
                b = y + (step if 2 <= face < 4 else 0)
                c = x + (step if face >= 4 else 0)
                known = 0 <= a < depth and 0 <= b < height and 0 <= c < width
                if known and inside[i, a, b, c] and not found[i, a, b, c]:
                    found[i, a, b, c] = True
                    stack[top, 0], stack[top, 1], stack[top, 2] = a, b, c
                    top += 1
