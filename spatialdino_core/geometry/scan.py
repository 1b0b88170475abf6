"""Geometry of a scan: from stage step and angle to voxel sizes, shapes and index transforms.

Conventions: raw index (s, y, x) is plane, row and column as recorded; x (or y) is the tilted in-plane
axis; the angle is between the image plane and the stage travel; the deskewed frame has its planes along
the normal of the image plane. Voxel centres have integer indices, index 0 is at 0 µm.

With stage step d, pixel p and angle θ, plane s of a stage scan lies s·d·sin θ along the normal and is
shifted by s·d·cos θ along the tilted axis; a vertical scan of the sample (``z-stage``) has sin and cos
exchanged and shifts the other way [1]_.

References
----------
.. [1] Maioli, High-speed 3-D fluorescence imaging by oblique plane microscopy, PhD thesis, Imperial
   College London, 2016; Sapoznik et al., eLife 9:e57681, 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spatialdino_core.errors import BadInputError

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class ScanGeometry:
    """How one movie was scanned.

    Attributes
    ----------
    scan
        ``stage``: the sample moves along the stage travel. ``z-stage``: the sample moves along the
        coverslip's normal. ``objective``: image planes are stacked along their normal. ``none``:
        the stack is already deskewed.
    angle_deg
        Angle between image plane and stage travel; only for ``stage`` and ``z-stage``.
    step_um
        Scan step; for ``objective`` and ``none`` the plane spacing.
    pixel_um
        Pixel size in the image plane.
    skew_axis
        The tilted in-plane axis.
    scan_sign
        −1 if the scan ran against the axis. Planes are then reversed once, at load.
    """

    scan: Literal["stage", "objective", "z-stage", "none"]
    angle_deg: float | None
    step_um: float
    pixel_um: float
    skew_axis: Literal["x", "y"] | None = "x"
    scan_sign: Literal[1, -1] = 1

    def __post_init__(self) -> None:
        if self.step_um <= 0 or self.pixel_um <= 0:
            self._refuse(f"step {self.step_um} µm, pixel {self.pixel_um} µm", "both above 0")
        if self.is_skewed and (self.angle_deg is None or not 0 < self.angle_deg < 90):
            self._refuse(f"angle {self.angle_deg}°", "an angle between 0° and 90°, exclusive")
        if self.is_skewed and self.skew_axis not in ("x", "y"):
            self._refuse(f"skew axis {self.skew_axis}", "x or y")

    def _refuse(self, found: str, expected: str) -> None:
        remedy = "Correct the sample sheet."
        raise BadInputError(f"scan '{self.scan}'", found=found, expected=expected, remedy=remedy)

    @property
    def is_skewed(self) -> bool:
        """Whether planes are shifted against each other."""
        return self.scan in ("stage", "z-stage")

    @property
    def _angle(self) -> float:
        return math.radians(self.angle_deg or 0.0)

    @property
    def plane_spacing_um(self) -> float:
        """Distance between planes along their normal."""
        factor = {"stage": math.sin(self._angle), "z-stage": math.cos(self._angle)}.get(self.scan, 1.0)
        return self.step_um * factor

    @property
    def shear_voxels(self) -> float:
        """Shift of each plane against the one before it along the tilted axis, in pixels.

        A vertical scan shifts by +d·sin θ while its planes run against the normal; counted along
        the normal, the shift is negative.
        """
        factor = {"stage": math.cos(self._angle), "z-stage": -math.sin(self._angle)}.get(self.scan, 0.0)
        return self.step_um * factor / self.pixel_um

    @property
    def voxel_um(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) of the deskewed frame."""
        return self.plane_spacing_um, self.pixel_um, self.pixel_um

    @property
    def tilted_axis(self) -> int:
        """Index of the tilted axis in (z, y, x)."""
        return 1 if self.skew_axis == "y" else 2

    @property
    def reverses_planes(self) -> bool:
        """Whether planes are put in reverse order at load, so that they run along their normal."""
        return (self.scan_sign == -1) != (self.scan == "z-stage")

    def deskewed_shape(self, raw_shape: Shape) -> Shape:
        """Shape of the smallest box that holds the sheared stack."""
        shape = list(raw_shape)
        shape[self.tilted_axis] += math.ceil((raw_shape[0] - 1) * abs(self.shear_voxels) - 1e-9)
        return shape[0], shape[1], shape[2]

    def first_position(self, raw_shape: Shape, grid_offset_um: float = 0.0) -> float:
        """Raw position, along the tilted axis of plane 0, that output index 0 samples, in pixels.

        With a negative shear the last plane sticks out furthest at the low end.
        """
        overhang = (raw_shape[0] - 1) * min(self.shear_voxels, 0.0)
        return -math.ceil(-overhang - 1e-9) + grid_offset_um / self.pixel_um

    def origin_um(self, raw_shape: Shape, grid_offset_um: float = 0.0) -> tuple[float, float, float]:
        """Position (z, y, x) of the first voxel of the box; first plane, first raw pixel is at 0."""
        origin = [0.0, 0.0, 0.0]
        origin[self.tilted_axis] = self.first_position(raw_shape, grid_offset_um) * self.pixel_um
        return origin[0], origin[1], origin[2]

    def deskewed_to_raw(self, raw_shape: Shape, grid_offset_um: float = 0.0) -> np.ndarray:
        """Affine (4, 4) from deskewed to raw voxel indices, columns and rows in the order z, y, x, 1."""
        matrix = np.eye(4)
        matrix[self.tilted_axis, 0] = -self.shear_voxels
        matrix[self.tilted_axis, 3] = self.first_position(raw_shape, grid_offset_um)
        if self.reverses_planes:
            matrix[0] = [-1.0, 0.0, 0.0, raw_shape[0] - 1.0]
        return matrix

    def raw_to_deskewed(self, raw_shape: Shape, grid_offset_um: float = 0.0) -> np.ndarray:
        """Inverse of `deskewed_to_raw`."""
        return np.linalg.inv(self.deskewed_to_raw(raw_shape, grid_offset_um))
