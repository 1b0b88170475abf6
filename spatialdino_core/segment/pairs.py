"""Fits of two Gaussians to what was detected as one particle, and how much better than one they are.

Two particles nearer than about two standard deviations of the point spread function make one maximum
(Sparrow's limit), but not the image of one: mixture-model fitting tells them apart (Jaqaman et al. 2008, Nat.
Methods 5, 695; Thomann et al. 2002, J. Microsc. 208, 49). Not the decision: that is :mod:`.splitting`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spatialdino_core.compiled import njit
from spatialdino_core.segment.boxes import FADED, Boxes, Light, cut_boxes, neighbours
from spatialdino_core.segment.least_squares import (
    factorise,
    linearised,
    normal_equations,
    residual_squares,
    sandwich_variance,
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
"""A Gaussian and its slopes. Functions: 2 is g = exp(−o²/2), where o is the distance from its centre, 3 is o g."""
SERIES = np.array(
    [BELL[0], *PLANE, *BELL[1:], (4, 2, 2), (2, 4, 2), (2, 2, 4), (3, 3, 2), (3, 2, 3), (2, 3, 3)], np.int64
)
"""The image as a Taylor series of a Gaussian: itself, a plane, first and second derivatives. Function 4 is
(o² − 1) g / 2 there, and o² g where the width of a Gaussian is free."""
WIDENED = SERIES[:11]
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
    found = [_fit(*some, spots.position, sigma) for some in _boxes(image, valid, spots, rows, sigma)]
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
    found = [_moments(boxes, spots.position, sigma) for boxes, _ in _boxes(image, valid, spots, rows, sigma)]
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


def _moments(boxes: Boxes, position: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Shape (n, 3, 3)."""
    linear = np.empty((len(boxes.rows), len(SERIES)))
    _fit_series(boxes.values, boxes.usable, boxes.count, boxes.corner, position[boxes.rows], sigma, linear)
    height = np.where(linear[:, 0] > 0, linear[:, 0], np.inf)  # (n,)
    moments = np.empty((len(height), 3, 3))
    for k, (a, b) in enumerate(SECOND):
        moments[:, a, b] = moments[:, b, a] = linear[:, k - len(SECOND)] / height
    return moments


def _fit(boxes: Boxes, level: np.ndarray, position: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, ...]:
    """Excess; and of two parts, the brighter first: position, amplitude, background, noise, variance."""
    images = boxes.values, boxes.usable, boxes.count, boxes.corner, position[boxes.rows], sigma
    n = len(level)
    alone, left = np.empty(n), np.empty(n)
    places, amplitude, background = np.empty((n, 2, 3)), np.empty((n, 2)), np.empty((n, 2))
    variance = np.empty((n, 2, 3))
    _fit_widened(*images, alone)
    axis = np.linalg.eigh(_moments(boxes, position, sigma))[1][:, :, -1]  # (n, 3)
    _fit_two(*images, np.ascontiguousarray(axis), np.array(STARTS), places, amplitude, background)
    _judge_two(*images, places, left, variance)
    freedom = np.maximum(boxes.count - len(PAIR), 1)  # (n,)
    noise = np.sqrt(np.maximum(left / freedom, np.finfo(float).tiny))
    variance *= (boxes.count / freedom)[:, None, None] * sigma**2
    order = np.argsort(-amplitude, axis=1, kind="stable")  # (n, 2)
    parts = (places, amplitude, background + level[:, None], np.stack([noise, noise], 1), variance)
    ordered = (np.take_along_axis(p, order.reshape(order.shape + (1,) * (p.ndim - 2)), 1) for p in parts)
    gain = alone - left
    return np.sign(gain) * np.sqrt(np.abs(gain)) / noise, *ordered


