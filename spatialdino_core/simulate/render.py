"""Images of a scene: expected photons at the sample points of any grid, camera counts, instance labels.

Values are samples of the continuous image at voxel centres, not integrals over voxels, and all
planes of a stack show the same instant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.simulate.grid import Grid
from spatialdino_core.simulate.parameters import CameraParameters
from spatialdino_core.simulate.psf import PointSpread

Window = tuple[slice, slice, slice]


def add_particles(
    photons: NDArray[np.float32],
    grid: Grid,
    psf: PointSpread,
    positions_um: NDArray[np.float64],
    brightness: NDArray[np.float64],
) -> None:
    """Add the images of point sources to a stack, in place.

    Parameters
    ----------
    photons
        Stack (z, y, x) on ``grid``.
    grid
        Sample points, raw or deskewed.
    psf
        Point spread function with peak 1.
    positions_um
        Centres (n, 3) as (z, y, x) in µm.
    brightness
        Peak signal (n,) in photons.
    """
    for (window, spread), peak in zip(_stamps(grid, psf, positions_um), brightness, strict=True):
        photons[window] += np.float32(peak) * spread


def label_particles(
    grid: Grid, psf: PointSpread, positions_um: NDArray[np.float64], identifiers: NDArray[np.int64]
) -> NDArray[np.uint32]:
    """Instance labels: the voxels within each particle's half maximum bear its identifier.

    A voxel within the half maximum of several belongs to the one of highest relative intensity,
    which for a Gaussian is the nearest in units of its widths.

    Parameters
    ----------
    grid, psf, positions_um
        As in `add_particles`.
    identifiers
        Positive label (n,) of each particle.

    Returns
    -------
    numpy.ndarray
        Labels (z, y, x), 0 for background.
    """
    labels = np.zeros(grid.shape, np.uint32)
    best = np.full(grid.shape, 0.5, np.float32)
    for (window, spread), identifier in zip(_stamps(grid, psf, positions_um), identifiers, strict=True):
        nearest = spread >= best[window]
        labels[window][nearest] = identifier
        best[window][nearest] = spread[nearest]
    return labels


def camera_counts(
    photons: NDArray[np.float32], camera: CameraParameters, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """What a camera reads when ``photons`` (z, y, x) are expected: shot noise, gain, offset, read noise."""
    counts = np.empty(photons.shape, np.uint16)
    for plane, expected in zip(counts, photons, strict=True):
        electrons = rng.poisson(expected).astype(np.float32)
        read_noise = camera.read_noise_counts * rng.standard_normal(expected.shape, np.float32)
        signal = camera.offset_counts + camera.gain_counts_per_photon * electrons + read_noise
        plane[...] = np.clip(np.rint(signal), 0, np.iinfo(np.uint16).max)
    return counts


def peak_photons(snr: float, background_photons: float, camera: CameraParameters) -> float:
    """Peak signal A for which ``A / sqrt(A + background + read_noise²) = snr``, all in photons.

    Raising the definition of Chenouard et al. (Nat. Methods 11, 2014) to the square gives
    ``A² - snr² A - snr² V = 0`` with V the variance under the peak without its own photons.
    """
    read_noise = camera.read_noise_counts / camera.gain_counts_per_photon
    variance = background_photons + read_noise**2
    return 0.5 * (snr**2 + snr * math.sqrt(snr**2 + 4 * variance))


def _stamps(
    grid: Grid, psf: PointSpread, positions_um: NDArray[np.float64]
) -> Iterator[tuple[Window, NDArray[np.float32]]]:
    """For each particle the window of the grid that it reaches, and the PSF at its sample points."""
    planes, rows, columns = grid.shape
    reach_z, reach_y, reach_x = psf.reach_um
    for z, y, x in positions_um:
        across = _window(z, reach_z, grid.plane_spacing_um, planes)
        shifts = np.arange(across.start, across.stop) * grid.plane_shift_um
        down = _window(y, reach_y, grid.pixel_um, rows)
        # On a skewed grid the particle drifts from plane to plane: take the columns of all of them.
        drift = np.ptp(shifts) / 2 if len(shifts) else 0.0
        middle = shifts.mean() if len(shifts) else 0.0
        along = _window(x - middle, reach_x + drift, grid.pixel_um, columns)
        spread = psf(
            np.arange(across.start, across.stop)[:, None, None] * grid.plane_spacing_um - z,
            np.arange(down.start, down.stop)[:, None] * grid.pixel_um - y,
            shifts[:, None, None] + np.arange(along.start, along.stop) * grid.pixel_um - x,
        )
        yield (across, down, along), spread


def _window(centre: float, reach: float, spacing: float, size: int) -> slice:
    """Indices within ``reach`` of ``centre``, as far as they exist."""
    first = max(math.ceil((centre - reach) / spacing), 0)
    stop = min(math.floor((centre + reach) / spacing) + 1, size)
    return slice(first, max(stop, first))
