"""The motion of simulated particles is recovered from their tracks, and little data leave it where it was."""

from __future__ import annotations

import numpy as np
import pytest

from spatialdino_core.track.motion import MotionModel, fitted_model, prior_model


def walkers(
    particles: int, frames: int, noise: tuple[float, float, float], seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Particles that diffuse (0.15 µm) or run (0.25 µm per axis), drawn anew with probability 0.1."""
    generator = np.random.default_rng(seed)
    directed = generator.random(particles) < 0.5
    velocity = generator.normal(0, 0.25, (particles, 3))
    position = generator.uniform(0, 20, (particles, 3))
    path = [position]
    for _ in range(frames - 1):
        redrawn = generator.random(particles) < 0.1
        directed = np.where(redrawn, generator.random(particles) < 0.5, directed)
        velocity[redrawn] = generator.normal(0, 0.25, (redrawn.sum(), 3))
        step = np.where(directed, 0.04, 0.15)[:, None] * generator.normal(size=(particles, 3))
        position = position + step + directed[:, None] * velocity
        path.append(position)
    measured = np.concatenate(path) + generator.normal(size=(frames * particles, 3)) * noise
    previous = np.arange(frames * particles) - particles
    return np.repeat(np.arange(frames), particles), measured, np.maximum(previous, -1)


def fit(particles: int, frames: int, noise: tuple[float, float, float]) -> MotionModel:
    frame, position, previous = walkers(particles, frames, noise)
    prior = prior_model(1.0, False)
    return fitted_model(prior, prior, frame, position, np.ones_like(position), previous)


def test_motion_and_localisation_error_are_recovered() -> None:
    model = fit(150, 25, (0.1, 0.03, 0.03))
    assert model.brownian_um == pytest.approx(0.15, rel=0.1)
    assert model.speed_um == pytest.approx(0.25, rel=0.1)
    assert model.redraw == pytest.approx(0.1, abs=0.03)
    assert model.directed_fraction == pytest.approx(0.5, abs=0.12)
    assert model.localisation_axial == pytest.approx(0.1, rel=0.15)
    assert model.localisation_lateral == pytest.approx(0.03, rel=0.4)


def test_perfect_positions_have_hardly_any_error() -> None:
    model = fit(150, 25, (0.0, 0.0, 0.0))
    assert model.localisation_axial < 0.02
    assert model.brownian_um == pytest.approx(0.15, rel=0.08)


def test_a_handful_of_links_leaves_the_model_sensible() -> None:
    model = fit(2, 3, (0.0, 0.0, 0.0))
    assert 0.03 < model.brownian_um < 0.5
    assert 0.05 < model.redraw < 0.3


def test_without_links_the_model_is_the_prior() -> None:
    prior = prior_model(1.0, False)
    nothing = np.zeros(0, np.intp), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, np.intp)
    found = fitted_model(prior, prior, *nothing)
    np.testing.assert_allclose(found.free, prior.free, atol=1e-3)


def test_uncertainty_of_the_table_is_used_per_object() -> None:
    model = prior_model(1.0, True)
    variance = model.variance(np.array([[0.2, 0.1, 0.1], [0.4, 0.1, 0.1]]))
    np.testing.assert_allclose(np.sqrt(variance), [[0.2, 0.1, 0.1], [0.4, 0.1, 0.1]], rtol=1e-3)