@njit(nogil=True, cache=True)
def _fit_series(values, usable, count, corner, seeds, sigma, linear):
    """Coefficients (n, terms) of :data:`SERIES`."""
    terms = len(SERIES)
    profiles = np.empty((3, 5, max(values.shape[1:])))
    products, factor, right = np.empty((terms, terms)), np.empty((terms, terms)), np.empty(terms)
    for i in range(len(values)):
        _profiles(corner[i], values[i].shape, seeds[i], sigma, seeds[i], sigma, profiles, 2)
        for a in range(3):
            for k in range(values.shape[1 + a]):
                profiles[a, 4, k] = 0.5 * (profiles[a, 1, k] * profiles[a, 3, k] - profiles[a, 2, k])
        normal_equations(values[i], usable[i], count[i] == usable[i].size, profiles, SERIES, products, right)
        solve(products, terms, 0.0, right, factor, linear[i])


@njit(nogil=True, cache=True)
def _fit_widened(values, usable, count, corner, seeds, sigma, left):
    """Sums of squared residuals (n,) of one Gaussian whose width is free."""
    terms = 9
    profiles = np.empty((3, 5, max(values.shape[1:])))
    products, right = np.empty((len(WIDENED), len(WIDENED))), np.empty(len(WIDENED))
    normal, factor = np.empty((terms, terms)), np.empty((terms, terms))
    remainder, scale, shift = np.empty(terms), np.ones(terms), np.empty(terms)
    linear, squares = np.empty(5), np.empty(values.shape[1:])
    place, widths = np.empty(3), np.empty(3)
    for i in range(len(values)):
        place[:], width = seeds[i], 1.0
        for step in range(SINGLE_STEPS + 1):
            for a in range(3):
                widths[a] = sigma[a] * width
            _profiles(corner[i], values[i].shape, seeds[i], sigma, place, widths, profiles, 2)
            for a in range(3):
                for k in range(values.shape[1 + a]):
                    offset = (corner[i, a] + k - place[a]) / widths[a]
                    profiles[a, 4, k] = offset * profiles[a, 3, k]
            whole = count[i] == usable[i].size
            normal_equations(values[i], usable[i], whole, profiles, WIDENED, products, right)
            solve(products, 5, 0.0, right, factor, linear)
            if step == SINGLE_STEPS:
                break
            _join_last(products, right, terms)
            scale[5:] = linear[0]
            linearised(products, right, linear, 5, scale, normal, remainder)
            solve(normal, terms, 0.0, remainder, factor, shift)
            for k in range(5, terms):
                shift[k] = min(max(shift[k], -MAX_STEP), MAX_STEP)
            for a in range(3):
                moved = place[a] + shift[5 + a] * widths[a]
                place[a] = min(max(moved, seeds[i, a] - REACH * sigma[a]), seeds[i, a] + REACH * sigma[a])
            width = min(max(width * np.exp(shift[8]), WIDTHS[0]), WIDTHS[1])
        left[i] = residual_squares(values[i], usable[i], profiles, WIDENED, linear, 5, squares)


@njit(nogil=True, cache=True)
def _join_last(products, right, terms):
    """Make one term of the sum of the last ones."""
    for t in range(terms, len(right)):
        right[terms - 1] += right[t]
        products[terms - 1] += products[t]
    for t in range(terms, len(right)):
        products[:, terms - 1] += products[:, t]


