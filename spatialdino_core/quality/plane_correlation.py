"""How planes of a raw stack correlate with those a few planes further on; frames add up.

Structures as small as the optics are correlated (phase correlation: Kuglin & Hines 1975, Proc. Int. Conf.
Cybernetics and Society, 163), for several distances of planes at once. What planes have in common that are
too far apart to share a particle stands still on the camera, and is subtracted. The declared geometry only
tells which planes are near. What shift the correlations show is measured in ``plane_shift.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter, maximum_filter

from spatialdino_core.budget import LOOK_VOXELS
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.statistics import MAD_TO_SIGMA

Maps = NDArray[np.float32]

FINE, WIDE = 0.5, 2.5
"""Each plane is smoothed, less its surroundings: standard deviations, as multiples of the point's."""
CLIP = 8.0
"""Robust standard deviations at which brightness is cut off: no single bright thing decides."""
NEAR, LAGS = 2.1, 4
"""Planes so many axial standard deviations apart, and at most so many planes, share a particle;"""
APART, FAR_LAGS = 3.5, 3
"""from here on they share none; so many distances are looked at."""
BLOCKS, LEAST_BLOCK, MOST_PARTS = 10, 3, 40
"""Parts of the depth that are left out in turn for the standard error, their least number of planes, and how
many parts there are at most if tiles of the plane are parts, too."""
LEAST_BLOCKS = 3
REACH = 24
"""Largest shift that is looked at between any two planes, pixels."""
SHARP = 1.5
"""Structures wider than so many points count little, in the one of two ways of filtering."""
RADIAL_BINS = 60
TILE = 128
"""Of large frames `LOOK_VOXELS` are looked at: tiles of so many pixels a side, elsewhere in each frame."""
PLASTIC = (0.7548777, 0.5698403)
"""By these shares of the frame the next tile lies further: powers of the plastic number leave no gaps."""


@dataclass(frozen=True)
class PlaneCorrelations:
    """Correlation of planes with those a few planes further on; frames add up.

    Attributes
    ----------
    maps
        Shape (2, lags, parts, 2 REACH + 1, 2 REACH + 1): of all structures, and of the sharp ones; of planes
        1, 2, … apart; of parts of the stack; shift along y and x, no shift in the middle.
    weights
        Shape (lags,): how alike a particle is in them.
    sigma
        Standard deviation of the point spread function, pixels.
    """

    maps: Maps
    weights: NDArray[np.float64]
    sigma: float


