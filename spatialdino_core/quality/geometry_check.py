"""The declared geometry of a scan against the shift that was measured between its planes.

Three words: ``same``, ``cannot tell``, ``contradiction``; and what would agree. The shift is one number: an
angle and a step that give the same shift are not told apart, nor are a stage and a z-stage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.quality.plane_shift import PlaneShift

Word = Literal["same", "cannot tell", "contradiction"]
Vector = NDArray[np.float64]

LEAST_PROMINENCE = 6.0
"""Noise and fixed patterns stay below 5; measured in benchmarks/results/geometry_check.md."""
UNLIKELY = 0.001
"""Two-sided probability of Student's t that the standard errors count by."""
SPREADS = 2.0
"""Times the spread of several ways to measure: structures that stand still pull all of them the same way."""
SLACK_PIXELS, SLACK_SHARE = 0.1, 0.03
"""A camera that is turned by a degree, a magnification or an angle as people know it."""
LEAN_DEG = 4.0
"""Structures that lean all one way, by so much on average, move from plane to plane by themselves."""
COARSE_PIXELS, COARSE_SHARE = 0.5, 0.2
"""A limit wider than both of these confirms nothing."""


@dataclass(frozen=True)
class Comparison:
    """What the planes of a channel say of its geometry.

    Attributes
    ----------
    word
        The verdict.
    fact
        Both shifts in one line; empty where none was measured.
    reason
        What is wrong and what would agree; empty unless there is a contradiction.
    """

    word: Word
    fact: str = ""
    reason: str = ""


def image_shift(geometry: ScanGeometry, flip: str = "") -> Vector:
    """Shift (y, x) of the image from one recorded plane to the next, pixels of the raw file.

    Parameters
    ----------
    geometry
        Of the scan.
    flip
        Image axes along which the camera mirrors: ``""``, ``x``, ``y`` or ``xy``. The geometry is that of the
        image put right.

    Examples
    --------
    >>> image_shift(ScanGeometry(scan="stage", angle_deg=60, step_um=0.4, pixel_um=0.1)).round(6).tolist()
    [0.0, -2.0]
    """
    scan = as_recorded(geometry, flip)
    shift = np.zeros(2)
    shift[scan.skew_dimension - 1] = scan.shear_voxels if scan.descending else -scan.shear_voxels
    return shift + 0.0  # no negative zero


def as_recorded(geometry: ScanGeometry, flip: str = "") -> ScanGeometry:
    """The geometry with which planes move as they do in the raw file of a camera that mirrors them."""
    return replace(geometry, scan_sign=-geometry.scan_sign) if geometry.skew_axis in flip else geometry


def compare(shift: PlaneShift | None, geometry: ScanGeometry, flip: str = "") -> Comparison:
    """Hold the declared geometry against the measured shift.

    Parameters
    ----------
    shift
        Measured; ``None`` if nothing was.
    geometry, flip
        Declared, as in `image_shift`.
    """
    if shift is None or shift.prominence < LEAST_PROMINENCE:
        return Comparison("cannot tell")
    declared = image_shift(geometry, flip)
    fact = f"shift between planes: {_pixels(declared)} px declared, {_measured(shift)} px measured (y, x)"
    if _agree(shift, geometry, declared):
        coarse = max(COARSE_PIXELS, COARSE_SHARE * float(np.abs(declared).max()))
        sure = _limit(shift, geometry, declared).max() <= coarse
        return Comparison("same" if sure else "cannot tell", fact)
    agreeing = "; ".join(_what_would_agree(shift, geometry, flip))
    return Comparison(
        "contradiction",
        fact,
        f"the image moves from plane to plane by {_measured(shift)} pixels (y, x), and would by "
        f"{_pixels(declared)} with {_words(geometry)}. {agreeing}",
    )


