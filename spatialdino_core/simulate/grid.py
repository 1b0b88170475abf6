"""Where a movie samples space: raw (skewed) and deskewed grids, and the volume that they image.

All coordinates are µm in the deskewed frame (z, y, x): z along the normal of the image plane (the
optical axis), x along the tilted axis within it. The centre of raw voxel (0, 0, 0) is the origin.
In a stage scan by steps dz at angle θ, raw voxel (s, j, r) lies at
``z = s dz sin θ``, ``y = j px``, ``x = s dz cos θ + r px``.
This is the linear shear of `geometry`, stated anew on purpose: the simulation judges that room and
must not share its code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.simulate.parameters import AcquisitionParameters


@dataclass(frozen=True)
class Grid:
    """Sample points: parallel planes, each displaced along x against the one before.

    Attributes
    ----------
    shape
        Planes, rows, columns (z, y, x).
    plane_spacing_um
        Distance between planes along their normal.
    plane_shift_um
        Displacement along x from one plane to the next; 0 for an upright grid.
    pixel_um
        Spacing along y and x.
    """

    shape: tuple[int, int, int]
    plane_spacing_um: float
    plane_shift_um: float
    pixel_um: float

    @property
    def voxel_um(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) in µm."""
        return (self.plane_spacing_um, self.pixel_um, self.pixel_um)

    def plane_points(self, plane: int) -> NDArray[np.float64]:
        """Positions (z, y, x) in µm of one plane's voxel centres, shape (rows, columns, 3)."""
        _, rows, columns = self.shape
        points = np.empty((rows, columns, 3))
        points[..., 0] = plane * self.plane_spacing_um
        points[..., 1] = np.arange(rows)[:, None] * self.pixel_um
        points[..., 2] = plane * self.plane_shift_um + np.arange(columns) * self.pixel_um
        return points


def raw_grid(acquisition: AcquisitionParameters) -> Grid:
    """Grid on which the microscope samples: skewed for a stage scan, upright otherwise."""
    angle = math.radians(acquisition.angle_deg)
    skewed = acquisition.scan == "stage"
    return Grid(
        shape=(acquisition.planes, acquisition.rows, acquisition.columns),
        plane_spacing_um=acquisition.step_um * (math.sin(angle) if skewed else 1.0),
        plane_shift_um=acquisition.step_um * math.cos(angle) if skewed else 0.0,
        pixel_um=acquisition.pixel_um,
    )


def deskewed_grid(acquisition: AcquisitionParameters) -> Grid:
    """Upright grid of the deskewed stack: as many planes, wider by the whole displacement."""
    raw = raw_grid(acquisition)
    planes, rows, columns = raw.shape
    wider = math.ceil((planes - 1) * raw.plane_shift_um / raw.pixel_um)
    return Grid((planes, rows, columns + wider), raw.plane_spacing_um, 0.0, raw.pixel_um)


@dataclass(frozen=True)
class Volume:
    """The imaged parallelepiped, minus a margin on all sides.

    Its natural coordinates are (z, y, v) with ``v = x - slope * z``: in them it is a box.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    slope: float

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether points (n, 3) in µm lie inside, shape (n,)."""
        box = self.to_box(points)
        return np.all((box >= self.low) & (box <= self.high), axis=-1)

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Positions (count, 3) in µm, uniformly distributed inside."""
        box = rng.uniform(self.low, self.high, (count, 3))
        box[:, 2] += self.slope * box[:, 0]
        return box

    def to_box(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The points (..., 3) in box coordinates (z, y, v)."""
        box = points.copy()
        box[..., 2] -= self.slope * points[..., 0]
        return box


def imaged_volume(acquisition: AcquisitionParameters, margin_um: float) -> Volume:
    """Volume spanned by the sample points of an acquisition, ``margin_um`` inside its faces.

    Raises
    ------
    BadInputError
        When the margin leaves nothing of it.
    """
    grid = raw_grid(acquisition)
    slope = grid.plane_shift_um / grid.plane_spacing_um
    extent = (np.array(grid.shape) - 1) * np.array(grid.voxel_um)
    # The face v = 0 leans: a distance d along its normal is d * sqrt(1 + slope²) along x.
    margin = margin_um * np.array([1.0, 1.0, math.hypot(1.0, slope)])
    if np.any(extent < 2 * margin):
        size = " × ".join(f"{length:.2f}" for length in extent)
        raise BadInputError(
            "margin_um",
            found=f"{margin_um} µm in a volume of {size} µm",
            expected="a margin that leaves room for particles",
            remedy="Image more planes or pixels, or reduce the margin.",
        )
    return Volume(low=margin, high=extent - margin, slope=slope)
