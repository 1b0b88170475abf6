"""Sub-voxel position, height and background of each blob: least squares with a Gaussian of fixed width.

The model of one blob is ``amplitude · exp(−Σ (r − c)² / 2σ²) + background``, the background a plane; blobs
that overlap are fitted in turns, each on what the others leave. Fixed-width least squares with a fitted
background does not drag positions towards their seeds or neighbours as a plain centroid does (Thompson,
Larson & Webb 2002, Biophys. J. 82, 2775; Cheezum, Walker & Guilford 2001, Biophys. J. 81, 2378). Which
blobs exist is decided before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import chain

import numpy as np

from spatialdino_core.segment.boxes import FADED, KEPT_VOXELS, Boxes, Light, cut_boxes, neighbours
from spatialdino_core.segment.least_squares import (
    linearised,
    model,
    normal_equations,
    regularised,
    scaled,
    solve,
    weighted_products,
)

WINDOW = 2.5
"""Half the edge of the fitted box in standard deviations of the blob."""
TERMS = np.array(
    [(2, 2, 2), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (3, 2, 2), (2, 3, 2), (2, 2, 3)], np.int64
)
"""Gaussian; one, z, y, x of the background; the Gaussian's slopes. Along each axis, with the distance o from
the centre in standard deviations, function 0 is 1, 1 is o, 2 is exp(−o²/2), and 3 is o · exp(−o²/2)."""
LINEAR = 5
"""Terms of the model that it is linear in: amplitude and a plane of background."""
SWEEPS = 12
STEPS_PER_SWEEP = 1
MEASURING_SWEEPS = 4
MAX_SHIFT = 1.5
"""A fit that leaves its seed by more standard deviations than this, or leaves the frame, has failed; then the
seed stands."""


@dataclass(frozen=True)
class Spots:
    """Fitted blobs of one frame, one row each.

    Attributes
    ----------
    position
        Shape (n, 3), float64, voxels (z, y, x).
    sigma
        Shape (n, 3): fixed standard deviations of the model in voxels.
    amplitude, background
        Shape (n,): peak above background, and background, in counts.
    noise
        Shape (n,): standard deviation of the residual of the fit, in counts.
    variance
        Shape (n, 3): variance of the position along z, y, x in voxels², by the heteroscedasticity-consistent
        (sandwich) estimator (White 1980, Econometrica 48, 817), which needs no camera model. Noise is taken
        as independent between voxels; deskewing correlates it, then the variance is somewhat too small.
    """

    position: np.ndarray
    sigma: np.ndarray
    amplitude: np.ndarray
    background: np.ndarray
    noise: np.ndarray
    variance: np.ndarray


def fit_spots(
    frame: np.ndarray, valid: np.ndarray | None, seeds: np.ndarray, sigma_voxels: np.ndarray
) -> Spots:
    """Fit one Gaussian per seed.

    Parameters
    ----------
    frame
        Intensities (z, y, x), any real dtype.
    valid
        Boolean mask broadcastable to ``frame``, or None.
    seeds
        Shape (n, 3), voxels (z, y, x), within the frame.
    sigma_voxels
        Shape (n, 3): standard deviation of each blob in voxels.

    Returns
    -------
    Spots
        In the order of ``seeds``.
    """
    return _fit_in_turns(frame, valid, seeds, sigma_voxels, SWEEPS, STEPS_PER_SWEEP)


def measure_spots(frame: np.ndarray, valid: np.ndarray | None, spots: Spots) -> Spots:
    """Heights, backgrounds and noise of ``spots`` in another frame (z, y, x); their positions stay."""
    found = _fit_in_turns(frame, valid, spots.position, spots.sigma, MEASURING_SWEEPS, 0)
    return replace(found, position=spots.position, variance=spots.variance)


def _fit_in_turns(
    frame: np.ndarray,
    valid: np.ndarray | None,
    seeds: np.ndarray,
    sigma_voxels: np.ndarray,
    sweeps: int,
    steps: int,
) -> Spots:
    """Sweeps over all blobs, each fitted beside what the sweep before made of its neighbours."""
    seeds = np.ascontiguousarray(seeds, np.float64)
    sigma = np.ascontiguousarray(sigma_voxels, np.float64)
    zeros = np.zeros(len(seeds))
    spots = Spots(seeds, sigma, zeros, zeros, zeros, np.zeros((len(seeds), 3)))
    if not len(seeds):
        return spots
    groups = _groups(sigma)
    reach = np.max([half for _, half in groups], axis=0) + (FADED + 2 * MAX_SHIFT) * sigma.max(axis=0) + 1
    near = neighbours(seeds, reach)

    def cut() -> Iterator[Boxes]:
        return chain.from_iterable(cut_boxes(frame, valid, seeds, rows, half) for rows, half in groups)

    few = sum(len(rows) * int(np.prod(2 * half + 1)) for rows, half in groups) <= KEPT_VOXELS
    kept = list(cut()) if few else None
    for sweep in range(sweeps):
        light = Light(spots.position, sigma, spots.amplitude, near)
        spots = Spots(*(getattr(spots, field.name).copy() for field in fields(Spots)))
        for boxes in kept or cut():
            alone, level = light.without(boxes, WINDOW * sigma[boxes.rows[0]])
            _fit(alone, level, seeds, steps, sweep == sweeps - 1, spots)
    return spots


def _groups(sigma: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Blobs that share a width share a box size: pairs of rows and half edges (z, y, x) in voxels."""
    widths, member = np.unique(sigma, axis=0, return_inverse=True)  # (widths, 3), (n,)
    half = np.maximum(2, np.ceil(WINDOW * widths)).astype(np.int64)  # (widths, 3)
    return [(np.flatnonzero(member.ravel() == k), half[k]) for k in range(len(widths))]


