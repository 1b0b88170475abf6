"""Sample grids and the imaged volume against the formulas of a stage scan."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.simulate.grid import deskewed_grid, imaged_volume, raw_grid
from spatialdino_core.simulate.parameters import AcquisitionParameters

LLSM = AcquisitionParameters(angle_deg=31.5, step_um=0.4, pixel_um=0.104, planes=40, rows=96, columns=128)


def test_raw_voxel_positions_are_those_of_a_stage_scan() -> None:
    points = raw_grid(LLSM).plane_points(7)
    s, j, r = 7, 5, 11
    angle = math.radians(31.5)
    expected = [
        s * 0.4 * math.sin(angle),
        j * 0.104,
        s * 0.4 * math.cos(angle) + r * 0.104,
    ]
    np.testing.assert_allclose(points[j, r], expected)


def test_deskewed_grid_holds_the_whole_shear() -> None:
    grid = deskewed_grid(LLSM)
    shear = 0.4 * math.cos(math.radians(31.5)) / 0.104
    assert grid.shape == (40, 96, 128 + math.ceil(39 * shear))
    np.testing.assert_allclose(grid.voxel_um, (0.4 * math.sin(math.radians(31.5)), 0.104, 0.104))
    last_raw = raw_grid(LLSM).plane_points(39)[-1, -1]
    last_deskewed = grid.plane_points(39)[-1, -1]
    assert 0 <= last_deskewed[2] - last_raw[2] < 0.104


def test_unskewed_acquisition_is_its_own_deskewed_grid() -> None:
    upright = AcquisitionParameters(scan="none", step_um=0.25, planes=5, rows=6, columns=7)
    assert raw_grid(upright) == deskewed_grid(upright)
    assert raw_grid(upright).voxel_um == (0.25, 0.104, 0.104)


def test_volume_holds_exactly_the_sample_points() -> None:
    small = AcquisitionParameters(planes=6, rows=7, columns=8)
    grid, volume = raw_grid(small), imaged_volume(small, 0.0)
    points = np.concatenate([grid.plane_points(plane).reshape(-1, 3) for plane in range(6)])
    inward = points + 1e-9 * (points.mean(axis=0) - points)
    assert volume.contains(inward).all()
    corner = grid.plane_points(5)[0, 0]
    assert not volume.contains(corner[None] - [0, 0, 0.01])[0]  # left of the leaning face


def test_drawn_positions_are_uniform_and_keep_the_margin() -> None:
    volume = imaged_volume(LLSM, 0.5)
    points = volume.draw(4000, np.random.default_rng(1))
    assert volume.contains(points).all()
    sine, cosine = math.sin(math.radians(31.5)), math.cos(math.radians(31.5))
    # Distance to the leaning face through the origin, whose normal within the z-x plane is (-cos, sin).
    distance = points[:, 2] * sine - points[:, 0] * cosine
    assert distance.min() > 0.5 - 1e-9
    np.testing.assert_allclose(distance.max(), 127 * 0.104 * sine - 0.5, atol=0.02)
    height = points[:, 0]
    middle = 39 * 0.4 * sine / 2
    assert abs(height.mean() - middle) < 4 * height.std() / math.sqrt(len(height))


def test_margin_without_room_is_refused() -> None:
    with pytest.raises(BadInputError, match="margin"):
        imaged_volume(AcquisitionParameters(planes=4, rows=4, columns=4), 1.0)


REAL = Path(__file__).parents[4] / "shared" / "data" / "llsm_cell"


@pytest.mark.skipif(
    not REAL.exists(), reason="real lattice light-sheet stack not at ../shared/data/llsm_cell"
)
def test_shear_runs_as_in_a_real_stack() -> None:
    # The reference was deskewed by other software, about its middle: only the shear between planes counts.
    grid = raw_grid(AcquisitionParameters(step_um=0.3, pixel_um=0.1, planes=88, rows=320, columns=256))

    def displacement(plane: int) -> float:
        raw = tifffile.imread(REAL / "raw_skewed.tif", key=plane).astype(float)
        deskewed = tifffile.imread(REAL / "reference_deskewed.tif", key=plane).astype(float)
        padded = np.pad(raw - np.median(raw), ((0, 0), (0, deskewed.shape[1] - raw.shape[1])))
        spectrum = np.fft.rfft(deskewed - np.median(deskewed)) * np.conj(np.fft.rfft(padded))
        correlation = np.fft.irfft(spectrum.sum(axis=0), deskewed.shape[1])
        return float(correlation.argmax())

    expected = 50 * grid.plane_shift_um / grid.pixel_um
    assert displacement(70) - displacement(20) == pytest.approx(expected, abs=1.0)
