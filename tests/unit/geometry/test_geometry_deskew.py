"""Deskewing against direct formulas, analytic beads and an independent program on real data."""

import numpy as np
import pytest
import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.deskew import deskew_frame, estimate_background, valid_range
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.scan import ScanGeometry

LINEAR = DeskewParameters()


def stage_scan(**changes):
    return ScanGeometry(**({"scan": "stage", "angle_deg": 31.5, "step_um": 0.3, "pixel_um": 0.1} | changes))


def noise(shape=(9, 6, 21), seed=0):
    return np.random.default_rng(seed).integers(1, 65536, shape).astype(np.uint16)


def by_the_affine(raw, geometry, grid_offset_um, fill):
    """Deskewed stack by np.interp at the positions of the published affine, in float64."""
    shape = geometry.deskewed_shape(raw.shape)
    matrix = geometry.deskewed_to_raw(raw.shape, grid_offset_um)
    axis = geometry.skew_dimension
    out = np.full(shape, float(fill))
    for k in range(shape[0]):
        index = np.zeros((4, shape[axis]))
        index[0], index[axis], index[3] = k, np.arange(shape[axis]), 1
        position = matrix @ index
        plane, r = round(position[0, 0]), np.round(position[axis], 9)
        rows = raw[plane] if axis == 2 else raw[plane].T
        sampled = np.stack(
            [np.interp(r, np.arange(len(row)), row.astype(float), left=np.nan, right=np.nan) for row in rows]
        )
        sampled = np.where(np.isnan(sampled), fill, sampled)
        out[k] = sampled if axis == 2 else sampled.T
    return out


@pytest.mark.parametrize("scan", ["stage", "z-stage", "objective", "none"])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("axis", ["x", "y"])
def test_equals_float64_interpolation_at_the_positions_of_the_affine(scan, sign, axis):
    geometry = stage_scan(scan=scan, scan_sign=sign, skew_axis=axis)
    raw = noise()
    for offset in (0.0, 0.0047, -0.031):
        found = deskew_frame(raw, geometry, DeskewParameters(grid_offset_um=offset, fill=0), fill=0)
        expected = by_the_affine(raw, geometry, offset, 0)
        assert found.shape == geometry.deskewed_shape(raw.shape)
        assert np.abs(found - expected).max() <= 0.51
        valid = np.broadcast_to(valid_range(geometry, raw.shape, offset), found.shape)
        assert np.array_equal(valid, expected > 0)


def test_forward_and_reversed_scans_give_the_same_picture():
    raw = noise()
    forward = deskew_frame(raw, stage_scan(), LINEAR)
    assert np.array_equal(forward, deskew_frame(raw[::-1], stage_scan(scan_sign=-1), LINEAR))


def test_skew_axis_y_is_skew_axis_x_with_the_axes_exchanged():
    raw = noise()
    along_x = deskew_frame(raw, stage_scan(), LINEAR)
    along_y = deskew_frame(raw.swapaxes(1, 2), stage_scan(skew_axis="y"), LINEAR)
    assert np.array_equal(along_x, along_y.swapaxes(1, 2))


def test_blocks_do_not_change_a_bit():
    raw = noise()
    whole = deskew_frame(raw, stage_scan(), LINEAR)
    for block_bytes in (1, 2000, 5000):
        assert np.array_equal(whole, deskew_frame(raw, stage_scan(), LINEAR, block_bytes=block_bytes))


def test_constant_stack_and_fill():
    raw = np.full((9, 6, 21), 200, np.uint16)
    assert (deskew_frame(raw, stage_scan(), LINEAR) == 200).all()
    filled = deskew_frame(raw, stage_scan(), DeskewParameters(fill=7))
    valid = np.broadcast_to(valid_range(stage_scan(), raw.shape), filled.shape)
    assert np.array_equal(filled, np.where(valid, 200, 7))
    assert (deskew_frame(raw, stage_scan(), DeskewParameters(fill=7), fill=9)[~valid] == 9).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_beads_stay_where_they_are_in_space(sign):
    """Gaussian beads imaged on the skewed grid: their centroids, in µm, survive to 1e-3 voxel."""
    geometry = stage_scan(step_um=0.5, pixel_um=0.104, scan_sign=sign)
    m, spacing, px = geometry.shear_voxels, geometry.plane_spacing_um, geometry.pixel_um
    shape = (40, 24, 96)
    s, y, r = np.meshgrid(*map(np.arange, shape), indexing="ij")
    for true in [(5.13, 1.11, 13.42), (4.71, 1.303, 12.777)]:
        z0, y0, x0 = true
        distance2 = (
            ((s * spacing - z0) / 0.45) ** 2
            + ((y * px - y0) / 0.15) ** 2
            + (((r + m * s) * px - x0) / 0.15) ** 2
        )
        photons = np.rint(60000 * np.exp(-distance2 / 2)).astype(np.uint16)
        image = deskew_frame(photons[::sign], geometry, DeskewParameters(fill=0)).astype(np.float64)
        axes = np.meshgrid(*map(np.arange, image.shape), indexing="ij")
        centroid = np.array([(image * axis).sum() / image.sum() for axis in axes])
        assert np.abs(centroid - np.array(true) / geometry.voxel_um).max() < 1e-3


def test_input_that_is_no_stack_is_refused():
    with pytest.raises(BadInputError, match="float32"):
        deskew_frame(noise().astype(np.float32), stage_scan(), LINEAR)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="shape"):
        deskew_frame(noise()[0], stage_scan(), LINEAR)


def test_real_stack_agrees_with_cudadecon(real_data):
    """cudaDecon samples at r = i - m k + 0.0468 pixel and truncates; its box is two columns longer."""
    raw = tifffile.imread(real_data / "llsm_cell" / "raw_skewed.tif")
    reference = tifffile.imread(real_data / "llsm_cell" / "reference_deskewed.tif")
    parameters = DeskewParameters(grid_offset_um=0.00468)
    found = deskew_frame(raw, stage_scan(), parameters)
    assert found.shape == (88, 320, 479)
    valid = np.broadcast_to(valid_range(stage_scan(), raw.shape, 0.00468), found.shape)
    difference = np.abs(found.astype(int) - reference[..., :479])
    assert (difference[valid] <= 1).mean() >= 0.999
    assert (difference[~valid] <= 2).mean() >= 0.99
    assert estimate_background(raw) == pytest.approx(98, abs=1)
