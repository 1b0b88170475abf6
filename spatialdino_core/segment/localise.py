"""Sub-voxel position, height and background of each blob: least squares with a Gaussian of fixed width.

The model of one blob is ``amplitude · exp(−Σ (r − c)² / 2σ²) + background``, the background a plane; blobs
that overlap are fitted in turns, each on what the others leave. Fixed-width least squares with a fitted
background does not drag positions towards their seeds or neighbours as a plain centroid does (Thompson,
Larson & Webb 2002, Biophys. J. 82, 2775; Cheezum, Walker & Guilford 2001, Biophys. J. 81, 2378). Which
blobs exist is decided before.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

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

WINDOW = 2.5
"""Half the edge of the fitted box in standard deviations of the blob."""
LINEAR = 1 + PLANE
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
    zeros = np.zeros(len(seeds))
    spots = Spots(seeds.astype(np.float64), sigma_voxels, zeros, zeros, zeros, np.zeros((len(seeds), 3)))
    if not len(seeds):
        return spots
    groups = _groups(sigma_voxels)
    jobs = [(rows, half) for rows, half in groups for rows in chunks(rows, half, LINEAR + 3)]
    for sweep in range(sweeps):
        neighbours = None
        if sweep:
            neighbours = Neighbours(spots.position, sigma_voxels, spots.amplitude, WINDOW * sigma_voxels)
        fitted = Spots(*(getattr(spots, field.name).copy() for field in fields(Spots)))
        for rows, half in jobs:
            _fit(frame, valid, seeds, rows, half, fitted, neighbours, steps)
        spots = fitted
    return spots


def _groups(sigma: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Blobs that share a width share a box size: pairs of rows and half edges (z, y, x) in voxels."""
    widths, member = np.unique(sigma, axis=0, return_inverse=True)  # (widths, 3), (n,)
    half = np.maximum(2, np.ceil(WINDOW * widths)).astype(np.intp)  # (widths, 3)
    return [(np.flatnonzero(member.ravel() == k), half[k]) for k in range(len(widths))]


def _fit(
    frame: np.ndarray,
    valid: np.ndarray | None,
    seeds: np.ndarray,
    rows: np.ndarray,
    half: np.ndarray,
    spots: Spots,
    neighbours: Neighbours | None,
    steps: int,
) -> None:
    """Gauss–Newton steps for ``rows``; changes the arrays of ``spots``."""
    axes, values, usable = boxes(frame, valid, seeds[rows], half)  # values, usable: (n, z, y, x)
    if neighbours is not None:
        values = values - neighbours.light(rows, axes)
    values, level = subtract_mean(values, usable)  # (n, z, y, x), (n,)
    position, sigma = spots.position[rows], spots.sigma[rows]  # (n, 3)
    count = np.maximum(usable.sum(axis=(1, 2, 3)), LINEAR + 4)  # (n,)
    target = values.reshape(len(rows), -1)  # (n, voxels)
    for step in range(steps + 1):
        design = _design(axes, position, sigma, usable)  # (n, 8, voxels)
        linear = least_squares(design[:, :LINEAR], target)  # (n, 5)
        design[:, LINEAR:] *= linear[:, 0, None, None]
        residual = target - np.einsum("nk,nkv->nv", linear, design[:, :LINEAR])  # (n, voxels)
        normal = regularised(design @ design.transpose(0, 2, 1))  # (n, 8, 8)
        if step == steps:
            break
        shift = np.linalg.solve(normal, design @ residual[:, :, None])[:, LINEAR:, 0]  # (n, 3)
        position = position + np.clip(shift, -0.5 * sigma, 0.5 * sigma)
        lost = (np.abs(position - seeds[rows]) > MAX_SHIFT * sigma).any(axis=1) | (linear[:, 0] <= 0)  # (n,)
        lost |= ((position < -0.5) | (position > np.array(frame.shape) - 0.5)).any(axis=1)
        position[lost] = seeds[rows][lost]
    freedom = count - design.shape[1]  # (n,)
    inverse = np.linalg.inv(normal)
    weighted = design * residual[:, None, :]  # (n, 8, voxels)
    meat = weighted @ weighted.transpose(0, 2, 1)  # (n, 8, 8), of the sandwich estimator
    covariance = inverse @ meat @ inverse * (count / freedom)[:, None, None]
    spots.position[rows] = position
    spots.amplitude[rows] = linear[:, 0]
    spots.background[rows] = linear[:, 1] + level
    spots.noise[rows] = np.sqrt(np.sum(residual**2, axis=1) / freedom)
    spots.variance[rows] = np.einsum("naa->na", covariance)[:, LINEAR:]


def _design(
    axes: list[np.ndarray], position: np.ndarray, sigma: np.ndarray, usable: np.ndarray
) -> np.ndarray:
    """Gaussian; one, z, y, x of the background; its derivatives: (n, 8, voxels), zero where unusable."""
    shape = np.where(usable, gaussian(axes, position, sigma), 0)  # (n, z, y, x)
    design = np.empty((len(position), LINEAR + 3, *shape.shape[1:]))
    design[:, 0], design[:, 1] = shape, usable
    for a, offset in enumerate(offsets(axes, position, sigma)):
        design[:, 2 + a] = usable * offset
        design[:, LINEAR + a] = shape * offset / sigma[:, a, None, None, None]
    return design.reshape(len(position), LINEAR + 3, -1)
