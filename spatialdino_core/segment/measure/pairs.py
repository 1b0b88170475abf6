"""Fits of two Gaussians to what was detected as one particle, and how much better than one they are.

Two particles nearer than about two standard deviations of the point spread function make one maximum
(Sparrow's limit), but not the image of one: mixture-model fitting tells them apart (Jaqaman et al. 2008, Nat.
Methods 5, 695; Thomann et al. 2002, J. Microsc. 208, 49). Not the decision: that is :mod:`.splitting`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from spatialdino_core.segment.detections import Detections
from spatialdino_core.segment.measure.boxes import FADED, Boxes, Light, cut_boxes, neighbours
from spatialdino_core.segment.measure.least_squares import (
    Equations,
    linearised,
    model,
    normal_equations,
    regularised,
    scaled,
    solve,
    weighted_products,
)
from spatialdino_core.segment.volume import Volume

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
SECOND = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""Axes of the second moments, in the order of :data:`SERIES`."""

PLANE = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
"""One, z, y, x of the background. Functions along an axis: 0 is 1, 1 the distance from the maximum."""
BELL = [(2, 2, 2), (3, 2, 2), (2, 3, 2), (2, 2, 3)]
"""A Gaussian and its slopes. Functions: 2 is g = exp(−o²/2), o the distance from its centre, and 3 is o g."""
SERIES = np.array(
    [BELL[0], *PLANE, *BELL[1:], (4, 2, 2), (2, 4, 2), (2, 2, 4), (3, 3, 2), (3, 2, 3), (2, 3, 3)], np.int64
)
"""The image as a Taylor series of a Gaussian: itself, a plane, first and second derivatives. Function 4 is
(o² − 1) g / 2 there, and o² g where the width of a Gaussian is free."""
BROADER = np.eye(9, 11)
BROADER[8, 8:] = 1.0
"""Of the first 11 terms, the last three make one: the derivative by the width."""
PAIR = np.array([BELL[0], (4, 4, 4), *PLANE, *BELL[1:], (5, 4, 4), (4, 5, 4), (4, 4, 5)], np.int64)
"""Two Gaussians, a plane, and their slopes. Functions 4 and 5 are g and o g of the second."""


class Pairs(NamedTuple):
    """The best fit of two Gaussians to each of n blobs.

    Attributes
    ----------
    parts
        The brighter and the dimmer parts, n rows each.
    excess
        Shape (n,): √((R₁ − R₂) / noise²), how much better than one blob of any width they explain the image:
        R are sums of squared residuals, noise² the variance of the pair's residual. Negative where they do
        not.
    """

    parts: tuple[Detections, Detections]
    excess: np.ndarray


def fit_pairs(volume: Volume, found: Detections, rows: np.ndarray, sigma: np.ndarray) -> Pairs:
    """Fit two Gaussians to each blob of ``rows``, and for comparison one of any width.

    Parameters
    ----------
    volume
        The image.
    found
        All fitted blobs of the frame; the light of the others is taken off.
    rows
        Shape (n,), intp.
    sigma
        Shape (3,): standard deviations of the image of one particle in voxels.
    """
    some = [_fit(boxes, found.keep(boxes.rows), sigma) for boxes in _boxes(volume, found, rows, sigma)]
    brighter, dimmer = (Detections.joined([pairs.parts[k] for pairs in some]) for k in (0, 1))
    return Pairs((brighter, dimmer), np.concatenate([pairs.excess for pairs in some]))


def elongation(volume: Volume, found: Detections, sigma: np.ndarray) -> np.ndarray:
    """Second moments by which blobs differ from a Gaussian, (n, 3, 3) in units of ``sigma``.

    The parameters are those of :func:`fit_pairs`.
    """
    boxes = _boxes(volume, found, np.arange(len(found)), sigma)
    return np.concatenate([_moments(some, found.position[some.rows], sigma) for some in boxes])


def _boxes(volume: Volume, found: Detections, rows: np.ndarray, sigma: np.ndarray) -> Iterator[Boxes]:
    """As many blobs as fit into memory at a time, without the others' light and less the mean left."""
    half = np.maximum(2, np.ceil(WINDOW * sigma)).astype(np.int64)  # (3,)
    near = neighbours(found.position, half + FADED * found.sigma.max(axis=0) + 1)
    light = Light(found.position, found.sigma, found.amplitude, near)
    for boxes in cut_boxes(volume, found.position, rows, half):
        yield light.without(boxes, half)