def _fit(boxes: Boxes, level: np.ndarray, seeds: np.ndarray, steps: int, last: bool, spots: Spots) -> None:
    """Gauss–Newton steps for the blobs of some boxes; changes the arrays of ``spots``.

    Noise and variances come with the ``last`` fit alone.
    """
    rows = boxes.rows
    position, sigma, seeds = spots.position[rows], spots.sigma[rows], seeds[rows]  # (n, 3)
    scale = np.ones((len(rows), len(TERMS)))
    for step in range(steps + 1):
        profiles = _profiles(boxes, position, sigma)
        products, right = normal_equations(boxes, profiles, TERMS if last or step < steps else TERMS[:LINEAR])
        linear = solve(products[:, :LINEAR, :LINEAR], right[:, :LINEAR])  # (n, 5)
        scale[:, LINEAR:] = linear[:, :1] / sigma
        if step == steps:
            break
        shift = solve(*linearised(products, right, linear, scale))[:, LINEAR:]  # (n, 3)
        position = position + np.clip(shift, -0.5 * sigma, 0.5 * sigma)
        lost = (np.abs(position - seeds) > MAX_SHIFT * sigma).any(axis=1) | (linear[:, 0] <= 0)  # (n,)
        lost |= ((position < -0.5) | (position > np.array(boxes.frame) - 0.5)).any(axis=1)
        position[lost] = seeds[lost]
    spots.position[rows] = position
    spots.amplitude[rows] = linear[:, 0]
    spots.background[rows] = linear[:, 1] + level
    if last:
        count = np.maximum(boxes.count, len(TERMS) + 1)  # (n,)
        freedom = count - len(TERMS)
        squares = boxes.squares_without(model(linear, profiles, TERMS, boxes.values.shape))
        inverse = np.linalg.inv(regularised(scaled(products, scale)))
        meat = scaled(weighted_products(squares, profiles, TERMS), scale)  # of the sandwich estimator
        covariance = inverse @ meat @ inverse * (count / freedom)[:, None, None]
        spots.noise[rows] = np.sqrt(squares.sum(axis=(1, 2, 3)) / freedom)
        spots.variance[rows] = np.einsum("naa->na", covariance)[:, LINEAR:]


def _profiles(boxes: Boxes, position: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The functions along each axis that :data:`TERMS` names."""
    offset = boxes.offsets(position, sigma)
    bell = np.exp(-0.5 * offset**2)
    return boxes.profiles(np.ones_like(offset), offset, bell, offset * bell)
