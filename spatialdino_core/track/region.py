"""The imaged region: a box that the shear of the scan has tilted, so that "near the border" is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.movies.record import MovieRecord


@dataclass(frozen=True)
class Region:
    """Imaged region in the deskewed frame.

    Attributes
    ----------
    size_um
        Sides (z, y, x) of the box before it was tilted.
    tilt
        Shift along (z, y, x) per µm of z.
    start_um
        Corner (z, y, x) of the box at z = 0.
    """

    size_um: tuple[float, float, float]
    tilt: tuple[float, float, float] = (0.0, 0.0, 0.0)
    start_um: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def distance_to_border_um(self, positions_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance of positions (N, 3) to the nearest face, measured along the axes; negative outside.

        Examples
        --------
        >>> upright, tilted = Region((4, 4, 4)), Region((4, 4, 4), tilt=(0, 0, 0.5))
        >>> point = np.array([[2.0, 2.0, 1.5]])
        >>> upright.distance_to_border_um(point).tolist(), tilted.distance_to_border_um(point).tolist()
        ([1.5], [0.5])
        """
        upright = positions_um - positions_um[:, :1] * np.array(self.tilt) - np.array(self.start_um)
        sides = np.array(self.size_um)
        # A movie of one plane has no border along z.
        sides = np.where(sides > 0, sides, np.inf)
        low = np.where(np.isinf(sides), np.inf, upright)
        return np.asarray(np.minimum(low, sides - upright).min(axis=1))

    @property
    def volume_um3(self) -> float:
        """Volume, µm³; a flat side counts as 1 µm."""
        return math.prod(side if side > 0 else 1.0 for side in self.size_um)


def imaged_region(record: MovieRecord) -> Region:
    """Region that a registered movie has imaged, with position 0 at its first voxel."""
    scan = record.usable()
    planes, rows, columns = (n - 1 for n in record.shape_zyx)
    spacing, slope = scan.step_um, 0.0
    if scan.angle_deg is not None:
        angle = math.radians(scan.angle_deg)
        along, across = (
            (math.cos(angle), math.sin(angle))
            if scan.scan == "stage"
            else (-math.sin(angle), math.cos(angle))
        )
        spacing, slope = scan.step_um * across, along / across
    size = (planes * spacing, rows * scan.pixel_um, columns * scan.pixel_um)
    # With a negative slope the box leans the other way, and its foot is not at the first voxel.
    foot = max(0.0, -slope) * size[0]
    if scan.skew_axis == "y":
        return Region(size, (0.0, slope, 0.0), (0.0, foot, 0.0))
    return Region(size, (0.0, 0.0, slope), (0.0, 0.0, foot))
