"""Fits of two Gaussians to what was detected as one particle, and how much better than one they are.

Two particles nearer than about two standard deviations of the point spread function make one maximum
(Sparrow's limit), but not the image of one: mixture-model fitting tells them apart (Jaqaman et al. 2008, Nat.
Methods 5, 695; Thomann et al. 2002, J. Microsc. 208, 49). Not the decision: that is :mod:`.splitting`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spatialdino_core.segment.boxes import FADED, Boxes, Light, cut_boxes, neighbours
from spatialdino_core.segment.least_squares import (
    linearised,
    model,
    normal_equations,
    regularised,
    scaled,
    solve,
    weighted_products,
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
    found = [
        _fit(boxes, level, spots.position[boxes.rows], sigma)
        for boxes, level in _boxes(image, valid, spots, rows, sigma)
    ]
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
    found = [
        _moments(boxes, spots.position[boxes.rows], sigma)
        for boxes, _ in _boxes(image, valid, spots, rows, sigma)
    ]
    return np.concatenate(found)


def _boxes(
    image: np.ndarray, valid: np.ndarray | None, spots: Spots, rows: np.ndarray, sigma: np.ndarray
) -> Iterator[tuple[Boxes, np.ndarray]]:
    """As many spots as fit into memory at a time, without the others' light; and the means taken off (n,)."""
    half = np.maximum(2, np.ceil(WINDOW * sigma)).astype(np.int64)  # (3,)
    near = neighbours(spots.position, half + FADED * spots.sigma.max(axis=0) + 1)
    light = Light(spots.position, spots.sigma, spots.amplitude, near)
    for boxes in cut_boxes(image, valid, spots.position, rows, half):
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


def _bell(boxes: Boxes, position: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Along each axis, (n, 3, longest edge): distance o in standard deviations, Gaussian g and o · g."""
    offset = boxes.offsets(position, np.broadcast_to(sigma, position.shape))
    bell = np.exp(-0.5 * offset**2)
    return offset, bell, offset * bell


def _fit(boxes: Boxes, level: np.ndarray, seeds: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, ...]:
    """Excess; and of two parts, the brighter first: position, amplitude, background, noise, variance."""
    alone = _single(boxes, seeds, sigma)  # (n,)
    position = _starts(boxes, seeds, sigma)  # (n, 2, 3)
    for _ in range(STEPS):
        profiles, products, right, linear = _pair(boxes, seeds, sigma, position)
        normal, remainder = linearised(products, right, linear, _scale(linear))
        shift = solve(normal, remainder, damping=DAMPING)[:, -6:]  # (n, 6)
        position = position + np.clip(shift.reshape(position.shape), -MAX_STEP, MAX_STEP) * sigma
        position = np.clip(position, seeds[:, None] - REACH * sigma, seeds[:, None] + REACH * sigma)
    profiles, products, right, linear = _pair(boxes, seeds, sigma, position)
    freedom = np.maximum(boxes.count - len(PAIR), 1)  # (n,), and so left and noise
    squares = boxes.squares_without(model(linear, profiles, PAIR, boxes.values.shape))
    left = squares.sum(axis=(1, 2, 3))
    noise = np.sqrt(np.maximum(left / freedom, np.finfo(float).tiny))
    inverse = np.linalg.inv(regularised(scaled(products, _scale(linear))))  # (n, 12, 12)
    meat = scaled(weighted_products(squares, profiles, PAIR), _scale(linear))
    variance = np.einsum("naa->na", inverse @ meat @ inverse)[:, -6:].reshape(position.shape)  # (n, 2, 3)
    variance = variance * (boxes.count / freedom)[:, None, None] * sigma**2
    plane = ((position - seeds[:, None]) / sigma @ linear[:, 3:6, None])[:, :, 0]  # (n, 2)
    background = linear[:, 2, None] + level[:, None] + plane
    amplitude = linear[:, :2]  # (n, 2)
    order = np.argsort(-amplitude, axis=1, kind="stable")  # (n, 2)
    parts = (position, amplitude, background, np.stack([noise, noise], 1), variance)
    ordered = (np.take_along_axis(p, order.reshape(order.shape + (1,) * (p.ndim - 2)), 1) for p in parts)
    gain = alone - left
    return np.sign(gain) * np.sqrt(np.abs(gain)) / noise, *ordered


def _single(boxes: Boxes, seeds: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Sum of squared residuals (n,) of one Gaussian whose width is free."""
    position, width = seeds, np.ones((len(seeds), 1))  # (n, 3), (n, 1)
    plane = boxes.offsets(seeds, np.broadcast_to(sigma, seeds.shape))
    for step in range(SINGLE_STEPS + 1):
        offset, bell, slope = _bell(boxes, position, sigma * width)
        profiles = boxes.profiles(np.ones_like(plane), plane, bell, slope, offset * slope)
        products, right = normal_equations(boxes, profiles, SERIES[:11])
        products, right = BROADER @ products @ BROADER.T, right @ BROADER.T  # (n, 9, 9), (n, 9)
        linear = solve(products[:, :5, :5], right[:, :5])
        if step == SINGLE_STEPS:
            break
        scale = np.concatenate([np.ones((len(seeds), 5)), np.repeat(linear[:, :1], 4, axis=1)], axis=1)
        shift = np.clip(solve(*linearised(products, right, linear, scale))[:, -4:], -MAX_STEP, MAX_STEP)
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
        _, products, right, linear = _pair(boxes, seeds, sigma, place)
        _, remainder = linearised(products, right, linear, _scale(linear))
        explained.append(np.sum(linear * (right + remainder)[:, :6], axis=1))
    return np.asarray(np.stack(places)[np.argmax(explained, axis=0), np.arange(len(axis))])


def _pair(boxes: Boxes, seeds: np.ndarray, sigma: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, ...]:
    """Functions of two Gaussians at ``position`` (n, 2, 3); normal equations; linear terms (n, 6)."""
    plane = boxes.offsets(seeds, np.broadcast_to(sigma, seeds.shape))
    bells = [one for part in (0, 1) for one in _bell(boxes, position[:, part], sigma)[1:]]
    profiles = boxes.profiles(np.ones_like(plane), plane, *bells)
    products, right = normal_equations(boxes, profiles, PAIR)
    return profiles, products, right, solve(products[:, :6, :6], right[:, :6])


def _scale(linear: np.ndarray) -> np.ndarray:
    """Factors (n, 12) of the terms of :data:`PAIR`: slopes grow with their Gaussian."""
    return np.concatenate([np.ones((len(linear), 6)), np.repeat(linear[:, :2], 3, axis=1)], axis=1)
