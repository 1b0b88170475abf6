"""The observer against closed forms: solved equations, known spectra of noise, known motion."""

from __future__ import annotations

import numpy as np
import pytest
import reference_filters as reference
from scipy import ndimage

from spatialdino_core.segment.detect.observer import Observer, TimeGroups, channel_covariance, persistence
from spatialdino_core.segment.optics import FACTORS, blob_signature

SIGMA = np.array([1.6, 1.25, 1.25])
CHANNELS = len(FACTORS)
SINGLE_FRAME = TimeGroups(((0,),))


def _random_observer(seed: int, lags: int) -> Observer:
    """Channels of random correlation, which decays with the lag: any such covariance is positive definite."""
    rng = np.random.default_rng(seed)
    root = rng.normal(0, 1, (CHANNELS, CHANNELS)) + 2 * np.eye(CHANNELS)
    one = root @ root.T * np.outer(*[rng.uniform(0.5, 20, CHANNELS)] * 2)
    covariance = np.array([one * 0.7**lag for lag in range(lags)])
    return Observer(covariance, persistence(0.3, lags - 1), rng.uniform(0.1, 1, (2, CHANNELS)))


def _whole(observer: Observer, groups: TimeGroups) -> tuple[np.ndarray, np.ndarray]:
    """Covariance and first signature of the groups' means, from those of every single frame."""
    lags = [lag for group in groups.lags for lag in group]
    frames = np.block([[observer.covariance[abs(a - b)] for b in lags] for a in lags])
    blob = np.concatenate([observer.persistence[abs(lag)] * observer.signatures[0] for lag in lags])
    mean = np.zeros((len(groups.lags), len(lags)))
    for row, group in enumerate(groups.lags):
        mean[row, [lags.index(lag) for lag in group]] = 1 / len(group)
    mean = np.kron(mean, np.eye(CHANNELS))
    return mean @ frames @ mean.T, mean @ blob


def _detectability(weights: np.ndarray, covariance: np.ndarray, blob: np.ndarray) -> float:
    return float(weights @ blob / np.sqrt(weights @ covariance @ weights))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "exists", [range(30), range(10, 15), [9, 10, 13, 17]], ids=["all", "start", "missing"]
)
def test_weights_solve_the_normal_equations_and_nothing_detects_better(seed, exists):
    observer = _random_observer(seed, 12)
    groups = TimeGroups.around(10, exists, 5)
    covariance, blob = _whole(observer, groups)
    weights = observer.weights(groups)
    assert weights.shape == (2, len(groups.lags), CHANNELS)
    mine = weights[0].ravel()
    best = np.sqrt(blob @ np.linalg.solve(covariance, blob))
    assert _detectability(mine, covariance, blob) == pytest.approx(best, rel=1e-3)
    assert mine @ blob / np.linalg.norm(mine) > 0
    rng = np.random.default_rng(seed)
    for _ in range(200):
        other = mine * (1 + rng.normal(0, 0.2, mine.shape))
        assert _detectability(other, covariance, blob) <= best * (1 + 1e-9)


def test_a_direction_that_the_movie_does_not_know_gets_no_absurd_weight():
    """Two channels that measure the same: without the ridge their difference would decide everything."""
    covariance = np.eye(CHANNELS)
    covariance[0, 1] = covariance[1, 0] = 1 - 1e-12
    signature = np.array([[1.0, 0.99, 0.5, 0.2]])
    weights = Observer(covariance[None], np.ones(1), signature).weights(SINGLE_FRAME)[0, 0]
    assert np.abs(weights).max() < 10
    assert np.isfinite(weights).all()


def test_groups_at_both_ends_and_around_missing_frames():
    assert TimeGroups.around(5, range(20), 4).lags == ((0,), (-1, 1), (-2, 2), (-4, -3, 3, 4))
    assert TimeGroups.around(0, range(20), 4).lags == ((0,), (1,), (2,), (3, 4))
    assert TimeGroups.around(19, range(20), 4).lags == ((0,), (-1,), (-2,), (-4, -3))
    assert TimeGroups.around(5, [1, 4, 5, 7, 9], 4).lags == ((0,), (-1,), (2,), (-4, 4))
    assert TimeGroups.around(5, [5], 4).lags == ((0,),)
    assert TimeGroups.around(5, range(20), 0).lags == ((0,),)


def test_persistence_is_the_mean_response_to_displaced_blobs():
    """A unit blob filtered with its own shape, moved by Gaussian steps: Monte Carlo."""
    rng = np.random.default_rng(0)
    rate, frames = 0.4, 3
    moved = rng.normal(
        0, np.sqrt(2 * rate * frames), (400_000, 3)
    )  # variance d² = 2 s² rate per frame, s = 1
    expected = np.exp(-np.sum(moved**2, axis=1) / 4).mean()
    assert persistence(rate, frames)[frames] == pytest.approx(expected, rel=0.01)
    assert persistence(rate, frames)[0] == 1
    assert len(persistence(rate, frames)) == frames + 1


def test_covariance_of_white_noise_is_that_of_the_kernels():
    """By Parseval: white noise of variance 9, filtered, has 9 Σ kernel × kernel."""
    shape = (64, 60, 60)
    kernel = reference.channels(_impulse(shape), SIGMA).reshape(CHANNELS, -1).astype(np.float64)
    expected = 9 * kernel @ kernel.T
    rng = np.random.default_rng(1)
    inner = tuple(slice(20, -20) for _ in range(3))
    frames = []
    for _ in range(12):
        noise = rng.normal(50, 3, shape).astype(np.float32)
        frames.append(reference.channels(noise - 50, SIGMA)[(slice(None), *inner)].reshape(CHANNELS, -1))
    found = channel_covariance(np.stack(frames), range(12))
    assert found.shape == (12, CHANNELS, CHANNELS)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.abs((found[0] - expected) / scale).max() < 0.1
    assert np.abs(found[1] / scale).max() < 0.1
    assert np.abs(found[0] - found[0].T).max() == 0


