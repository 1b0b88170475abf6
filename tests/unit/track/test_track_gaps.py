"""Filled gaps against conditional Gaussians of the whole path."""

from __future__ import annotations

import numpy as np
import pandas as pd
from track_scenes import as_objects

from spatialdino_core.movies.clock import Clock
from spatialdino_core.track.appearance import prior_brightness
from spatialdino_core.track.gaps import fill_gaps
from spatialdino_core.track.links import Links, Model
from spatialdino_core.track.motion import MotionModel
from spatialdino_core.track.objects import Objects
from spatialdino_core.track.rates import first_rates

FRAMES = [0, 1, 2, 3, 6, 7, 8, 9]
POSITION = np.cumsum(np.random.default_rng(0).normal(0, 0.2, (8, 3)), axis=0)


def filled(
    fraction: float, drift: float = 0.0, position: np.ndarray = POSITION
) -> tuple[np.ndarray, np.ndarray]:
    truth = pd.DataFrame(position, columns=["z_um", "y_um", "x_um"])
    truth = truth.assign(frame=FRAMES, particle=0, intensity_sum=100.0)
    moved = drift * np.arange(10)[:, None] * np.ones(3)
    truth[["z_um", "y_um", "x_um"]] += moved[FRAMES]
    objects = Objects.of(as_objects(truth), Clock.even(10))
    motion = MotionModel(
        brownian_um=0.2,
        directed_um=0.01,
        speed_um=0.3,
        turn_um=0.02,
        redraw=0.0001,
        directed_fraction=fraction,
        localisation_axial=0.1,
        localisation_lateral=0.1,
    )
    light = prior_brightness(objects.log_brightness, 1.0)
    model = Model(motion, first_rates(8, 10, 100.0), light, {}, moved, np.zeros(10))
    previous, following = np.arange(8) - 1, np.append(np.arange(1, 8), -1)
    links = Links(previous, following, np.zeros(8), np.ones(8))
    later, frame, found = fill_gaps(objects, links, model)
    assert later.tolist() == [4, 4]
    assert frame.tolist() == [4, 5]
    return found, moved[[4, 5]]


def conditional(covariance: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Expectation of positions 4 and 5 of ten, given noisy measurements of the others."""
    inner = covariance[np.ix_(FRAMES, FRAMES)] + 0.1**2 * np.eye(8)
    return covariance[np.ix_([4, 5], FRAMES)] @ np.linalg.solve(inner, values)


def test_a_brownian_gap_is_the_conditional_mean_of_a_random_walk() -> None:
    # A start anywhere, then independent steps.
    covariance = 1e6 + 0.2**2 * np.minimum.outer(np.arange(10), np.arange(10))
    found, _ = filled(1e-9)
    np.testing.assert_allclose(found, conditional(covariance, POSITION), atol=2e-3)


def test_a_directed_gap_is_the_conditional_mean_of_a_run() -> None:
    noise = np.random.default_rng(1).normal(0, 0.05, (8, 3))
    straight = np.outer(FRAMES, [0.3, -0.2, 0.25]) + noise
    found, _ = filled(1 - 1e-9, position=straight)
    frames = np.arange(10.0)
    turns = np.maximum(np.subtract.outer(frames, np.arange(1, 10)) + 1, 0)
    covariance = 1e6 + 0.3**2 * np.outer(frames, frames) + 0.02**2 * turns @ turns.T
    covariance += 0.01**2 * np.minimum.outer(frames, frames)
    np.testing.assert_allclose(found, conditional(covariance, straight), atol=5e-3)


def test_filled_positions_drift_with_the_sample() -> None:
    still, _ = filled(0.3)
    drifting, moved = filled(0.3, drift=0.5)
    np.testing.assert_allclose(drifting, still + moved, atol=1e-9)
