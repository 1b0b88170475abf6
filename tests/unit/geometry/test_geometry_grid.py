"""Output grids against the physics: where the stage and the camera put a voxel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from geometry_scenes import position

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.grid import output_grid
from spatialdino_core.geometry.scan import ScanGeometry

ANGLE, STEP, PIXEL = 31.5, 0.5, 0.104
SHAPE = (40, 8, 60)
SCANS = [
    (scan, sign, axis) for scan in ("stage", "z-stage", "objective") for sign in (1, -1) for axis in "xy"
]


def geometry(**changes):
    return ScanGeometry(
        **({"scan": "stage", "angle_deg": ANGLE, "step_um": STEP, "pixel_um": PIXEL} | changes)
    )


def raw_shape(axis):
    return SHAPE if axis == "x" else (SHAPE[0], SHAPE[2], SHAPE[1])


@pytest.mark.parametrize("frame", ["deskewed", "coverslip"])
@pytest.mark.parametrize(("scan", "sign", "axis"), SCANS)
def test_voxels_lie_where_the_microscope_put_them(scan, sign, axis, frame):
    """Differences between output voxels are those in the specimen, in the frame that is promised."""
    shape = raw_shape(axis)
    grid = output_grid(geometry(scan=scan, scan_sign=sign, skew_axis=axis), shape, frame=frame)
    back = np.linalg.inv(grid.to_raw_voxels())
    found, true = [], []
    for plane, pixel in [(0, 0), (39, 0), (0, 59), (7, 3), (39, 59)]:
        raw = [plane, 5, pixel, 1] if axis == "x" else [plane, pixel, 5, 1]
        z, y, x, _ = back @ raw
        along, across = (x, y) if axis == "x" else (y, x)
        assert across == pytest.approx(5)
        found.append((along * PIXEL, z * grid.voxel_um[0]))
        u, w = position(scan, sign, ANGLE, STEP, plane, pixel)
        cos, sin = math.cos(math.radians(ANGLE)), math.sin(math.radians(ANGLE))
        # Index 0 of z is the highest plane above the coverslip, so z runs down the height.
        true.append((u, w) if frame == "deskewed" else (u * cos + w * sin, -(u * sin - w * cos)))
    np.testing.assert_allclose(np.diff(found, axis=0), np.diff(true, axis=0), atol=1e-9)
    voxels = np.array(found) / [PIXEL, grid.voxel_um[0]]
    box = np.array([grid.shape[2 if axis == "x" else 1], grid.shape[0]])
    assert voxels.min() >= -1e-9
    assert (voxels <= box - 1 + 1e-9).all()
    # Nothing larger than needed: every border is touched to less than a voxel.
    assert (box - 1 - voxels.max(0) < 1).all()
    assert voxels.min(0).max() < 1


@pytest.mark.parametrize("frame", ["deskewed", "coverslip"])
@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize(("scan", "sign", "axis"), SCANS)
def test_never_a_mirror_image(scan, sign, axis, frame, isotropic):
    scanned = geometry(scan=scan, scan_sign=sign, skew_axis=axis)
    grid = output_grid(scanned, raw_shape(axis), frame=frame, isotropic=isotropic)
    recorded_downwards = (sign == -1) != (scan == "z-stage")
    assert np.sign(np.linalg.det(grid.to_raw_voxels())) == (-1 if recorded_downwards else 1)


def test_the_stage_scan_of_the_literature():
    """The matrix of the research literature for a sample scan, rows plane, y, pixel."""
    grid = output_grid(geometry(), SHAPE, frame="coverslip")
    cot, sin = 1 / math.tan(math.radians(ANGLE)), math.sin(math.radians(ANGLE))
    depth = math.ceil(59 * sin) + 1
    width = math.ceil((39 * STEP + 59 * PIXEL * math.cos(math.radians(ANGLE))) / PIXEL) + 1
    assert grid.shape == (depth, 8, width)
    assert grid.voxel_um == (PIXEL, PIXEL, PIXEL)
    expected = [
        [cot * PIXEL / STEP, 0, PIXEL / STEP, -(depth - 1) * cot * PIXEL / STEP],
        [0, 1, 0, 0],
        [-1 / sin, 0, 0, (depth - 1) / sin],
        [0, 0, 0, 1],
    ]
    np.testing.assert_allclose(grid.to_raw_voxels(), expected, atol=1e-9)
    deskewed = output_grid(geometry(), SHAPE)
    assert deskewed.shape == (40, 8, 60 + math.ceil(39 * 4.09923))
    assert deskewed.voxel_um == pytest.approx((STEP * sin, PIXEL, PIXEL))


def test_isotropic_voxels_of_the_deskewed_frame():
    grid = output_grid(geometry(), SHAPE, isotropic=True)
    spacing = STEP * math.sin(math.radians(ANGLE))
    assert grid.voxel_um == (PIXEL, PIXEL, PIXEL)
    assert grid.shape[0] == math.floor(39 * spacing / PIXEL) + 1
    plane, _, pixel, _ = grid.to_raw_voxels() @ [10, 3, 20, 1]
    assert plane == pytest.approx(10 * PIXEL / spacing)
    assert pixel == pytest.approx(20 - 4.09923 * plane, abs=1e-4)


@pytest.mark.parametrize("frame", ["deskewed", "coverslip"])
@pytest.mark.parametrize(("scan", "sign", "axis"), SCANS)
def test_a_region_is_a_cut_out_of_the_whole(scan, sign, axis, frame):
    scanned = geometry(scan=scan, scan_sign=sign, skew_axis=axis)
    options = {"frame": frame, "grid_offset_um": 0.03}
    whole = output_grid(scanned, raw_shape(axis), **options)
    box = ((1.0, 1.9), (0.2, 0.61), (0.25, 0.7))
    part = output_grid(scanned, raw_shape(axis), roi_um=box, **options)
    point = np.array([1.0, 2.0, 3.0, 1.0])
    shift = np.subtract(part.origin_um, whole.origin_um) / whole.voxel_um
    np.testing.assert_allclose(shift, np.rint(shift), atol=1e-9)
    moved = point + np.append(shift, 0)
    np.testing.assert_allclose(part.to_raw_voxels() @ point, whole.to_raw_voxels() @ moved, atol=1e-9)
    np.testing.assert_allclose(part.to_raw_um(), whole.to_raw_um(), atol=1e-9)
    for (low, high), origin, size, count in zip(box, part.origin_um, part.voxel_um, part.shape, strict=True):
        assert low - 1e-9 <= origin < low + size
        assert high - size < origin + (count - 1) * size <= high + 1e-9
    cut = tuple(slice(round(s), round(s) + n) for s, n in zip(shift, part.shape, strict=True))
    valid = np.broadcast_to(whole.valid, whole.shape)[cut]
    assert np.array_equal(valid, np.broadcast_to(part.valid, part.shape))


def test_the_core_is_where_all_planes_hold_data():
    long_scan = (120, 8, 60)
    for frame in ("deskewed", "coverslip"):
        scanned = geometry(step_um=0.1) if frame == "deskewed" else geometry()
        shape = (50, 8, 60) if frame == "deskewed" else long_scan
        whole = output_grid(scanned, shape, frame=frame)
        core = output_grid(scanned, shape, frame=frame, crop="core")
        filled = whole.valid[:, 0]
        rows = filled.any(1)
        assert core.valid.all()
        assert core.shape[2] == filled[rows].all(0).sum() > 0
        assert core.shape[0] == rows.sum()
    with pytest.raises(BadInputError, match="core"):
        output_grid(geometry(), SHAPE, crop="core")


def test_valid_voxels_lie_between_raw_voxels():
    for frame in ("deskewed", "coverslip"):
        grid = output_grid(geometry(), SHAPE, frame=frame)
        index = np.stack([*np.indices(grid.shape), np.ones(grid.shape)]).reshape(4, -1)
        raw = (grid.to_raw_voxels() @ index)[:3]
        limits = np.array(SHAPE)[:, None] - 1
        inside = ((raw >= -1e-6) & (raw <= limits + 1e-6)).all(0)
        assert np.array_equal(np.broadcast_to(grid.valid, grid.shape).ravel(), inside)


@pytest.mark.parametrize("frame", ["deskewed", "coverslip"])
def test_positions_of_tracks_lead_back_to_the_raw_stack(frame):
    scanned = geometry(scan_sign=-1)
    grid = output_grid(scanned, SHAPE, frame=frame, roi_um=((1, 2), (0.1, 0.8), (2, 5)))
    voxel = np.array([[2.3, 4.1, 10.7], [0.0, 0.0, 0.0]])
    um = voxel * grid.voxel_um + grid.origin_um
    expected = (grid.to_raw_voxels() @ np.c_[voxel, np.ones(2)].T).T[:, :3]
    np.testing.assert_allclose(grid.raw_voxels(um), expected, atol=1e-9)
    in_um = (grid.to_raw_um() @ np.c_[um, np.ones(2)].T).T[:, :3]
    np.testing.assert_allclose(in_um, expected * [STEP, PIXEL, PIXEL], atol=1e-9)


def test_transformations_are_those_matrices():
    grid = output_grid(geometry(), SHAPE, frame="coverslip")
    voxels, um = grid.transformations()
    assert (voxels["type"], voxels["output"], um["input"], um["output"]) == (
        "affine", "raw array", "coverslip", "raw",
    )  # fmt: skip
    np.testing.assert_array_equal(voxels["affine"], grid.to_raw_voxels()[:3])
    np.testing.assert_array_equal(um["affine"], grid.to_raw_um()[:3])


def test_width_ignores_rounding_errors_of_whole_shears():
    exact = ScanGeometry(scan="stage", angle_deg=60, step_um=0.4, pixel_um=0.1)  # 2.0000000000000004
    assert output_grid(exact, (51, 2, 10)).shape == (51, 2, 110)


def test_a_region_outside_and_an_unknown_tilt_are_refused():
    with pytest.raises(BadInputError, match="roi_um, axis x"):
        output_grid(geometry(), SHAPE, roi_um=((0, 1), (0, 1), (100, 101)))
    with pytest.raises(BadInputError, match="angle_deg"):
        output_grid(geometry(scan="objective", angle_deg=None), SHAPE, frame="coverslip")