def _moments(boxes: Boxes, seeds: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Shape (n, 3, 3), from a Taylor series of a Gaussian at the seeds (n, 3)."""
    offset, bell, slope = _bell(boxes, seeds, sigma)
    profiles = boxes.profiles(np.ones_like(offset), offset, bell, slope, 0.5 * (offset * slope - bell))
    linear = solve(*normal_equations(boxes, profiles, SERIES))  # (n, 14)
    height = np.where(linear[:, 0] > 0, linear[:, 0], np.inf)  # (n,)
    moments = np.empty((len(height), 3, 3))
    for k, (a, b) in enumerate(SECOND):
        moments[:, a, b] = moments[:, b, a] = linear[:, k - len(SECOND)] / height
    return moments


class _Bell(NamedTuple):
    """Along each axis, (n, 3, longest edge): distance o in standard deviations, Gaussian g and o · g."""

    offset: np.ndarray
    bell: np.ndarray
    slope: np.ndarray


def _bell(boxes: Boxes, position: np.ndarray, sigma: np.ndarray) -> _Bell:
    offset = boxes.offsets(position, np.broadcast_to(sigma, position.shape))
    bell = np.exp(-0.5 * offset**2)
    return _Bell(offset, bell, offset * bell)


def _fit(boxes: Boxes, whole: Detections, sigma: np.ndarray) -> Pairs:
    """Of the blobs in boxes."""
    seeds = whole.position  # (n, 3)
    alone = _single(boxes, seeds, sigma)  # (n,)
    position = _starts(boxes, seeds, sigma)  # (n, 2, 3)
    for _ in range(STEPS):
        two = _two(boxes, seeds, sigma, position)
        shift = solve(*linearised(two.normal, two.linear, two.scale), damping=DAMPING)[:, -6:]  # (n, 6)
        position = position + np.clip(shift.reshape(position.shape), -MAX_STEP, MAX_STEP) * sigma
        position = np.clip(position, seeds[:, None] - REACH * sigma, seeds[:, None] + REACH * sigma)
    two = _two(boxes, seeds, sigma, position)
    linear = two.linear
    freedom = np.maximum(boxes.count - len(PAIR), 1)  # (n,), and so left and noise
    squares = boxes.squares_without(model(linear, two.profiles, PAIR, boxes.values.shape))
    left = squares.sum(axis=(1, 2, 3))
    noise = np.sqrt(np.maximum(left / freedom, np.finfo(float).tiny))
    inverse = np.linalg.inv(regularised(scaled(two.normal.products, two.scale)))  # (n, 12, 12)
    meat = scaled(weighted_products(squares, two.profiles, PAIR), two.scale)
    variance = np.einsum("naa->na", inverse @ meat @ inverse)[:, -6:].reshape(position.shape)  # (n, 2, 3)
    variance = variance * (boxes.count / freedom)[:, None, None] * sigma**2
    plane = ((position - seeds[:, None]) / sigma @ linear[:, 3:6, None])[:, :, 0]  # (n, 2)
    background = linear[:, 2, None] + boxes.level[:, None] + plane
    order = np.argsort(-linear[:, :2], axis=1, kind="stable")  # (n, 2)
    of = np.arange(len(whole))

    def part(k: np.ndarray) -> Detections:
        return replace(
            whole,
            position=position[of, k],
            sigma=np.broadcast_to(sigma, seeds.shape),
            amplitude=linear[of, k],
            background=background[of, k],
            noise=noise,
            variance=variance[of, k],
        )

    gain = alone - left
    excess = np.sign(gain) * np.sqrt(np.abs(gain)) / noise
    return Pairs((part(order[:, 0]), part(order[:, 1])), excess)


def _single(boxes: Boxes, seeds: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Sum of squared residuals (n,) of one Gaussian whose width is free."""
    position, width = seeds, np.ones((len(seeds), 1))  # (n, 3), (n, 1)
    plane = boxes.offsets(seeds, np.broadcast_to(sigma, seeds.shape))
    for step in range(SINGLE_STEPS + 1):
        offset, bell, slope = _bell(boxes, position, sigma * width)
        profiles = boxes.profiles(np.ones_like(plane), plane, bell, slope, offset * slope)
        products, right = normal_equations(boxes, profiles, SERIES[:11])
        normal = Equations(BROADER @ products @ BROADER.T, right @ BROADER.T)  # (n, 9, 9), (n, 9)
        linear = solve(normal.products[:, :5, :5], normal.right[:, :5])
        if step == SINGLE_STEPS:
            break
        scale = np.concatenate([np.ones((len(seeds), 5)), np.repeat(linear[:, :1], 4, axis=1)], axis=1)
        shift = np.clip(solve(*linearised(normal, linear, scale))[:, -4:], -MAX_STEP, MAX_STEP)
        position = np.clip(
            position + shift[:, :3] * sigma * width, seeds - REACH * sigma, seeds + REACH * sigma
        )
        width = np.clip(width * np.exp(shift[:, 3:]), *WIDTHS)
    residual = boxes.squares_without(model(linear, profiles, SERIES, boxes.values.shape))
    return np.asarray(residual.sum(axis=(1, 2, 3)))


def _starts(boxes: Boxes, seeds: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The best of :data:`STARTS`, positions (n, 2, 3)."""
    axis = np.linalg.eigh(_moments(boxes, seeds, sigma))[1][:, :, -1] * sigma  # (n, 3)
    places = [seeds[:, None] + np.multiply.outer(start, axis).swapaxes(0, 1) for start in STARTS]
    explained = []
    for place in places:
        two = _two(boxes, seeds, sigma, place)
        _, remainder = linearised(two.normal, two.linear, two.scale)
        explained.append(np.sum(two.linear * (two.normal.right + remainder)[:, :6], axis=1))
    return np.asarray(np.stack(places)[np.argmax(explained, axis=0), np.arange(len(axis))])


class _Two(NamedTuple):
    """Two Gaussians: their functions along the axes, normal equations, and linear terms (n, 6)."""

    profiles: np.ndarray
    normal: Equations
    linear: np.ndarray

    @property
    def scale(self) -> np.ndarray:
        """Factors (n, 12) of the terms of :data:`PAIR`: slopes grow with their Gaussian."""
        height = self.linear[:, :2]
        return np.concatenate([np.ones((len(height), 6)), np.repeat(height, 3, axis=1)], axis=1)


def _two(boxes: Boxes, seeds: np.ndarray, sigma: np.ndarray, position: np.ndarray) -> _Two:
    """Gaussians at ``position`` (n, 2, 3)."""
    plane = boxes.offsets(seeds, np.broadcast_to(sigma, seeds.shape))
    bells = [one for part in (0, 1) for one in _bell(boxes, position[:, part], sigma)[1:]]
    profiles = boxes.profiles(np.ones_like(plane), plane, *bells)
    normal = normal_equations(boxes, profiles, PAIR)
    return _Two(profiles, normal, solve(normal.products[:, :6, :6], normal.right[:, :6]))
