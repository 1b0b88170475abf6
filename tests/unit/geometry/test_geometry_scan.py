"""Scan geometry against the physics: where the stage and the camera put a voxel."""

import math

import numpy as np
import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.scan import ScanGeometry

ANGLE, STEP, PIXEL = 31.5, 0.5, 0.104
SHAPE = (40, 8, 12)


def geometry(**changes):
    return ScanGeometry(
        **({"scan": "stage", "angle_deg": ANGLE, "step_um": STEP, "pixel_um": PIXEL} | changes)
    )


def position_um(scan, sign, plane, pixel):
    """(z, skew) of a raw voxel in the deskewed frame, from two rotations of the laboratory frame.

    The specimen lies still and the image plane moves: along the coverslip by a stage, along its normal by
    a z-stage, along the detection axis by an objective.
    """
    angle = math.radians(ANGLE)
    tilted, normal = (
        np.array([math.cos(angle), math.sin(angle)]),
        np.array([math.sin(angle), -math.cos(angle)]),
    )
    travel = {"stage": np.array([1.0, 0.0]), "z-stage": np.array([0.0, 1.0]), "objective": normal}[scan]
    point = sign * plane * STEP * travel + pixel * PIXEL * tilted
    return point @ normal, point @ tilted


@pytest.mark.parametrize("scan", ["stage", "z-stage", "objective"])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("axis", ["x", "y"])
def test_deskewed_indices_are_positions_in_the_specimen(scan, sign, axis):
    scanned = geometry(scan=scan, scan_sign=sign, skew_axis=axis)
    matrix = scanned.raw_to_deskewed(SHAPE)
    pixels = SHAPE[scanned.skew_dimension]
    corners = [(0, 0), (SHAPE[0] - 1, 0), (0, pixels - 1), (7, 3), (SHAPE[0] - 1, pixels - 1)]
    found, true = [], []
    for plane, pixel in corners:
        raw = np.array([plane, 5, pixel, 1.0]) if axis == "x" else np.array([plane, pixel, 5, 1.0])
        z, y, x, _ = matrix @ raw
        found.append([z * scanned.voxel_um[0], (x if axis == "x" else y) * PIXEL])
        assert (y if axis == "x" else x) == pytest.approx(5)
        true.append(position_um(scan, sign, plane, pixel))
    # The frames agree up to their origin: the same axes, the same directions, the same scale.
    assert np.allclose(np.diff(found, axis=0), np.diff(true, axis=0), atol=1e-12)
    box = np.array(scanned.deskewed_shape(SHAPE))[[0, scanned.skew_dimension]]
    found_voxels = np.array(found) / [scanned.voxel_um[0], PIXEL]
    assert found_voxels.min() >= -1e-9
    assert (found_voxels <= box - 1 + 1e-9).all()
    assert (box - 1 - found_voxels.max(0) < 1).all()


def test_plane_spacing_is_not_the_stage_step():
    assert geometry().plane_spacing_um == pytest.approx(0.26125, abs=1e-5)
    assert geometry().shear_voxels == pytest.approx(4.0992, abs=1e-4)
    assert geometry(scan="objective", angle_deg=None).voxel_um == (STEP, PIXEL, PIXEL)
    assert geometry(scan="none", angle_deg=None).deskewed_shape(SHAPE) == SHAPE


def test_a_scan_recorded_forwards_is_not_mirrored():
    assert np.linalg.det(geometry().deskewed_to_raw(SHAPE)) == pytest.approx(1)
    assert np.linalg.det(geometry(scan="objective", angle_deg=None).deskewed_to_raw(SHAPE)) == pytest.approx(
        1
    )
    assert np.linalg.det(geometry(scan_sign=-1).deskewed_to_raw(SHAPE)) == pytest.approx(-1)


@pytest.mark.parametrize("scan", ["stage", "z-stage", "objective", "none"])
@pytest.mark.parametrize("sign", [1, -1])
def test_affines_are_inverse_and_include_the_grid_offset(scan, sign):
    scanned = geometry(scan=scan, scan_sign=sign)
    there, back = scanned.deskewed_to_raw(SHAPE, 0.03), scanned.raw_to_deskewed(SHAPE, 0.03)
    assert np.allclose(there @ back, np.eye(4), atol=1e-12)
    shift = there @ [3, 4, 5, 1] - scanned.deskewed_to_raw(SHAPE) @ [3, 4, 5, 1]
    assert np.allclose(shift, [0, 0, 0.03 / PIXEL, 0])
    assert scanned.origin_um(0.03) == (0.0, 0.0, 0.03)


def test_width_ignores_rounding_errors_of_whole_shears():
    exact = ScanGeometry(scan="stage", angle_deg=60, step_um=0.4, pixel_um=0.1)  # 2.0000000000000004
    assert exact.deskewed_shape((51, 2, 10)) == (51, 2, 110)


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
