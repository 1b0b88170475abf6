"""The geometry of a scan: how planes and pixels lie in space. Not the output grids, which are in ``grid.py``.

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

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.record import Acquisition

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
        for ``stage`` and ``z-stage``, and for every scan that is rotated to the coverslip.
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

    Examples
    --------
    A sample scan at 32.8°: neighbouring planes are half a step apart, and 4 pixels beside each other.

    >>> scan = ScanGeometry(scan="stage", angle_deg=32.8, step_um=0.5, pixel_um=0.104)
    >>> round(scan.plane_spacing_um, 3), round(scan.shear_voxels, 2)
    (0.271, 4.04)
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
        if self.scan in ("stage", "z-stage") or self.angle_deg is not None:
            _require("angle_deg", self.angle_deg, tilted, "an angle above 0 and below 90 degrees")

    @staticmethod
    def of(acquisition: Acquisition) -> ScanGeometry:
        """Geometry of a registered movie."""
        return ScanGeometry(
            scan=acquisition.scan,  # type: ignore[arg-type]
            angle_deg=acquisition.angle_deg,
            step_um=acquisition.step_um,
            pixel_um=acquisition.pixel_um,
            skew_axis=acquisition.skew_axis or "x",  # type: ignore[arg-type]
            scan_sign=acquisition.scan_sign,  # type: ignore[arg-type]
        )

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
    def skew_dimension(self) -> int:
        """Array dimension of the skew axis in (z, y, x)."""
        return 2 if self.skew_axis == "x" else 1

    @property
    def descending(self) -> bool:
        """Whether planes were recorded down z, so that their order is to be reversed."""
        return (self.scan_sign == -1) != (self.scan == "z-stage")

    @property
    def tilt(self) -> float:
        """Angle between the image plane and the coverslip, radians.

        Raises
        ------
        BadInputError
            If it is not known: ``objective`` and ``none`` need it for the coverslip frame only.
        """
        if self.angle_deg is None:
            _require("angle_deg", None, False, "an angle above 0 and below 90 degrees, for frame: coverslip")
        return self._angle

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
