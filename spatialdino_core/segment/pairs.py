"""Fits of two Gaussians to what was detected as one particle, and how much better than one they are.

Two particles nearer than about two standard deviations of the point spread function make one maximum
(Sparrow's limit), but not the image of one: mixture-model fitting tells them apart (Jaqaman et al. 2008, Nat.
Methods 5, 695; Thomann et al. 2002, J. Microsc. 208, 49). Not the decision: that is :mod:`.splitting`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spatialdino_core.segment.boxes import (
    PLANE,
    Neighbours,
    boxes,
    chunks,
    gaussian,
    least_squares,
    offsets,
    regularised,
    subtract_mean,
)
from spatialdino_core.segment.localise import Spots

WINDOW = 2.75
"""Half the edge of the fitted box in standard deviations of one particle."""
REACH = 3.0
"""Largest distance of a part from the maximum, per axis, in standard deviations."""
STARTS = ((-1.2, 1.2), (0.0, 2.4), (0.0, -2.4))
"""Where the two parts start on the axis of elongation, in standard deviations from the maximum."""
STEPS = 8
SINGLE_STEPS = 5
MAX_STEP = 0.5
WIDTHS = (0.6, 1.8)
"""Bounds of the width of a single blob, relative to that of one particle."""
DAMPING = 1e-3
TERMS = 2 + PLANE + 6
SECOND = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


@dataclass(frozen=True)
class Pairs:
    """The best fit of two Gaussians to each of n spots.

    Attributes
    ----------
    parts
        The brighter and the dimmer parts, n rows each.
    excess
        Shape (n,): √((R₁ − R₂) / noise²), how much better than one blob of any width they explain the image:
        R are sums of squared residuals, noise² the variance of the pair's residual. Negative where they do
        not.
    """

    parts: tuple[Spots, Spots]
    excess: np.ndarray


@dataclass(frozen=True)
class _Boxes:
    """Images (n, voxels) of spots without their neighbours' light, and what they are fitted with."""

    axes: list[np.ndarray]  # three (n, length)
    usable: np.ndarray  # (n, z, y, x)
    target: np.ndarray  # (n, voxels)
    level: np.ndarray  # (n,)
    seeds: np.ndarray  # (n, 3)
    sigma: np.ndarray  # (n, 3)
    plane: np.ndarray  # (n, 4, voxels)

    def gaussian(self, position: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        """Gaussians (n, voxels), zero where unusable."""
        return np.where(self.usable, gaussian(self.axes, position, sigma), 0).reshape(self.target.shape)

    def offsets(self, position: np.ndarray, sigma: np.ndarray) -> list[np.ndarray]:
        """Distances along z, y, x in standard deviations, each (n, voxels)."""
        return [
            np.broadcast_to(one, self.usable.shape).reshape(self.target.shape)
            for one in offsets(self.axes, position, sigma)
        ]

    def slopes(self, shape: np.ndarray, position: np.ndarray) -> list[np.ndarray]:
        """Derivatives of Gaussians along z, y, x, positions in standard deviations, each (n, voxels)."""
        return [shape * offset for offset in self.offsets(position, self.sigma)]


def fit_pairs(
    image: np.ndarray, valid: np.ndarray | None, spots: Spots, rows: np.ndarray, sigma: np.ndarray
) -> Pairs:
    """Fit two Gaussians to each spot of ``rows``, and for comparison one of any width.

    Parameters
    ----------
    image
        Intensities (z, y, x), any real dtype.
    valid
        Boolean mask broadcastable to ``image``, or None.
    spots
        All spots; the light of the others is taken off.
    rows
        Shape (n,), intp.
    sigma
        Shape (3,): standard deviations of the image of one particle in voxels.
    """
    found = [_fit(some) for some in _boxes(image, valid, spots, rows, sigma)]
    excess, *parts = (np.concatenate(column) for column in zip(*found, strict=True))
    brighter, dimmer = (
        Spots(place, np.broadcast_to(sigma, place.shape), *rest)
        for place, *rest in zip(*(np.moveaxis(part, 1, 0) for part in parts), strict=True)
    )
    return Pairs((brighter, dimmer), excess)


def elongation(
    image: np.ndarray, valid: np.ndarray | None, spots: Spots, rows: np.ndarray, sigma: np.ndarray
) -> np.ndarray:
    """Second moments by which spots differ from a Gaussian, (n, 3, 3) in units of ``sigma``.

    The parameters are those of :func:`fit_pairs`.
    """
    found = [_elongation(some) for some in _boxes(image, valid, spots, rows, sigma)]
    return np.concatenate(found)


def _boxes(
    image: np.ndarray, valid: np.ndarray | None, spots: Spots, rows: np.ndarray, sigma: np.ndarray
) -> Iterator[_Boxes]:
    """As many spots as fit into memory at a time."""
    half = np.maximum(2, np.ceil(WINDOW * sigma)).astype(np.intp)  # (3,)
    neighbours = Neighbours(spots.position, spots.sigma, spots.amplitude, half)
    for some in chunks(rows, half, TERMS):
        seeds = spots.position[some]  # (n, 3)
        axes, values, usable = boxes(image, valid, seeds, half)  # values, usable: (n, z, y, x)
        values, level = subtract_mean(values - neighbours.light(some, axes), usable)  # level: (n,)
        width = np.broadcast_to(sigma, seeds.shape)  # (n, 3)
        plane = np.empty((len(some), PLANE, *usable.shape[1:]))  # (n, 4, z, y, x): 1, z, y, x
        plane[:, 0] = usable
        for a, offset in enumerate(offsets(axes, seeds, width)):
            plane[:, 1 + a] = usable * offset
        target = values.reshape(len(some), -1)  # (n, voxels)
        yield _Boxes(axes, usable, target, level, seeds, width, plane.reshape(len(some), PLANE, -1))


def _elongation(box: _Boxes) -> np.ndarray:
    """The image as a Taylor series of a Gaussian: itself, a plane, its first and second derivatives."""
    shape = box.gaussian(box.seeds, box.sigma)  # (n, voxels)
    offset = box.offsets(box.seeds, box.sigma)  # three (n, voxels)
    columns = [shape, *np.moveaxis(box.plane, 1, 0), *box.slopes(shape, box.seeds)]
    columns += [shape * (offset[a] * offset[b] - (a == b)) * (0.5 if a == b else 1.0) for a, b in SECOND]
    linear = least_squares(np.stack(columns, 1), box.target)  # (n, 14)
    height = np.where(linear[:, 0] > 0, linear[:, 0], np.inf)  # (n,)
    moments = np.empty((len(height), 3, 3))
    for k, (a, b) in enumerate(SECOND):
        moments[:, a, b] = moments[:, b, a] = linear[:, k - len(SECOND)] / height
    return moments


def _fit(box: _Boxes) -> tuple[np.ndarray, ...]:
    """Excess; and of two parts, the brighter first: position, amplitude, background, noise, variance."""
    alone = _single(box)  # (n,)
    position = _starts(box)  # (n, 2, 3)
    for _ in range(STEPS):
        design, linear, residual = _pair(box, position)  # (n, 12, voxels), (n, 6), (n, voxels)
        normal = design @ design.transpose(0, 2, 1)  # (n, 12, 12)
        diagonal = np.arange(normal.shape[1])
        normal[:, diagonal, diagonal] *= 1 + DAMPING
        shift = np.linalg.solve(regularised(normal), design @ residual[:, :, None])[:, -6:, 0]  # (n, 6)
        step = np.clip(shift.reshape(position.shape), -MAX_STEP, MAX_STEP) * box.sigma[:, None]  # (n, 2, 3)
        reach = REACH * box.sigma[:, None]  # (n, 1, 3)
        position = np.clip(position + step, box.seeds[:, None] - reach, box.seeds[:, None] + reach)
    design, linear, residual = _pair(box, position)
    count = box.usable.sum(axis=(1, 2, 3))  # (n,), and so freedom, left and noise
    freedom = np.maximum(count - design.shape[1], 1)
    left = np.sum(residual**2, axis=1)
    noise = np.sqrt(np.maximum(left / freedom, np.finfo(float).tiny))
    inverse = np.linalg.inv(regularised(design @ design.transpose(0, 2, 1)))  # (n, 12, 12)
    weighted = inverse @ (design * residual[:, None])  # (n, 12, voxels)
    variance = (weighted**2).sum(axis=2)[:, -6:].reshape(position.shape)  # (n, 2, 3)
    variance = variance * (count / freedom)[:, None, None]
    beside = (position - box.seeds[:, None]) / box.sigma[:, None]  # (n, 2, 3)
    plane = (beside @ linear[:, 3:6, None])[:, :, 0]  # (n, 2)
    background = linear[:, 2, None] + box.level[:, None] + plane
    amplitude = linear[:, :2]  # (n, 2)
    order = np.argsort(-amplitude, axis=1, kind="stable")  # (n, 2)
    parts = (position, amplitude, background, np.stack([noise, noise], 1), variance * box.sigma[:, None] ** 2)
    ordered = (np.take_along_axis(p, order.reshape(order.shape + (1,) * (p.ndim - 2)), 1) for p in parts)
    gain = alone - left
    return np.sign(gain) * np.sqrt(np.abs(gain)) / noise, *ordered


def _single(box: _Boxes) -> np.ndarray:
    """Sum of squared residuals (n,) of one Gaussian whose width is free."""
    position, width = box.seeds, np.ones(len(box.seeds))  # (n, 3), (n,)
    for step in range(SINGLE_STEPS + 1):
        sigma = box.sigma * width[:, None]  # (n, 3)
        shape = box.gaussian(position, sigma)  # (n, voxels)
        design = np.concatenate([shape[:, None], box.plane], 1)  # (n, 5, voxels)
        linear = least_squares(design, box.target)  # (n, 5)
        residual = box.target - (linear[:, None] @ design)[:, 0]  # (n, voxels)
        if step == SINGLE_STEPS:
            break
        offset = box.offsets(position, sigma)
        slopes = np.stack([*(shape * one for one in offset), shape * sum(one**2 for one in offset)], 1)
        design = np.concatenate([design, linear[:, 0, None, None] * slopes], 1)  # (n, 9, voxels)
        shift = np.clip(least_squares(design, residual)[:, -4:], -MAX_STEP, MAX_STEP)  # (n, 4)
        reach = REACH * box.sigma
        position = np.clip(position + shift[:, :3] * sigma, box.seeds - reach, box.seeds + reach)
        width = np.clip(width * np.exp(shift[:, 3]), *WIDTHS)
    return np.asarray(np.sum(residual**2, axis=1))


def _starts(box: _Boxes) -> np.ndarray:
    """The best of :data:`STARTS`, positions (n, 2, 3)."""
    axis = np.linalg.eigh(_elongation(box))[1][:, :, -1] * box.sigma  # (n, 3)
    places = [box.seeds[:, None] + np.multiply.outer(start, axis).swapaxes(0, 1) for start in STARTS]
    left = np.stack([np.sum(_pair(box, place)[2] ** 2, axis=1) for place in places])  # (starts, n)
    return np.asarray(np.stack(places)[left.argmin(axis=0), np.arange(len(axis))])


def _pair(box: _Boxes, position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two Gaussians, plane, derivatives by both positions (n, 12, voxels); linear terms (n, 6); residual."""
    both = [box.gaussian(position[:, k], box.sigma) for k in range(2)]  # two (n, voxels)
    design = np.concatenate([np.stack(both, 1), box.plane], 1)  # (n, 6, voxels)
    linear = least_squares(design, box.target)  # (n, 6)
    residual = box.target - (linear[:, None] @ design)[:, 0]
    slopes = [linear[:, k, None] * slope for k in range(2) for slope in box.slopes(both[k], position[:, k])]
    return np.concatenate([design, np.stack(slopes, 1)], 1), linear, residual
