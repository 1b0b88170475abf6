"""The filter against joint Gaussians of whole paths, and against the sum over all histories of motion."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from spatialdino_core.track.filter import filter_tracks

NOISE = np.array([0.05, 0.02, 0.03])
STEP, WIDE, SPEED, TURN = 0.2, 0.04, 0.3, 0.01
OLD = np.full((5, 3), NOISE**2)


def path_log_density(
    increments: list[str], position: np.ndarray, frames: np.ndarray, speed: float = SPEED
) -> float:
    """Log-density of positions after the first, given the first, for a known motion in each frame.

    Written down as one linear map of independent Gaussians: steps, velocities and localisation errors.
    """
    total = 0.0
    steps = len(increments)
    for a in range(3):
        # Columns: diffusion of each frame, velocity drawn or turned in each frame, error of each measurement.
        moves = np.zeros((steps + 1, 2 * steps))
        velocity = np.zeros(2 * steps)
        for t, kind in enumerate(increments, 1):
            moves[t] = moves[t - 1]
            moves[t, t - 1] += STEP if kind == "brown" else WIDE
            if kind == "brown":
                continue
            if kind == "set off":
                velocity = np.zeros(2 * steps)
            velocity[steps + t - 1] = speed if kind == "set off" else TURN
            moves[t] += velocity
        moves = moves[frames]
        errors = NOISE[a] * np.eye(len(frames))
        # A measured first position: what follows lies around it with its error.
        factors = np.hstack([moves[1:], errors[1:] - errors[0]])
        total += multivariate_normal(np.zeros(len(frames) - 1), factors @ factors.T).logpdf(
            position[1:, a] - position[0, a]
        )
    return total


def motion(redraw: float, fraction: float) -> np.ndarray:
    return np.array([STEP**2, WIDE**2, SPEED**2, TURN**2, redraw, fraction])


def log_density(position: np.ndarray, frames: np.ndarray, redraw: float, fraction: float) -> float:
    previous = np.arange(len(frames)) - 1
    return float(
        filter_tracks(frames, position, OLD[: len(frames)], previous, motion(redraw, fraction)).sum()
    )


@pytest.mark.parametrize("frames", [[0, 1, 2, 3, 4], [0, 1, 4, 5, 7]])
def test_a_brownian_particle_is_a_random_walk(frames: list[int]) -> None:
    position = np.random.default_rng(0).normal(0, 0.3, (5, 3))
    expected = path_log_density(["brown"] * 7, position, np.array(frames))
    assert log_density(position, np.array(frames), 0.0, 0.0) == pytest.approx(expected)


@pytest.mark.parametrize("frames", [[0, 1, 2, 3, 4], [0, 1, 4, 5, 7]])
def test_a_directed_particle_keeps_its_velocity(frames: list[int]) -> None:
    """With a velocity drawn before the first frame, whose small turn the reference counts in as well."""
    position = np.random.default_rng(1).normal(0, 0.3, (5, 3)).cumsum(axis=0)
    kinds = ["set off"] + ["keep"] * 6
    expected = path_log_density(kinds, position, np.array(frames), speed=float(np.hypot(SPEED, TURN)))
    assert log_density(position, np.array(frames), 0.0, 1.0) == pytest.approx(expected)


def test_the_first_step_is_the_exact_mixture_of_all_motions() -> None:
    position = np.random.default_rng(2).normal(0, 0.3, (2, 3))
    frames, redraw, fraction = np.array([0, 1]), 0.3, 0.4
    # A directed particle has a velocity of the same distribution whether it keeps or draws it, but for TURN.
    ways = {
        "brown": (1 - fraction) * (1 - redraw) + redraw * (1 - fraction),
        "set off": fraction * (1 - redraw) + redraw * fraction,
    }
    density = sum(share * np.exp(path_log_density([kind], position, frames)) for kind, share in ways.items())
    assert log_density(position, frames, redraw, fraction) == pytest.approx(np.log(density), abs=1e-2)


def test_merging_hypotheses_stays_near_the_sum_over_all_histories() -> None:
    """Four steps, every history of Brownian, set off and keep; the filter only approximates the sum."""
    frames, redraw, fraction = np.arange(5), 0.1, 0.5
    straight = np.outer(np.arange(5), [0.3, -0.2, 0.25]) + np.random.default_rng(3).normal(0, 0.05, (5, 3))
    total = 0.0
    for history in product(["brown", "set off", "keep"], repeat=4):
        share, directed = 1.0, None
        for kind in history:
            before = fraction if directed is None else float(directed)
            share *= {
                "brown": (1 - before) * (1 - redraw) + redraw * (1 - fraction),
                "set off": redraw * fraction + (before * (1 - redraw) if directed is None else 0.0),
                "keep": 0.0 if directed is None else before * (1 - redraw),
            }[kind]
            directed = kind != "brown"
        if share > 0:
            total += share * np.exp(path_log_density(list(history), straight, frames))
    assert log_density(straight, frames, redraw, fraction) == pytest.approx(np.log(total), abs=0.35)


def test_tracks_do_not_disturb_each_other() -> None:
    generator = np.random.default_rng(4)
    position = generator.normal(0, 0.3, (10, 3))
    frame, previous = np.repeat(np.arange(5), 2), np.arange(10) - 2
    both = filter_tracks(frame, position, np.tile(OLD, (2, 1)), np.maximum(previous, -1), motion(0.1, 0.5))
    for k in range(2):
        alone = filter_tracks(np.arange(5), position[k::2], OLD, np.arange(5) - 1, motion(0.1, 0.5))
        np.testing.assert_allclose(both[k::2], alone)