def plane_correlations(
    frame: int,
    stack: NDArray[Any],
    geometry: ScanGeometry,
    optics: OpticsParameters,
    no_data: NDArray[np.bool_] | None = None,
) -> PlaneCorrelations | None:
    """Correlate the planes of a raw stack.

    Parameters
    ----------
    frame
        Its number.
    stack
        Camera counts (plane, y, x).
    geometry
        The declared one: how far apart planes are.
    optics
        The point spread function.
    no_data
        Voxels (plane, y, x) that hold no image.

    Returns
    -------
    PlaneCorrelations or None
        None where planes are too few, too small or too far apart.
    """
    spacing = geometry.plane_spacing_um / optics.sigma_axial_um
    lags = min(LAGS, math.floor(NEAR / spacing))
    far = max(lags + 1, math.ceil(APART / spacing))
    blocks = min(BLOCKS, (len(stack) - far - FAR_LAGS + 1) // LEAST_BLOCK)
    if lags < 1 or blocks < LEAST_BLOCKS or min(stack.shape[1:]) <= 2 * REACH:
        return None
    sigma = optics.sigma_lateral_um / geometry.pixel_um
    tiles = _tiles(frame, stack.shape)
    groups = min(len(tiles), MOST_PARTS // blocks)
    side = 2 * REACH + 1
    maps = np.zeros((groups, 2, lags, blocks, side, side), np.float32)
    for number, (rows, columns) in enumerate(tiles):
        mask = None if no_data is None else no_data[:, rows, columns]
        detail = _detail(stack[:, rows, columns], mask, sigma)
        maps[number % groups] += _correlated(detail, sigma, lags, far, blocks)
    weights = np.exp(-((np.arange(1, lags + 1) * spacing) ** 2) / 4)
    return PlaneCorrelations(np.concatenate(list(maps), axis=2), weights, sigma)


def added(before: PlaneCorrelations | None, more: PlaneCorrelations | None) -> PlaneCorrelations | None:
    """Correlations of several frames of one geometry together."""
    if before is None or more is None:
        return before or more
    return replace(before, maps=before.maps + more.maps)


def _tiles(frame: int, shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Parts of the plane that are looked at, as rows and columns: all of it, if it is small enough."""
    planes, *sides = shape
    numbers = [max(1, side // TILE) for side in sides]
    if math.prod(shape) <= LOOK_VOXELS:
        high, wide = (np.array_split(np.arange(n), number) for n, number in zip(sides, numbers, strict=True))
        return [(slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)) for y in high for x in wide]
    tile = [min(side, TILE) for side in sides]
    number = max(1, LOOK_VOXELS // (planes * math.prod(tile)))
    corners = [
        [int(turn * share % 1 * (n - side + 1)) for share, n, side in zip(PLASTIC, sides, tile, strict=True)]
        for turn in range(frame * number, (frame + 1) * number)
    ]
    return [(slice(y, y + tile[0]), slice(x, x + tile[1])) for y, x in corners]


def _detail(stack: NDArray[Any], no_data: NDArray[np.bool_] | None, sigma: float) -> Maps:
    """Each plane's structures of the size of a point, in units of its noise; zero near what is no image."""
    found = np.empty(stack.shape, np.float32)
    margin = 2 * math.ceil(3 * WIDE * sigma) + 1  # as far as the filters reach
    for z, plane in enumerate(stack):
        image = plane.astype(np.float32)
        detail = gaussian_filter(image, FINE * sigma, truncate=3)
        detail -= gaussian_filter(image, WIDE * sigma, truncate=3)
        if no_data is not None:
            detail[maximum_filter(no_data[z], margin)] = 0
        known = np.abs(detail[detail != 0])
        noise = MAD_TO_SIGMA * float(np.median(known)) if known.size else 1.0
        np.clip(detail / noise, -CLIP, CLIP, out=found[z])
    return found


def _correlated(detail: Maps, sigma: float, lags: int, far: int, blocks: int) -> Maps:
    """Shape (2, lags, blocks, 2 REACH + 1, 2 REACH + 1)."""
    shape = tuple(fft.next_fast_len(n + REACH, real=True) for n in detail.shape[1:])
    waves = fft.rfft2(detail, s=shape)
    filters = _filters(waves, shape, sigma)
    maps = np.empty((2, lags, blocks, 2 * REACH + 1, 2 * REACH + 1), np.float32)
    for block in range(blocks):
        apart = sum(_cross(waves, lag, block, blocks) for lag in range(far, far + FAR_LAGS)) / FAR_LAGS
        for lag in range(1, lags + 1):
            cross = _cross(waves, lag, block, blocks) - apart
            for which, weight in enumerate(filters):
                image = np.roll(fft.irfft2(cross * weight, s=shape), (REACH, REACH), (0, 1))
                maps[which, lag - 1, block] = image[: 2 * REACH + 1, : 2 * REACH + 1]
    return maps


def _cross(waves: NDArray[np.complex64], lag: int, block: int, blocks: int) -> NDArray[np.complex64]:
    """Mean cross spectrum of planes so far apart, in one part of the stack."""
    first = np.array_split(np.arange(len(waves) - lag), blocks)[block]
    total = np.zeros(waves.shape[1:], np.complex64)
    for z in first:
        total += np.conj(waves[z]) * waves[z + lag]
    return total / np.float32(len(first))


def _filters(
    waves: NDArray[np.complex64], shape: tuple[int, ...], sigma: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a frequency counts: as the optics pass it, noise and structures made even; and if it is fine."""
    frequency = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None])
    power = np.mean([np.abs(wave) ** 2 for wave in waves], axis=0)
    bins = (frequency * RADIAL_BINS).astype(np.intp)
    number = np.maximum(np.bincount(bins.ravel()), 1)
    radial = (np.bincount(bins.ravel(), power.ravel()) / number)[bins]
    angular = 2 * np.pi * frequency * sigma
    passed = np.exp(-(angular**2) / 2) / np.maximum(radial, np.finfo(np.float32).tiny)
    sharp = passed * -np.expm1(-0.5 * (angular / SHARP) ** 2)
    return passed.astype(np.float32), sharp.astype(np.float32)
