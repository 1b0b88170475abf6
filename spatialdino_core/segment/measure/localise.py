"""Sub-voxel position, height and background of each blob: least squares with a Gaussian of fixed width.

The model of one blob is ``amplitude · exp(−Σ (r − c)² / 2σ²) + background``, the background a plane; blobs
that overlap are fitted in turns, each on what the others leave. Fixed-width least squares with a fitted
background does not drag positions towards their seeds or neighbours as a plain centroid does (Thompson,
Larson & Webb 2002, Biophys. J. 82, 2775; Cheezum, Walker & Guilford 2001, Biophys. J. 81, 2378). Which
blobs exist is decided before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from spatialdino_core.segment.detections import Detections
from spatialdino_core.segment.measure.boxes import FADED, KEPT_VOXELS, Boxes, Light, cut_boxes, neighbours
from spatialdino_core.segment.measure.least_squares import (
    linearised,
    model,
    normal_equations,
    regularised,
    scaled,
    solve,
    weighted_products,
)
from spatialdino_core.segment.optics import Optics
from spatialdino_core.segment.volume import Volume

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


def fit_spots(volume: Volume, found: Detections, optics: Optics) -> Detections:
    """Fit one Gaussian per detection, of the width that it was found with, near its position."""
    sigma = found.width[:, None] * optics.sigma_voxels
    return _fit_in_turns(volume, replace(found, sigma=sigma), SWEEPS, STEPS_PER_SWEEP)


def measure_spots(volume: Volume, found: Detections) -> Detections:
    """Heights, backgrounds and noise of fitted blobs in another image; their positions stay."""
    again = _fit_in_turns(volume, found, MEASURING_SWEEPS, 0)
    return replace(again, position=found.position, variance=found.variance)


def _fit_in_turns(volume: Volume, found: Detections, sweeps: int, steps: int) -> Detections:
    """Sweeps over all blobs, each fitted beside what the sweep before made of its neighbours."""
    if not len(found):
        return found
    seeds = np.ascontiguousarray(found.position, np.float64)
    sigma = np.ascontiguousarray(found.sigma, np.float64)
    groups = _groups(sigma)
    reach = np.max([one.half for one in groups], axis=0) + (FADED + 2 * MAX_SHIFT) * sigma.max(axis=0) + 1
    near = neighbours(seeds, reach)

    def cut() -> Iterator[Boxes]:
        return chain.from_iterable(cut_boxes(volume, seeds, one.rows, one.half) for one in groups)

    few = sum(len(one.rows) * int(np.prod(2 * one.half + 1)) for one in groups) <= KEPT_VOXELS
    kept = list(cut()) if few else None
    found = replace(found, position=seeds, sigma=sigma, amplitude=np.zeros(len(seeds)))
    for sweep in range(sweeps):
        light = Light(found.position, sigma, found.amplitude, near)
        found = found.copy()
        for boxes in kept or cut():
            alone = light.without(boxes, WINDOW * sigma[boxes.rows[0]])
            _fit(alone, seeds, steps, sweep == sweeps - 1, found)
    return found


class _Group(NamedTuple):
    """Blobs that share a width share a box size: rows, and half edges (z, y, x) in voxels."""

    rows: np.ndarray
    half: np.ndarray


def _groups(sigma: np.ndarray) -> list[_Group]:
    widths, member = np.unique(sigma, axis=0, return_inverse=True)  # (widths, 3), (n,)
    half = np.maximum(2, np.ceil(WINDOW * widths)).astype(np.int64)  # (widths, 3)
    return [_Group(np.flatnonzero(member.ravel() == k), half[k]) for k in range(len(widths))]


def _fit(boxes: Boxes, seeds: np.ndarray, steps: int, last: bool, found: Detections) -> None:
    """Gauss–Newton steps for the blobs of some boxes; changes the arrays of ``found``.

    Noise and variances come with the ``last`` fit alone.
    """
    rows = boxes.rows
    position, sigma, seeds = found.position[rows], found.sigma[rows], seeds[rows]  # (n, 3)
    scale = np.ones((len(rows), len(TERMS)))
    for step in range(steps + 1):
        profiles = _profiles(boxes, position, sigma)
        normal = normal_equations(boxes, profiles, TERMS if last or step < steps else TERMS[:LINEAR])
        linear = solve(normal.products[:, :LINEAR, :LINEAR], normal.right[:, :LINEAR])  # (n, 5)
        scale[:, LINEAR:] = linear[:, :1] / sigma
        if step == steps:
            break
        shift = solve(*linearised(normal, linear, scale))[:, LINEAR:]  # (n, 3)
        position = position + np.clip(shift, -0.5 * sigma, 0.5 * sigma)
        lost = (np.abs(position - seeds) > MAX_SHIFT * sigma).any(axis=1) | (linear[:, 0] <= 0)  # (n,)
        lost |= ((position < -0.5) | (position > np.array(boxes.frame) - 0.5)).any(axis=1)
        position[lost] = seeds[lost]
    found.position[rows] = position
    found.amplitude[rows] = linear[:, 0]
    found.background[rows] = linear[:, 1] + boxes.level
    if last:
        count = np.maximum(boxes.count, len(TERMS) + 1)  # (n,)
        freedom = count - len(TERMS)
        squares = boxes.squares_without(model(linear, profiles, TERMS, boxes.values.shape))
        inverse = np.linalg.inv(regularised(scaled(normal.products, scale)))
        meat = scaled(weighted_products(squares, profiles, TERMS), scale)  # of the sandwich estimator
        covariance = inverse @ meat @ inverse * (count / freedom)[:, None, None]
        found.noise[rows] = np.sqrt(squares.sum(axis=(1, 2, 3)) / freedom)
        found.variance[rows] = np.einsum("naa->na", covariance)[:, LINEAR:]


def _profiles(boxes: Boxes, position: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The functions along each axis that :data:`TERMS` names."""
    offset = boxes.offsets(position, sigma)
    bell = np.exp(-0.5 * offset**2)
    return boxes.profiles(np.ones_like(offset), offset, bell, offset * bell)
