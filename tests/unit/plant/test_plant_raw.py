"""Planted light against the other simulator's, and its noise against Poisson's law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spatialdino_core.geometry.grid import output_grid
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.plant.camera import CameraNoise
from spatialdino_core.plant.raw import particle_light, planted
from spatialdino_core.plant.spread import gaussian_spread
from spatialdino_core.simulate.movie import simulate_movie
from spatialdino_core.simulate.parameters import AcquisitionParameters, MovieParameters, SceneParameters

SIGMA_UM = (0.32, 0.14, 0.14)


@pytest.mark.parametrize("scan", ["stage", "none"])
@pytest.mark.parametrize("sign", [1, -1])
def test_light_falls_where_an_independent_simulator_puts_it(scan: str, sign: int) -> None:
    acquisition = AcquisitionParameters(scan=scan, planes=30, rows=48, columns=56, scan_sign=sign)
    movie = simulate_movie(
        MovieParameters(scene=SceneParameters(frames=1, particles=12), acquisition=acquisition)
    )
    truth = movie.truth[movie.truth["visible"]]
    geometry = _geometry(acquisition)
    grid = output_grid(geometry, (30, 48, 56))
    places = grid.raw_voxels(truth[["z_um", "y_um", "x_um"]].to_numpy())
    peaks = truth["brightness"].to_numpy()
    light = particle_light((30, 48, 56), places, peaks, gaussian_spread(SIGMA_UM), geometry)
    background = movie.parameters.scene.background_photons
    np.testing.assert_allclose(light[::sign], movie.raw_photons(0) - background, atol=2e-3 * peaks.max())
    assert light.max() > 0.8 * peaks.min()


def test_a_tilted_y_axis_is_a_tilted_x_axis_turned() -> None:
    along_x = _geometry(AcquisitionParameters(planes=20, rows=32, columns=40))
    along_y, spread = replace(along_x, skew_axis="y"), gaussian_spread(SIGMA_UM)
    places, peaks = np.array([[9.3, 12.4, 20.1], [0.2, 30.0, 5.5]]), np.array([50.0, 20.0])
    one = particle_light((20, 32, 40), places, peaks, spread, along_x)
    other = particle_light((20, 40, 32), places[:, [0, 2, 1]], peaks, spread, along_y)
    np.testing.assert_allclose(other, one.transpose(0, 2, 1), rtol=1e-5)


def test_particles_outside_add_what_reaches_in() -> None:
    geometry = ScanGeometry(scan="none", step_um=0.2, pixel_um=0.1)
    spread, shape = gaussian_spread((0.2, 0.1, 0.1)), (6, 8, 8)
    places = np.array([[-1.0, 4.0, 4.0], [40.0, 4.0, 4.0]])
    light = particle_light(shape, places, np.array([100.0, 100.0]), spread, geometry)
    assert light.max() == pytest.approx(100 * np.exp(-0.5), rel=1e-5)
    assert light[5].max() == 0


def test_added_light_has_its_own_photon_noise_and_no_other() -> None:
    stack, noise = np.full((20, 100, 100), 400, np.uint16), CameraNoise(gain=2.0, intercept=-150.0)
    light = np.zeros(stack.shape, np.float32)
    light[10:] = 60
    added = planted(stack, light, noise, np.random.default_rng(1)).astype(float) - stack
    assert not added[:10].any()
    assert added[10:].mean() == pytest.approx(60, rel=0.01)
    assert added[10:].var() == pytest.approx(2.0 * 60, rel=0.03)


def test_counts_end_where_16_bits_end() -> None:
    stack, noise = np.full((1, 2, 2), 65530, np.uint16), CameraNoise(gain=1.0, intercept=0.0)
    full = planted(stack, np.full(stack.shape, 500, np.float32), noise, np.random.default_rng(0))
    assert (full == 65535).all()


def test_uneven_light_dims_what_is_added() -> None:
    stack, noise = np.zeros((40, 20, 20), np.uint16), CameraNoise(gain=1.0, intercept=0.0)
    field = np.ones((20, 20), np.float32)
    field[:, 10:] = 0.5
    light = np.full(stack.shape, 100, np.float32)
    added = planted(stack, light, noise, np.random.default_rng(2), illumination=field)
    assert added[..., 10:].mean() == pytest.approx(added[..., :10].mean() / 2, rel=0.02)


def _geometry(acquisition: AcquisitionParameters) -> ScanGeometry:
    return ScanGeometry(
        scan=acquisition.scan,
        angle_deg=acquisition.angle_deg,
        step_um=acquisition.step_um,
        pixel_um=acquisition.pixel_um,
        scan_sign=acquisition.scan_sign,
    )
