"""Weights of frames for positions: against simulated random walks and the limits that need no formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from spatialdino_core.segment.detect.observer import Observer, TimeGroups
from spatialdino_core.segment.measure.localisation_weights import FIT_LOSS, localisation_weights
from spatialdino_core.segment.optics import FACTORS

SIGMA_UM = np.array([0.32, 0.14, 0.14])
CHANNELS = len(FACTORS)
REACH = 4
GROUPS = TimeGroups.around(REACH, range(2 * REACH + 1), REACH)
LAGS = np.concatenate(GROUPS.lags)
MEAN = np.array([[(lag in group) / len(group) for lag in LAGS] for group in GROUPS.lags])


def _observer(left: np.ndarray, texture: float = 0.0) -> Observer:
    """Noise that is new in every frame, and ``texture`` times its variance that stays; ``left`` per lag."""
    covariance = np.array([(texture + (lag == 0)) * np.eye(CHANNELS) for lag in range(2 * REACH + 1)])
    return Observer(covariance, left, np.ones((1, CHANNELS)))


def _left(step_um: float) -> np.ndarray:
    """Mean response of a Gaussian of the same size to a Gaussian that has moved at random."""
    return np.array([np.prod((1 + lag * step_um**2 / 2 / SIGMA_UM**2) ** -0.5) for lag in range(REACH + 1)])


@pytest.mark.parametrize("z_score", [4.0, 12.0])
@pytest.mark.parametrize("step_um", [0.03, 0.08, 0.2])
@pytest.mark.parametrize("texture", [0.0, 3.0])
def test_no_other_weights_place_a_random_walker_better(step_um, z_score, texture):
    """Errors of the place where the weighted response of a moving Gaussian is greatest, by its slopes."""
    observer = _observer(_left(step_um), texture)
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(0, step_um, (40_000, 2, REACH, 3)), axis=2)
    path = np.stack(
        [np.zeros((40_000, 3)) if not lag else walk[:, int(lag < 0), abs(lag) - 1] for lag in LAGS], 1
    )
    peak = np.exp(-np.sum(path**2 / (4 * SIGMA_UM**2), axis=2, keepdims=True))
    slope = path / (2 * SIGMA_UM**2) * peak
    steep = peak * (1 - path**2 / (2 * SIGMA_UM**2)) / (2 * SIGMA_UM**2)  # how a shift now changes the slope
    alone = z_score * observer.relative_detectability(GROUPS) / np.sqrt(FIT_LOSS)
    still, new = rng.normal(0, 1, (2, *path.shape)) / np.sqrt(2) / SIGMA_UM / alone
    still[:] = still[:, :1]
    slope += (np.sqrt(texture) * still + new) / np.sqrt(1 + texture)
    groups, curve = np.einsum("gl,nla->nga", MEAN, slope), MEAN @ steep.mean(axis=0)

    def error(weights: np.ndarray) -> float:
        found = np.einsum("g,nga->na", weights, groups) / (weights @ curve)
        return float(np.sqrt(np.mean(np.sum(found**2, axis=1))))

    mine = localisation_weights(observer, GROUPS, z_score, SIGMA_UM)
    best = min(minimize(error, start, method="Nelder-Mead").fun for start in (mine, [1.0, 0, 0, 0]))
    assert error(mine) < 1.015 * best
    assert error(mine) <= error(np.array([1.0, 0, 0, 0])) * 1.001


def test_particles_that_rest_are_seen_alike_in_all_frames():
    found = localisation_weights(_observer(np.ones(REACH + 1)), GROUPS, 5.0, SIGMA_UM)
    assert found == pytest.approx([len(group) / len(LAGS) for group in GROUPS.lags])


def test_bright_fast_particles_are_where_the_frame_itself_shows_them():
    found = localisation_weights(_observer(_left(0.5)), GROUPS, 100.0, SIGMA_UM)
    assert found == pytest.approx([1, 0, 0, 0], abs=0.02)


def test_texture_that_stays_is_subtracted():
    found = localisation_weights(_observer(_left(0.3), texture=20.0), GROUPS, 4.0, SIGMA_UM)
    assert found[0] > 1
    assert found[-1] < -0.4


@pytest.mark.parametrize("exists", [range(9), range(4, 9), [4, 5, 8], [4]])
def test_particles_keep_their_height_wherever_frames_are_missing(exists):
    groups = TimeGroups.around(REACH, exists, REACH)
    observer = _observer(_left(0.15), texture=1.0)
    found = localisation_weights(observer, groups, 5.0, SIGMA_UM)
    assert found @ observer.group_persistence(groups) == pytest.approx(1)