@njit(nogil=True, cache=True)
def _fit_two(values, usable, count, corner, seeds, sigma, axis, starts, places, amplitude, background):
    """The best of some starts, then damped Gauss–Newton steps."""
    terms = len(PAIR)
    profiles = np.empty((3, 6, max(values.shape[1:])))
    products, normal, factor = np.empty((terms, terms)), np.empty((terms, terms)), np.empty((terms, terms))
    right, remainder, scale, shift = np.empty(terms), np.empty(terms), np.ones(terms), np.empty(terms)
    linear = np.empty(6)
    best, two = np.empty((2, 3)), np.empty((2, 3))
    for i in range(len(values)):
        whole = count[i] == usable[i].size
        most = -np.inf
        for start in range(len(starts) + STEPS + 1):
            if start < len(starts):
                for part in range(2):
                    for a in range(3):
                        two[part, a] = seeds[i, a] + starts[start, part] * axis[i, a] * sigma[a]
            elif start == len(starts):
                two[:] = best
            _profiles(corner[i], values[i].shape, seeds[i], sigma, two[0], sigma, profiles, 2)
            _profiles(corner[i], values[i].shape, seeds[i], sigma, two[1], sigma, profiles, 4)
            normal_equations(values[i], usable[i], whole, profiles, PAIR, products, right)
            solve(products, 6, 0.0, right, factor, linear)
            if start < len(starts):
                explained = _explained(products, right, linear)
                if explained > most:
                    most, best[:] = explained, two
                continue
            if start == len(starts) + STEPS:
                break
            scale[6:9], scale[9:] = linear[0], linear[1]
            linearised(products, right, linear, 6, scale, normal, remainder)
            solve(normal, terms, DAMPING, remainder, factor, shift)
            for part in range(2):
                for a in range(3):
                    step = min(max(shift[6 + 3 * part + a], -MAX_STEP), MAX_STEP) * sigma[a]
                    low, high = seeds[i, a] - REACH * sigma[a], seeds[i, a] + REACH * sigma[a]
                    two[part, a] = min(max(two[part, a] + step, low), high)
        for part in range(2):
            amplitude[i, part] = linear[part]
            background[i, part] = linear[2]
            for a in range(3):
                places[i, part, a] = two[part, a]
                background[i, part] += linear[3 + a] * (two[part, a] - seeds[i, a]) / sigma[a]


@njit(nogil=True, cache=True)
def _explained(products, right, linear):
    """By how much the linear terms lower the sum of squares."""
    total = 0.0
    for t in range(len(linear)):
        total += 2 * linear[t] * right[t]
        for s in range(len(linear)):
            total -= linear[t] * products[t, s] * linear[s]
    return total


@njit(nogil=True, cache=True)
def _judge_two(values, usable, count, corner, seeds, sigma, places, left, variance):
    """Sums of squared residuals (n,), and variances of the places in units of ``sigma``."""
    terms = len(PAIR)
    profiles = np.empty((3, 6, max(values.shape[1:])))
    products, normal, factor = np.empty((terms, terms)), np.empty((terms, terms)), np.empty((terms, terms))
    right, remainder, scale = np.empty(terms), np.empty(terms), np.ones(terms)
    linear, squares, found = np.empty(6), np.empty(values.shape[1:]), np.empty(6)
    for i in range(len(values)):
        whole = count[i] == usable[i].size
        _profiles(corner[i], values[i].shape, seeds[i], sigma, places[i, 0], sigma, profiles, 2)
        _profiles(corner[i], values[i].shape, seeds[i], sigma, places[i, 1], sigma, profiles, 4)
        normal_equations(values[i], usable[i], whole, profiles, PAIR, products, right)
        solve(products, 6, 0.0, right, factor, linear)
        scale[6:9], scale[9:] = linear[0], linear[1]
        linearised(products, right, linear, 6, scale, normal, remainder)
        factorise(normal, terms, 0.0, factor)
        left[i] = residual_squares(values[i], usable[i], profiles, PAIR, linear, 6, squares)
        weighted_products(squares, profiles, PAIR, products)
        linearised(products, right, linear, 0, scale, normal, remainder)
        sandwich_variance(factor, normal, terms, 6, found)
        for part in range(2):
            for a in range(3):
                variance[i, part, a] = found[3 * part + a]


@njit(nogil=True, cache=True)
def _profiles(corner, shape, seed, unit, place, width, profiles, first):
    """Functions 0 and 1 around the maximum, and a Gaussian and its slope at ``first`` and after it."""
    for a in range(3):
        for k in range(shape[a]):
            profiles[a, 0, k] = 1.0
            profiles[a, 1, k] = (corner[a] + k - seed[a]) / unit[a]
            offset = (corner[a] + k - place[a]) / width[a]
            profiles[a, first, k] = np.exp(-0.5 * offset * offset)
            profiles[a, first + 1, k] = offset * profiles[a, first, k]
