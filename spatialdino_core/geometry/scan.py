"""The geometry of a scan: where raw voxels lie in the deskewed frame. Maths only, no images.

The deskewed frame (µm) has z along the normal of the image planes and the skew axis along the tilted
in-plane pixel axis; the third axis is common. With plane s, tilted pixel r, step dz, pixel size px, the
angle θ between the image plane and the stage travel, and the scan direction σ = ±1:

==========  ===========================  ==================
scan        along the skew axis          along z
==========  ===========================  ==================
stage       σ s dz cos θ + r px          σ s dz sin θ
z-stage     σ s dz sin θ + r px          −σ s dz cos θ
objective   r px                         σ s dz
none        r px                         σ s dz
==========  ===========================  ==================

A stage travels along the coverslip, a z-stage along the coverslip's normal; ``none`` is a stack that is
upright already. Planes that were recorded down z are put in ascending order, so that the deskewed image
is never a mirror image of the specimen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.kernels.shear import SNAP_PIXELS

Scan = Literal["stage", "objective", "z-stage", "none"]
Shape = tuple[int, int, int]
SCANS = ("stage", "objective", "z-stage", "none")


@dataclass(frozen=True, kw_only=True)
class ScanGeometry:
    """How a raw stack (plane, y, x) samples space.

    Attributes
    ----------
    scan
        What moves between planes.
    angle_deg
        Angle between the image plane and the stage travel (coverslip), degrees, 0 to 90 exclusive; needed
        for ``stage`` and ``z-stage`` only.
    step_um
        Distance that the stage or objective moves between planes (not the plane spacing, except for
        ``objective`` and ``none``), µm.
    pixel_um
        Pixel size in the specimen, µm.
    skew_axis
        The tilted in-plane axis.
    scan_sign
        +1 if the stage advances with the plane index, -1 if the stack was recorded backwards.

    Raises
    ------
    BadInputError
        For an impossible value.
    """

    scan: Scan
    angle_deg: float | None = None
    step_um: float
    pixel_um: float
    skew_axis: Literal["x", "y"] = "x"
    scan_sign: Literal[1, -1] = 1

    def __post_init__(self) -> None:
        _require("scan", self.scan, self.scan in SCANS, "stage, objective, z-stage or none")
        _require("step_um", self.step_um, _positive(self.step_um), "a positive number of µm")
        _require("pixel_um", self.pixel_um, _positive(self.pixel_um), "a positive number of µm")
        _require("skew_axis", self.skew_axis, self.skew_axis in ("x", "y"), "x or y")
        _require("scan_sign", self.scan_sign, self.scan_sign in (1, -1), "+1 or -1")
        tilted = _positive(self.angle_deg) and (self.angle_deg or 0) < 90
        if self.scan in ("stage", "z-stage"):
            _require("angle_deg", self.angle_deg, tilted, "an angle above 0 and below 90 degrees")

    @property
    def plane_spacing_um(self) -> float:
        """Distance between neighbouring planes along their normal, µm."""
        if self.scan == "stage":
            return self.step_um * math.sin(self._angle)
        if self.scan == "z-stage":
            return self.step_um * math.cos(self._angle)
        return self.step_um

    @property
    def shear_voxels(self) -> float:
        """Displacement along the skew axis from one plane to the next, planes ascending in z (voxels).

        Negative for a z-stage: there the planes move down the skew axis as they move up z.
        """
        if self.scan == "stage":
            return self.step_um * math.cos(self._angle) / self.pixel_um
        if self.scan == "z-stage":
            return -self.step_um * math.sin(self._angle) / self.pixel_um
        return 0.0

    @property
    def voxel_um(self) -> tuple[float, float, float]:
        """Voxel size of the deskewed stack (z, y, x), µm."""
        return (self.plane_spacing_um, self.pixel_um, self.pixel_um)

    @property
    def skew_dimension(self) -> int:
        """Array dimension of the skew axis in (z, y, x)."""
        return 2 if self.skew_axis == "x" else 1

    @property
    def descending(self) -> bool:
        """Whether planes were recorded down z, so that their order is to be reversed."""
        return (self.scan_sign == -1) != (self.scan == "z-stage")

    def deskewed_shape(self, raw_shape: Shape) -> Shape:
        """Shape (z, y, x) of the deskewed stack: as many planes, longer by the whole displacement."""
        planes = raw_shape[0]
        shape = list(raw_shape)
        shape[self.skew_dimension] += math.ceil((planes - 1) * abs(self.shear_voxels) - SNAP_PIXELS)
        return (shape[0], shape[1], shape[2])

    def sampling_offset_voxels(self, planes: int, grid_offset_um: float = 0.0) -> float:
        """Raw position along the skew axis that deskewed voxel 0 of the lowest plane samples.

        With planes k ascending in z, voxel i along the axis samples ``i - shear_voxels k + offset``.
        """
        return grid_offset_um / self.pixel_um + min(0.0, (planes - 1) * self.shear_voxels)

    def origin_um(self, grid_offset_um: float = 0.0) -> tuple[float, float, float]:
        """Centre of deskewed voxel (0, 0, 0) in the deskewed frame (z, y, x), µm.

        The frame begins where that voxel lies without a grid offset.
        """
        return (0.0, 0.0, grid_offset_um) if self.skew_axis == "x" else (0.0, grid_offset_um, 0.0)

    def deskewed_to_raw(self, raw_shape: Shape, grid_offset_um: float = 0.0) -> NDArray[np.float64]:
        """4 × 4 matrix that takes deskewed voxel indices (z, y, x, 1) to raw ones (plane, y, x, 1).

        Indices count voxel centres from 0. The determinant is +1 for planes recorded up z, and -1 for
        planes recorded down z, whose order is reversed: then it is the raw array that is a mirror image.
        """
        planes, dimension = raw_shape[0], self.skew_dimension
        matrix = np.eye(4)
        matrix[dimension, 0] = -self.shear_voxels
        matrix[dimension, 3] = self.sampling_offset_voxels(planes, grid_offset_um)
        if self.descending:
            matrix[0, 0], matrix[0, 3] = -1, planes - 1
        return matrix

    def raw_to_deskewed(self, raw_shape: Shape, grid_offset_um: float = 0.0) -> NDArray[np.float64]:
        """Inverse of ``deskewed_to_raw``."""
        return np.linalg.inv(self.deskewed_to_raw(raw_shape, grid_offset_um)).astype(np.float64)

    @property
    def _angle(self) -> float:
        return math.radians(self.angle_deg or 0.0)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def _require(name: str, found: object, condition: bool, expected: str) -> None:
    if not condition:
        raise BadInputError(
            "scan geometry",
            found=f"{name} = {found!r}",
            expected=expected,
            remedy=f"Correct '{name}' in the sample sheet or in the movie's metadata.",
        )
