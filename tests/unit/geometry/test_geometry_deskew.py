"""Deskew: against the formula, against cudaDecon on a real stack, and in physical coordinates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import map_coordinates
from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.deskew import deskew_frame, estimate_background, valid_mask
from spatialdino_core.geometry.scan import ScanGeometry

CPU = torch.device("cpu")
STAGE = ScanGeometry("stage", 31.5, 0.4, 0.104, "x", 1)


def geometry(**changes: Any) -> ScanGeometry:
    return ScanGeometry(**(STAGE.__dict__ | changes))


def deskew(raw: np.ndarray, scan: ScanGeometry, fill: float = 0, offset_um: float = 0) -> np.ndarray:
    return deskew_frame(raw, scan, fill=fill, grid_offset_um=offset_um, device=CPU)


def noise(shape: tuple[int, int, int] = (7, 5, 30)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60000, shape).astype(np.uint16)


SCANS = [
    STAGE,
    geometry(scan_sign=-1),
    geometry(skew_axis="y"),
    geometry(scan="z-stage"),
    geometry(scan="z-stage", scan_sign=-1, skew_axis="y"),
    geometry(scan="objective", angle_deg=None),
    geometry(scan="none", angle_deg=None),
]


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("offset_um", [0.0, 0.03])
def test_every_voxel_is_the_raw_stack_at_the_affine_s_position(scan: ScanGeometry, offset_um: float) -> None:
    """Independent truth: SciPy's linear interpolation of the raw stack, within its plane, where the
    4 × 4 transform says."""
    raw = noise()
    found = deskew(raw, scan, fill=7, offset_um=offset_um)
    indices = np.stack([*np.indices(found.shape), np.ones(found.shape)]).reshape(4, -1)
    positions = (scan.deskewed_to_raw(raw.shape, offset_um) @ indices)[:3]
    np.testing.assert_allclose(positions[0], positions[0].round(), atol=1e-9)  # planes are hit exactly
    expected = map_coordinates(raw.astype(float), positions, order=1, mode="nearest").reshape(found.shape)
    inside = np.all(
        [(p > -1e-9) & (p < n - 1 + 1e-9) for p, n in zip(positions, raw.shape, strict=True)], axis=0
    )
    inside = inside.reshape(found.shape)
    assert np.abs(found.astype(float) - expected)[inside].max() <= 0.51
    assert (found[~inside] == 7).all()
    mask = np.broadcast_to(valid_mask(scan, raw.shape, offset_um), found.shape)
    np.testing.assert_array_equal(mask, inside)


@pytest.mark.parametrize("scan", SCANS)
def test_the_box_holds_every_raw_voxel(scan: ScanGeometry) -> None:
    raw_shape = (7, 5, 30)
    corners = np.array([[z, y, x, 1] for z in (0, 6) for y in (0, 4) for x in (0, 29)]).T
    inside = (scan.raw_to_deskewed(raw_shape) @ corners)[:3]
    assert inside.min() >= -1e-9
    assert (inside <= np.array(scan.deskewed_shape(raw_shape))[:, None] - 1 + 1e-9).all()


def test_voxel_sizes_follow_the_angle() -> None:
    sine, cosine = np.sin(np.deg2rad(31.5)), np.cos(np.deg2rad(31.5))
    assert STAGE.voxel_um == pytest.approx((0.4 * sine, 0.104, 0.104))
    assert STAGE.shear_voxels == pytest.approx(0.4 * cosine / 0.104)
    vertical = geometry(scan="z-stage")
    assert vertical.voxel_um[0] == pytest.approx(0.4 * cosine)
    assert abs(vertical.shear_voxels) == pytest.approx(0.4 * sine / 0.104)
    assert geometry(scan="objective", angle_deg=None).voxel_um[0] == 0.4


def test_a_constant_stack_stays_constant() -> None:
    assert (deskew(np.full((9, 4, 20), 1234, np.uint16), STAGE, fill=1234) == 1234).all()


def test_a_reversed_scan_gives_the_same_picture() -> None:
    raw = noise()
    np.testing.assert_array_equal(deskew(raw, STAGE), deskew(raw[::-1].copy(), geometry(scan_sign=-1)))


def test_the_other_tilted_axis_gives_the_same_picture_turned() -> None:
    raw = noise()
    turned = deskew(raw.transpose(0, 2, 1).copy(), geometry(skew_axis="y"))
    np.testing.assert_array_equal(deskew(raw, STAGE), turned.transpose(0, 2, 1))


def test_full_scale_and_float_input_are_rounded_and_clipped() -> None:
    raw = np.full((3, 4, 20), 65535, np.uint16)
    assert deskew(raw, STAGE, fill=65535).min() == 65535
    assert deskew(np.full((3, 4, 20), 70000.0, np.float32), STAGE, fill=65535).min() == 65535
    assert deskew(np.full((3, 4, 20), -3.0, np.float32), STAGE).max() == 0


def test_a_bead_is_where_it_was_in_micrometres() -> None:
    """A Gaussian bead sampled on the skewed grid has its centroid where the geometry says."""
    shape, centre = (30, 24, 60), np.array([14.3 * STAGE.plane_spacing_um, 1.21, 7.2])
    raw_index = np.indices(shape).astype(float)
    z = raw_index[0] * STAGE.plane_spacing_um
    x = (raw_index[2] + STAGE.shear_voxels * raw_index[0]) * 0.104
    squares = ((z - centre[0]) / 0.5) ** 2 + ((raw_index[1] * 0.104 - centre[1]) / 0.25) ** 2
    raw = 20000 * np.exp(-0.5 * (squares + ((x - centre[2]) / 0.25) ** 2))
    found = deskew(raw.astype(np.uint16), STAGE).astype(float)
    where = [(np.indices(found.shape)[a] * found).sum() / found.sum() for a in range(3)]
    position_um = np.array(where) * STAGE.voxel_um + STAGE.origin_um(shape)
    np.testing.assert_allclose(position_um, centre, atol=0.002)


@pytest.mark.parametrize(
    "changes",
    [dict(angle_deg=0), dict(angle_deg=90), dict(angle_deg=None), dict(step_um=0), dict(skew_axis=None)],
)
def test_impossible_geometry_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match="scan 'stage'"):
        geometry(**changes)


def test_the_background_estimate_ignores_particles_and_empty_planes() -> None:
    raw = np.random.default_rng(1).normal(100, 3, (20, 40, 60)).round().astype(np.uint16)
    raw[:, 10:14, 20:30] = 3000
    raw[5] = 0
    assert estimate_background(raw) == pytest.approx(100, abs=1.5)


def test_a_real_stack_agrees_with_cudadecon(real_data: Path) -> None:
    """cudaDecon centres its box on n/2, which puts its grid 0.0468 pixels off ours: 0.00468 µm."""
    raw = tifffile.imread(real_data / "llsm_cell" / "raw_skewed.tif")
    reference = tifffile.imread(real_data / "llsm_cell" / "reference_deskewed.tif").astype(int)
    scan = ScanGeometry("stage", 31.5, 0.3, 0.1, "x", 1)
    found = deskew(raw, scan, fill=98, offset_um=0.00468).astype(int)
    width = found.shape[2]
    valid = np.broadcast_to(valid_mask(scan, raw.shape, 0.00468), found.shape)
    assert (np.abs(found - reference[..., :width])[valid] <= 1).mean() >= 0.999