def _impulse(shape: tuple[int, int, int]) -> np.ndarray:
    impulse = np.zeros(shape, np.float32)
    impulse[tuple(n // 2 for n in shape)] = 1
    return impulse


def test_covariance_knows_what_stays_and_ignores_bright_particles():
    """Standing noise of variance 4, fresh noise of variance 1, 1 % bright outliers."""
    rng = np.random.default_rng(2)
    stays = rng.normal(0, 2, (1, CHANNELS, 20_000))
    responses = stays + rng.normal(0, 1, (6, CHANNELS, 20_000))
    responses[:, :, rng.random(20_000) < 0.01] += 60
    found = channel_covariance(responses, range(6))
    off = found[0] - np.diag(np.diag(found[0]))
    assert np.diag(found[0]) == pytest.approx(np.full(CHANNELS, 5), rel=0.05)
    assert np.abs(off).max() < 0.2
    for lag in range(1, 6):
        assert np.diag(found[lag]) == pytest.approx(np.full(CHANNELS, 4), rel=0.06)


def test_lags_are_those_of_the_frames_not_of_the_rows():
    """A random walk: the covariance falls with every frame that has passed, also those that are missing."""
    rng = np.random.default_rng(3)
    shared = rng.normal(0, 1, (12, CHANNELS, 20_000))
    walk = np.array([shared[t : t + 6].sum(axis=0) for t in range(7)])  # 6 - lag summands in common
    frames = [0, 1, 2, 5, 6]
    found = channel_covariance(walk[frames], frames)
    for lag in range(5):
        assert np.diag(found[lag]) == pytest.approx(np.full(CHANNELS, 6 - lag), abs=0.25)


def test_a_lag_that_no_pair_has_is_that_before():
    rng = np.random.default_rng(4)
    found = channel_covariance(rng.normal(0, 1, (3, CHANNELS, 500)), [0, 10, 20])
    assert np.array_equal(found[1], found[0])
    assert np.array_equal(found[2], found[0])


def test_in_white_noise_the_observer_is_nearly_the_matched_filter(spots):
    """No filter detects a blob of height a in white noise better than d' = a √(Σ blob²) / σ."""
    shape = (49, 51, 53)
    kernel = reference.channels(_impulse(shape), SIGMA).reshape(CHANNELS, -1).astype(np.float64)
    observer = Observer((kernel @ kernel.T)[None], np.ones(1), blob_signature(1.0, SIGMA)[None])
    blob = spots(shape, np.array([[24.0, 25.0, 26.0]]), 1.0, SIGMA).astype(np.float32)
    filtered = reference.response([blob], observer.weights(SINGLE_FRAME)[0], SIGMA)[24, 25, 26]
    spread = np.sqrt(
        np.sum(reference.response([_impulse(shape)], observer.weights(SINGLE_FRAME)[0], SIGMA) ** 2)
    )
    bound = np.sqrt(np.sum(blob.astype(np.float64) ** 2))
    # The channels see no constant, which costs a matched filter something, too.
    assert 0.9 * bound < filtered / spread < bound


def _texture_movie(rng: np.random.Generator, frames: int, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """Texture of the size of particles, ten times as strong as the noise, that stands still."""
    still = ndimage.gaussian_filter(rng.standard_normal(shape), SIGMA, mode="wrap")
    still *= 10 / still.std()
    return [(still + rng.normal(0, 1, shape)).astype(np.float32) for _ in range(frames)]


def _detectability_of_a_flash(observer: Observer, groups: TimeGroups, images: list[np.ndarray]) -> float:
    """d' of a particle that is gone in all other frames: its response over the spread of the background's."""
    weights = observer.weights(groups)[0]
    response = reference.response(images, weights, SIGMA)[15:-15, 15:-15, 15:-15]
    return float(weights[0] @ blob_signature(1.0, SIGMA) / response.std())


def test_texture_that_stands_still_is_subtracted():
    rng = np.random.default_rng(4)
    frames = _texture_movie(rng, 9, (50, 52, 54))
    inner = (slice(None), *[slice(15, -15)] * 3)
    sample = np.stack([reference.channels(f, SIGMA)[inner].reshape(CHANNELS, -1) for f in frames])
    observer = Observer(
        channel_covariance(sample, range(9)), persistence(2.0, 4), blob_signature(1.0, SIGMA)[None]
    )
    single = _detectability_of_a_flash(observer, SINGLE_FRAME, [frames[4]])
    groups = TimeGroups.around(4, range(9), 4)
    means = [np.mean([frames[4 + lag] for lag in group], axis=0) for group in groups.lags]
    together = _detectability_of_a_flash(observer, groups, means)
    assert together > 4 * single > 0


@pytest.mark.parametrize("exists", [range(9), range(4, 9), [4, 5, 8]])
def test_a_frame_has_its_share_of_what_all_groups_detect(exists):
    observer = _random_observer(5, 9)
    share = []
    for groups in (SINGLE_FRAME, TimeGroups.around(4, exists, 4)):
        covariance, blob = _whole(observer, groups)
        share.append(np.sqrt(blob @ np.linalg.solve(covariance, blob)))
    assert observer.relative_detectability(groups) == pytest.approx(share[0] / share[1], rel=1e-3)
    assert observer.relative_detectability(SINGLE_FRAME) == pytest.approx(1)
