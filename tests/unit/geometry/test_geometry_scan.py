"""Scan geometry: spacing, displacement, and values that are refused."""

import math

import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.scan import ScanGeometry

ANGLE, STEP, PIXEL = 31.5, 0.5, 0.104


def geometry(**changes):
    return ScanGeometry(
        **({"scan": "stage", "angle_deg": ANGLE, "step_um": STEP, "pixel_um": PIXEL} | changes)
    )


def test_plane_spacing_is_not_the_stage_step():
    assert geometry().plane_spacing_um == pytest.approx(0.26125, abs=1e-5)
    assert geometry().shear_voxels == pytest.approx(4.0992, abs=1e-4)
    assert geometry(scan="z-stage").plane_spacing_um == pytest.approx(STEP * math.cos(math.radians(ANGLE)))
    for scan in ("objective", "none"):
        upright = geometry(scan=scan, angle_deg=None)
        assert (upright.plane_spacing_um, upright.shear_voxels) == (STEP, 0.0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"angle_deg": 0}, "angle_deg"),
        ({"angle_deg": 90}, "angle_deg"),
        ({"angle_deg": None}, "angle_deg"),
        ({"angle_deg": 90, "scan": "z-stage"}, "angle_deg"),
        ({"angle_deg": math.nan}, "angle_deg"),
        ({"step_um": 0}, "step_um"),
        ({"step_um": None}, "step_um"),
        ({"pixel_um": -0.1}, "pixel_um"),
        ({"pixel_um": math.inf}, "pixel_um"),
        ({"scan": "sample"}, "scan"),
        ({"skew_axis": "z"}, "skew_axis"),
        ({"scan_sign": 0}, "scan_sign"),
    ],
)
def test_impossible_geometry_is_refused(changes, named):
    with pytest.raises(BadInputError, match=named):
        geometry(**changes)
