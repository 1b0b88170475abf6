"""Camera corrections against their formula, and registered channels against a displaced scene."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from geometry_scenes import OFFSET, PIXEL, Beads

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.camera import Camera
from spatialdino_core.geometry.deskew import Deskew
from spatialdino_core.geometry.grid import output_grid
from spatialdino_core.geometry.registration import read_registration
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.movies.sheet import SheetRow

SHAPE = (24, 20, 90)


def row(**changes: object) -> SheetRow:
    values = {"movie": "a", "channel": "c", "path": "x.tif", "scan": "stage"}
    return SheetRow(**(values | changes))  # type: ignore[arg-type]


def geometry(axis: str) -> ScanGeometry:
    return ScanGeometry(scan="stage", angle_deg=31.5, step_um=0.5, pixel_um=PIXEL, skew_axis=axis)  # type: ignore[arg-type]


@pytest.mark.parametrize("interpolation", ["linear", "cubic", "fft"])
@pytest.mark.parametrize("axis", ["x", "y"])
def test_uneven_light_and_dark_image_are_taken_out(tmp_path, axis, interpolation):
    """A scene seen through a known vignette by a camera that mirrors: the corrected stack is the scene."""
    random = np.random.default_rng(2)
    shape = SHAPE if axis == "x" else (SHAPE[0], SHAPE[2], SHAPE[1])
    scene = random.uniform(200, 20000, shape)
    y, x = np.indices(shape[1:])
    vignette = 1 - 0.5 * (y / shape[1]) ** 2 - 0.2 * x / shape[2]
    dark = 100 + 5.0 * (x % 7)
    recorded = np.flip(scene * vignette / vignette.mean() + dark, 2)
    raw = np.rint(recorded).astype(np.uint16)
    tifffile.imwrite(tmp_path / "dark.tif", np.flip(dark, 1).astype(np.float32))
    tifffile.imwrite(tmp_path / "flat.tif", np.flip(vignette * 30000 + dark, 1).astype(np.float32))
    said = row(flip="x", dark=str(tmp_path / "dark.tif"), flat=str(tmp_path / "flat.tif"))
    grid = output_grid(geometry(axis), shape)
    camera = Camera.of(said, (shape[1], shape[2]))
    found = Deskew(grid=grid, interpolation=interpolation, fill=0, camera=camera)(raw).voxels
    clean = np.rint(scene + dark.mean()).astype(np.uint16)
    expected = Deskew(grid=grid, interpolation=interpolation, fill=0)(clean).voxels
    # Half a count of rounding, divided by the darkest corner.
    assert np.abs(found.astype(int) - expected).max() <= 4
    uncorrected = Deskew(grid=grid, interpolation=interpolation, fill=0)(raw).voxels
    assert np.abs(uncorrected.astype(int) - expected).mean() > 100


def test_noise_below_the_dark_level_is_not_clipped():
    random = np.random.default_rng(0)
    raw = np.rint(random.normal(100, 5, SHAPE)).astype(np.uint16)
    camera = Camera.of(row(dark=100.0), (SHAPE[1], SHAPE[2]))
    grid = output_grid(geometry("x"), SHAPE)
    found = Deskew(grid=grid, camera=camera)(raw).voxels[np.broadcast_to(grid.valid, grid.shape)]
    assert found.mean() == pytest.approx(100, abs=0.2)


def test_dark_corners_are_not_amplified_without_limit(tmp_path):
    flat = np.full((40, 50), 1100.0, np.float32)
    flat[0, 0] = 101
    tifffile.imwrite(tmp_path / "flat.tif", flat)
    camera = Camera.of(row(dark=100.0, flat=str(tmp_path / "flat.tif")), (40, 50))
    assert camera.gain is not None
    assert camera.gain.max() == camera.gain[0, 0] == pytest.approx(2.5)
    assert camera.gain[5, 5] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"flat": "flat.tif"}, "without a dark image"),
        ({"flat": "flat.tif", "dark": 60000.0}, "mean"),
        ({"dark": "small.tif"}, r"shape \(2, 2\)"),
        ({"dark": "nowhere.tif"}, "no such file"),
    ],
)
def test_calibration_images_that_cannot_be_are_refused(tmp_path, changes, found):
    tifffile.imwrite(tmp_path / "flat.tif", np.full((4, 5), 1000, np.uint16))
    tifffile.imwrite(tmp_path / "small.tif", np.full((2, 2), 100, np.uint16))
    placed = {k: str(tmp_path / v) if isinstance(v, str) else v for k, v in changes.items()}
    with pytest.raises(BadInputError, match=found):
        Camera.of(row(**placed), (4, 5))


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("frame", ["deskewed", "coverslip"])
def test_a_registered_channel_lies_on_the_first(tmp_path, frame, axis):
    """The second camera is turned and displaced: beads at A p are brought back to p."""
    beads = Beads(count=20)
    shape = beads.shape if axis == "x" else (beads.shape[0], beads.shape[2], beads.shape[1])
    grid = output_grid(geometry(axis), shape, frame=frame)
    raw = beads.raw()
    turn = np.deg2rad(0.7)
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:3, 3] = [0.15, -0.05, 0.2]
    path = tmp_path / "registration.json"
    path.write_text(json.dumps(matrix.tolist()))
    registration = read_registration(path)
    # What the second camera sees at raw position q is what lies at A^-1 q.
    to_first = grid.to_raw_um() @ np.linalg.inv(registration) @ np.linalg.inv(grid.to_raw_um())
    scale = np.diag([0.5, PIXEL, PIXEL, 1])
    to_first = np.linalg.inv(scale) @ to_first @ scale
    index = np.stack([*np.indices(shape), np.ones(shape)]).reshape(4, -1)
    plane, y, x = ((to_first @ index)[n].reshape(shape) for n in range(3))
    seen = np.rint(beads.light(plane, *((y, x) if axis == "x" else (x, y))) + OFFSET).astype(np.uint16)
    first = Deskew(grid=grid, fill=OFFSET)(raw if axis == "x" else raw.swapaxes(1, 2)).voxels.astype(float)
    second = Deskew(grid=grid, fill=OFFSET, registration=registration)(seen).voxels.astype(float)
    plain = Deskew(grid=grid, fill=OFFSET)(seen).voxels.astype(float)
    norm = np.linalg.norm(first - OFFSET)
    assert np.linalg.norm(second - first) / norm < 0.04
    assert np.linalg.norm(plain - first) / norm > 0.5


@pytest.mark.parametrize(
    "content",
    [
        "[[1,0],[0,1]]",
        '"text"',
        "[[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,2]]",
        str(np.diag([-1, 1, 1, 1]).tolist()),
    ],
)
def test_a_registration_that_is_no_affine_is_refused(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(BadInputError, match="4 × 4"):
        read_registration(tmp_path / "r.json")
