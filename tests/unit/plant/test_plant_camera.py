"""The camera's noise against that of simulated cameras, still and moving, flat and textured."""

from __future__ import annotations

import numpy as np
import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.plant.camera import camera_noise
from spatialdino_core.simulate.movie import simulate_movie
from spatialdino_core.simulate.parameters import MovieParameters, SceneParameters


@pytest.mark.parametrize("gain", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("read_noise", [0.0, 5.0])
def test_gain_and_read_noise_of_still_light(gain: float, read_noise: float) -> None:
    rng = np.random.default_rng(3)
    electrons = np.broadcast_to(np.linspace(5, 100, 80), (20, 60, 80))
    stacks = [
        np.rint(100 + gain * rng.poisson(electrons) + read_noise * rng.standard_normal(electrons.shape))
        for _ in range(3)
    ]
    noise = camera_noise([np.clip(s, 0, 65535).astype(np.uint16) for s in stacks])
    assert noise.gain == pytest.approx(gain, rel=0.08)
    light = np.array([10.0, 50.0, 90.0])
    truth = gain**2 * light + read_noise**2
    np.testing.assert_allclose(noise.variance(100 + gain * light), truth, rtol=0.08)


@pytest.mark.parametrize("cell_photons", [0.0, 20.0])
@pytest.mark.parametrize("snr", [1.5, 5.0])
def test_particles_that_move_change_little(cell_photons: float, snr: float) -> None:
    scene = SceneParameters(frames=4, snr=snr, particles=100, cell_photons=cell_photons)
    movie = simulate_movie(MovieParameters(scene=scene, seed=3))
    camera = movie.parameters.camera
    noise = camera_noise([movie.raw_frame(frame) for frame in range(4)])
    assert noise.gain == pytest.approx(camera.gain_counts_per_photon, rel=0.15)
    dark = camera.gain_counts_per_photon**2 * scene.background_photons + camera.read_noise_counts**2
    level = camera.offset_counts + camera.gain_counts_per_photon * scene.background_photons
    assert noise.variance(level) == pytest.approx(dark, rel=0.1)


def test_shot_noise_of_light() -> None:
    noise = camera_noise(
        [np.random.default_rng(n).poisson(50, (8, 64, 64)).astype(np.uint16) for n in (1, 2)]
    )
    counted = noise.shot_noise(np.full(100_000, 30.0), np.random.default_rng(0))
    assert counted.mean() == pytest.approx(30, rel=0.02)
    assert counted.var() == pytest.approx(noise.gain * 30, rel=0.05)


@pytest.mark.parametrize(
    "stacks", [[], [np.full((4, 8, 8), 7, np.uint16)], [np.full((9, 16, 16), 7, np.uint16)] * 2]
)
def test_noise_needs_two_frames_that_differ(stacks: list[np.ndarray]) -> None:
    with pytest.raises(BadInputError, match="two frames that follow one another"):
        camera_noise(stacks, "cell_1")