def of_one_movie(channels: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """Channels share one scan: where one of them confirms it, none contradicts it."""
    if any(one.word == "same" for one in channels.values()):
        return {
            channel: Comparison("cannot tell", one.fact) if one.reason else one
            for channel, one in channels.items()
        }
    return dict(channels)


def shift_measures(shift: PlaneShift | None) -> dict[str, float | None]:
    """The measured shift among the measures of a channel; ``None`` where nothing stands out."""
    names = ("shift_y_pixels", "shift_x_pixels", "shift_error_pixels")
    if shift is None or shift.prominence < LEAST_PROMINENCE:
        return dict.fromkeys(names)
    values = (*shift.pixels, standard_error(shift).max())
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def standard_error(shift: PlaneShift) -> Vector:
    """Chance and the spread of several ways to measure together (y, x), pixels."""
    return np.asarray(np.hypot(shift.error, shift.spread))


def _limit(shift: PlaneShift, geometry: ScanGeometry, declared: Vector) -> Vector:
    """Differences (y, x) up to which a declared and the measured shift agree, pixels."""
    chance = float(student.isf(UNLIKELY / 2, shift.parts - 1)) * shift.error
    lean = geometry.plane_spacing_um * math.tan(math.radians(LEAN_DEG)) / geometry.pixel_um
    slack = SLACK_PIXELS**2 + (SLACK_SHARE * float(np.abs(declared).max())) ** 2 + lean**2
    return np.asarray(np.sqrt(chance**2 + (SPREADS * shift.spread) ** 2 + slack))


def _agree(shift: PlaneShift, geometry: ScanGeometry, declared: Vector) -> bool:
    return bool(np.all(np.abs(shift.pixels - declared) <= _limit(shift, geometry, declared)))


def _what_would_agree(shift: PlaneShift, geometry: ScanGeometry, flip: str) -> list[str]:
    """Changes of the geometry with which it would say what was measured, or that there are none."""
    if _agree(shift, geometry, np.zeros(2)):
        return ["A stack without skew would agree (scan: objective or none), as one deskewed before is"]
    dimension = int(np.abs(shift.pixels).argmax())
    across = shift.pixels.copy()
    across[dimension] = 0
    if not _agree(shift, geometry, shift.pixels - across):
        return [
            "No setting would agree: the sample moved during the scan, or the planes are not in their order"
        ]
    axis: Literal["y", "x"] = "x" if dimension else "y"
    moved_um = float(abs(shift.pixels[dimension])) * geometry.pixel_um
    if geometry.shear_voxels == 0:
        return [f"A scan skewed along {axis} by {moved_um:.3g} µm from plane to plane would agree"]
    turned = replace(geometry, skew_axis=axis, scan_sign=1)
    if (image_shift(turned, flip)[dimension] > 0) != (shift.pixels[dimension] > 0):
        turned = replace(turned, scan_sign=-1)
    changes = []
    if turned.skew_axis != geometry.skew_axis:
        changes.append(f"skew_axis {axis} with scan_sign {turned.scan_sign:+d} would agree")
    elif turned.scan_sign != geometry.scan_sign:
        changes.append(f"scan_sign {turned.scan_sign:+d} would agree")
    if _agree(shift, geometry, image_shift(turned, flip)):
        return changes
    within_um = float(_limit(shift, geometry, shift.pixels)[dimension]) * geometry.pixel_um
    return [*(f"{change} in direction" for change in changes), *_angle_or_step(turned, moved_um, within_um)]


def _angle_or_step(geometry: ScanGeometry, moved_um: float, within_um: float) -> list[str]:
    """The angle that moves the image so far at the declared step, and the step at the declared angle."""
    per_step = abs(geometry.shear_voxels) * geometry.pixel_um / geometry.step_um
    step = f"step_um {moved_um / per_step:.3g} ± {within_um / per_step:.2g} at this angle"
    at_step = [_angle(geometry, moved_um + change) for change in (-within_um, 0, within_um)]
    low, angle, high = (at_step[0], at_step[1], at_step[2])
    if angle is None:
        return [f"{step} would agree (no angle does at this step)"]
    around = max(abs(other - angle) for other in (low, high) if other is not None)
    return [
        f"angle_deg {angle:.1f} ± {around:.1f} at this step, or {step} would agree: the shift alone cannot "
        "tell an angle from a step"
    ]


def _angle(geometry: ScanGeometry, moved_um: float) -> float | None:
    ratio = moved_um / geometry.step_um
    if not 0 < ratio < 1:
        return None
    return math.degrees(math.acos(ratio) if geometry.scan == "stage" else math.asin(ratio))


def _words(geometry: ScanGeometry) -> str:
    if geometry.shear_voxels == 0:
        return f"scan {geometry.scan}"
    return (
        f"scan {geometry.scan}, angle_deg {geometry.angle_deg:g}, step_um {geometry.step_um:g}, pixel_um "
        f"{geometry.pixel_um:g}, skew_axis {geometry.skew_axis}, scan_sign {geometry.scan_sign:+d}"
    )


def _pixels(shift: Vector) -> str:
    return f"({shift[0] + 0.0:.2f}, {shift[1] + 0.0:.2f})".replace("-", "−")


def _measured(shift: PlaneShift) -> str:
    error = standard_error(shift)
    parts = (f"{v:.2f} ± {e:.2f}" for v, e in zip(shift.pixels, error, strict=True))
    return f"({', '.join(parts)})".replace("-", "−")
