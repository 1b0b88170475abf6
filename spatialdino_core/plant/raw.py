"""Light of particles added into a raw stack, planes in the order in which they were recorded.

Not where particles are and how bright, nor what the camera's noise is: see :mod:`.paths` and :mod:`.camera`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.plant.camera import CameraNoise
from spatialdino_core.plant.spread import Spread

Window = tuple[slice, slice, slice]


@dataclass(frozen=True)
class RawAxes:
    """How steps along the axes of a raw stack (plane, y, x) lead through the detection frame.

    Attributes
    ----------
    geometry
        Of the scan.
    """

    geometry: ScanGeometry

    @property
    def plane_um(self) -> float:
        """From one recorded plane to the next along z, µm; negative where planes were recorded down z."""
        return self.geometry.plane_spacing_um * (-1 if self.geometry.descending else 1)

    @property
    def shift_um(self) -> float:
        """From one recorded plane to the next along the skew axis, µm."""
        shear = self.geometry.shear_voxels * self.geometry.pixel_um
        return -shear if self.geometry.descending else shear

    def window(
        self, centre: NDArray[np.float64], reach_um: tuple[float, float, float], shape: tuple[int, ...]
    ) -> Window:
        """Voxels that light within ``reach_um`` (z, y, x) of ``centre`` can fall on, as far as they exist."""
        pixel, planes = self.geometry.pixel_um, reach_um[0] / abs(self.plane_um)
        reach = [planes, reach_um[1] / pixel, reach_um[2] / pixel]
        # Planes away from the centre, a particle lies elsewhere along the skew axis.
        reach[self.geometry.skew_dimension] += planes * abs(self.shift_um) / pixel
        z, y, x = (_range(c, r, size) for c, r, size in zip(centre, reach, shape, strict=True))
        return z, y, x

    def offsets_um(self, centre: NDArray[np.float64], window: Window) -> tuple[NDArray[np.float64], ...]:
        """Distances (z, y, x) of voxels from ``centre`` in the detection frame, µm; broadcastable."""
        plane, row, column = (
            np.arange(cut.start, cut.stop) - middle for cut, middle in zip(window, centre, strict=True)
        )
        planes, pixel = plane[:, None, None], self.geometry.pixel_um
        found = [planes * self.plane_um, row[:, None] * pixel, column * pixel]
        skew = self.geometry.skew_dimension
        found[skew] = found[skew] + planes * self.shift_um
        return tuple(found)


def particle_light(
    shape: tuple[int, int, int],
    places_voxels: NDArray[np.float64],
    peaks: NDArray[np.float64],
    spread: Spread,
    geometry: ScanGeometry,
) -> NDArray[np.float32]:
    """Light of particles on the voxels of a raw stack, without noise.

    Parameters
    ----------
    shape
        Of the stack (plane, y, x).
    places_voxels
        Shape (n, 3): plane, y, x as recorded, from 0 at the first voxel's centre, e.g. from
        `geometry.grid.OutputGrid.raw_voxels`. Those outside add what reaches into the stack.
    peaks
        Shape (n,): height of each above its background, counts.
    spread
        In the detection frame, sampled at voxel centres.
    geometry
        Of the scan.

    Returns
    -------
    numpy.ndarray
        Counts (plane, y, x), float32.
    """
    light, axes = np.zeros(shape, np.float32), RawAxes(geometry)
    for centre, peak in zip(places_voxels, peaks, strict=True):
        window = axes.window(centre, spread.reach_um, shape)
        light[window] += peak * spread.at(*axes.offsets_um(centre, window))
    return light


def planted(
    stack: NDArray[np.uint16],
    light: NDArray[np.float32],
    noise: CameraNoise,
    generator: np.random.Generator,
    *,
    illumination: NDArray[np.floating] | float = 1.0,
) -> NDArray[np.uint16]:
    """A raw stack with light added to it as the camera would have counted it.

    Parameters
    ----------
    stack
        Counts (plane, y, x); it stays as it is.
    light
        What is added, counts, of the same shape.
    noise
        Of the camera.
    generator
        Where photon noise comes from.
    illumination
        Relative brightness (y, x) of the field, where the stack is corrected for it later.

    Returns
    -------
    numpy.ndarray
        A new stack, uint16. Counts end where 16 bits end.
    """
    counts = stack.astype(np.float64)
    lit = light > 0
    counts[lit] += noise.shot_noise((light * illumination)[lit], generator)
    return np.clip(np.rint(counts), 0, np.iinfo(np.uint16).max).astype(np.uint16)


def _range(centre: float, reach: float, size: int) -> slice:
    first = min(max(math.ceil(centre - reach), 0), size)
    return slice(first, max(min(math.floor(centre + reach) + 1, size), first))
