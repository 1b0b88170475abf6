"""How the light of a point spreads: Gaussian widths, or a volume that was measured. Peak 1.

In the detection frame, whose z axis is the normal of the image planes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spatialdino_core.errors import BadInputError

REACH_SIGMAS = 4.0
"""Where a Gaussian is cut off: less than 4e-4 of its peak is left there."""
LEAST_VOXELS = 3
"""A measured volume with fewer along an axis has no shape."""
CENTRE_LEVEL = 0.5
"""Voxels above this share of the peak say where the centre of a measured volume is."""

Offsets = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spread:
    """Relative intensity around a point of light.

    Attributes
    ----------
    reach_um
        Distance (z, y, x) from the centre beyond which nothing is added, µm.
    at
        Gives the intensity at distances z, y and x from the centre (µm), which broadcast.
    """

    reach_um: tuple[float, float, float]
    at: Callable[[Offsets, Offsets, Offsets], NDArray[np.float64]]


def gaussian_spread(sigma_um: Sequence[float]) -> Spread:
    """Gaussian with standard deviations (z, y, x), µm, sampled at points.

    Examples
    --------
    >>> spread = gaussian_spread((0.3, 0.1, 0.1))
    >>> float(spread.at(np.array(0.3), np.array(0.0), np.array(0.0)).round(4))
    0.6065
    """
    z, y, x = (float(sigma) for sigma in sigma_um)

    def at(dz: Offsets, dy: Offsets, dx: Offsets) -> NDArray[np.float64]:
        along = (np.exp(-0.5 * (d / sigma) ** 2) for d, sigma in ((dz, z), (dy, y), (dx, x)))
        return np.asarray(next(along) * next(along) * next(along))

    return Spread((REACH_SIGMAS * z, REACH_SIGMAS * y, REACH_SIGMAS * x), at)


def measured_spread(volume: NDArray[np.floating], voxel_um: Sequence[float], name: str = "psf") -> Spread:
    """A measured volume, its background taken away, interpolated by cubic splines.

    Parameters
    ----------
    volume
        Shape (z, y, x), any real dtype: one point of light on an even background.
    voxel_um
        Voxel size (z, y, x), µm.
    name
        For error messages.

    Raises
    ------
    BadInputError
        If it is no volume, holds values that are not finite, or nothing stands out of its background.
    """
    counts = np.asarray(volume, np.float64)
    if counts.ndim != 3 or min(counts.shape) < LEAST_VOXELS or not np.isfinite(counts).all():
        raise _no_spread(
            name, f"an array of shape {counts.shape}, {counts.size} values, not all finite or too few"
        )
    faces = np.concatenate([np.take(counts, (0, -1), axis).ravel() for axis in range(3)])
    light = counts - np.median(faces)
    if not light.max() > 0:
        raise _no_spread(name, "nothing that is brighter than the volume's faces")
    light /= light.max()
    core = np.where(_around_the_peak(light), light, 0)
    centre = ndimage.center_of_mass(core)
    spline = ndimage.spline_filter(light, order=3, mode="constant")
    z, y, x = (float(size) for size in voxel_um)
    reach = [max(c, n - 1 - c) * s for c, n, s in zip(centre, light.shape, (z, y, x), strict=True)]

    def at(dz: Offsets, dy: Offsets, dx: Offsets) -> NDArray[np.float64]:
        places = np.broadcast_arrays(dz / z + centre[0], dy / y + centre[1], dx / x + centre[2])
        found = ndimage.map_coordinates(spline, places, order=3, mode="constant", prefilter=False)
        return np.maximum(found, 0)  # a spline through noise dips below, light does not

    return Spread((reach[0], reach[1], reach[2]), at)


def _around_the_peak(light: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Voxels above half the peak that hang together with it."""
    parts, _ = ndimage.label(light >= CENTRE_LEVEL)
    return np.asarray(parts == parts[np.unravel_index(light.argmax(), light.shape)])


def _no_spread(name: str, found: str) -> BadInputError:
    return BadInputError(
        name,
        found=found,
        expected="a volume (z, y, x) of one point of light on an even background",
        remedy="Crop the image of one bead, or give the widths of the point spread function instead.",
    )
