"""Confidences against mixtures whose truth is known; promises on pure noise; the foreground as evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from spatialdino_core.segment.believe.evidence import (
    RARE_PER_FRAME,
    Evidence,
    Maxima,
    _operating_point,
    _without_texture,
    fit_evidence,
)

PER_FRAME = 4000
FRAMES = 5
NONE = np.empty(0)


def noise_z(rng: np.random.Generator, count: int) -> np.ndarray:
    """Maxima with P(> u) = exp(-u²/2), the tail of a Gaussian field."""
    return np.sqrt(2 * rng.exponential(size=count))


@dataclass
class Mixture:
    """Z-scores, foreground probabilities and truth of bright maxima; z-scores of dark ones."""

    z_score: np.ndarray
    is_particle: np.ndarray
    dark: np.ndarray


def mixture(seed: int, *, particles: int = 100, mean_z: float = 4.2, frames: int = FRAMES) -> Mixture:
    rng = np.random.default_rng(seed)
    noise = noise_z(rng, PER_FRAME * frames)
    seen = rng.normal(mean_z, 0.8, particles * frames)
    return Mixture(
        np.concatenate([noise, seen]),
        np.arange(len(noise) + len(seen)) >= len(noise),
        noise_z(rng, PER_FRAME * frames),
    )


def learn(
    made: Mixture,
    foreground: np.ndarray = NONE,
    *,
    accepted: float | None = None,
    weight: float = 1.0,
) -> Evidence:
    return fit_evidence(
        Maxima(made.z_score, foreground),
        Maxima(made.dark, NONE),
        FRAMES,
        FRAMES,
        false_positives_per_frame=accepted,
        foreground_weight=weight,
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("particles", [40, 150])
def test_confidence_is_the_share_of_particles(seed, particles):
    """Learned on five frames, judged on forty others."""
    evidence = learn(mixture(seed, particles=particles))
    fresh = mixture(1000 + seed, particles=particles, frames=40)
    confidence = evidence.confidence(fresh.z_score, NONE)
    for low, high in [(0.1, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.95), (0.95, 1.0)]:
        rows = (confidence >= low) & (confidence < high)
        if rows.sum() > 100:
            assert fresh.is_particle[rows].mean() == pytest.approx(confidence[rows].mean(), abs=0.15)
    accepted = confidence > 0.3
    assert fresh.is_particle[accepted].mean() == pytest.approx(confidence[accepted].mean(), abs=0.06)
    assert (np.diff(confidence[np.argsort(fresh.z_score)]) >= 0).all()


@pytest.mark.parametrize("mean_z", [3.6, 4.2, 5.5, 9.0])
def test_the_threshold_is_nearly_the_best_in_hindsight_and_its_score_as_expected(mean_z):
    lost, surprise = [], []
    for seed in range(6):
        evidence = learn(mixture(seed, mean_z=mean_z))
        fresh = mixture(1000 + seed, mean_z=mean_z, frames=20)
        hits = np.cumsum(fresh.is_particle[np.argsort(-fresh.z_score)])
        f1 = 2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])
        found = evidence.confidence(fresh.z_score, NONE) >= evidence.threshold
        true = np.sum(found & fresh.is_particle)
        mine = 2 * true / (found.sum() + hits[-1])
        lost.append(f1.max() - mine)
        expected = evidence.expected_f1, evidence.expected_precision, evidence.expected_recall
        surprise.append(np.subtract(expected, (mine, true / found.sum(), true / hits[-1])))
    assert max(lost) < 0.03
    # Recall is that among maxima: too high where many particles lie below the tail of noise, too low where
    # a few chance maxima that the tail does not explain count as particles.
    assert (np.abs(np.mean(surprise, axis=0)) < [0.08, 0.04, 0.15]).all()


def test_pure_noise_has_no_particles():
    """Hardly a detection in any of thirty movies; the tail's own uncertainty is not taken for particles."""
    found = []
    for seed in range(30):
        evidence = learn(mixture(seed, particles=0))
        assert evidence.expected_f1 == 0
        fresh = mixture(2000 + seed, particles=0, frames=20)
        found.append(np.sum(evidence.confidence(fresh.z_score, NONE) >= evidence.threshold) / 20)
    assert np.mean(found) < 2 * RARE_PER_FRAME
    assert max(found) < 1


def test_a_very_bright_maximum_is_detected_even_where_calibration_saw_none():
    evidence = learn(mixture(3, particles=0))
    assert evidence.confidence(np.array([12.0, 3.0]), NONE).tolist() == [0.5, 0.0]
    assert evidence.threshold <= 0.5


@pytest.mark.parametrize("accepted", [1.0, 5.0, 20.0])
def test_accepted_false_positives_are_kept_beside_particles(accepted):
    found = []
    for seed in range(4):
        evidence = learn(mixture(seed), accepted=accepted)
        fresh = mixture(1000 + seed, frames=40)
        positive = evidence.confidence(fresh.z_score, NONE) >= evidence.threshold
        found.append(np.sum(positive & ~fresh.is_particle) / 40)
    assert accepted / 2 < np.mean(found) < 2 * accepted


@pytest.mark.parametrize("accepted", [0.2, 5.0, 900.0])
def test_accepted_false_positives_are_not_exceeded_in_pure_noise(accepted):
    found = []
    for seed in range(10):
        evidence = learn(mixture(seed, particles=0), accepted=accepted)
        fresh = mixture(1000 + seed, particles=0, frames=10)
        found.append(np.sum(evidence.confidence(fresh.z_score, NONE) >= evidence.threshold) / 10)
    assert np.mean(found) < 2 * accepted


@pytest.mark.parametrize("accepted", [None, 1000.0])
def test_maxima_below_the_tail_are_never_accepted(accepted):
    """There the noise is not known: thousands of dim maxima must not slip through a low threshold."""
    made = mixture(5, particles=2000, mean_z=5.0)
    evidence = learn(made, accepted=accepted)
    below = np.linspace(2, evidence.tail.start_z - 0.01, 50)
    assert (evidence.confidence(below, NONE) == 0).all()
    assert evidence.threshold > 0


def _foreground(rng: np.random.Generator, is_particle: np.ndarray, shift: float) -> np.ndarray:
    return np.clip(rng.normal(0.4, 0.12, len(is_particle)) + shift * is_particle, 0, 1)


def test_informative_foreground_raises_and_lowers_by_its_likelihood_ratio():
    made = mixture(11, particles=200, mean_z=3.8)
    shift, spread = 0.24, 0.12
    value = _foreground(np.random.default_rng(0), made.is_particle, shift)
    alone, together = learn(made), learn(made, value)
    assert together.expected_f1 > alone.expected_f1 + 0.02
    z_score = np.full(3, 3.9)
    base = alone.confidence(z_score, NONE)[0]
    at = np.array([0.35, 0.52, 0.66])
    odds = base / (1 - base) * np.exp((shift * (at - 0.4) - shift**2 / 2) / spread**2)
    truth = odds / (1 + odds)
    found = together.confidence(z_score, at)
    # Both kinds are known by their confidence only, so the ratio is a cautious one.
    assert truth[0] - 0.05 < found[0] < base - 0.1
    assert base + 0.02 < found[2] < truth[2] + 0.05


def test_uninformative_foreground_says_nothing():
    for seed in range(5):
        made = mixture(20 + seed, particles=200)
        value = _foreground(np.random.default_rng(seed), made.is_particle, 0.0)
        evidence = learn(made, value)
        assert np.abs(evidence.log_ratios).max() < 0.5
        assert evidence.expected_f1 == pytest.approx(learn(made).expected_f1, abs=0.03)


def test_foreground_that_follows_brightness_misleads_little():
    """It is higher on brighter maxima of either kind, and knows nothing else of particles."""
    made = mixture(31, particles=200, mean_z=5.0)
    value = 0.1 * made.z_score + np.random.default_rng(3).normal(0, 0.1, len(made.z_score))
    evidence = learn(made, value)
    fresh = mixture(1031, particles=200, mean_z=5.0, frames=40)
    other = 0.1 * fresh.z_score + np.random.default_rng(4).normal(0, 0.1, len(fresh.z_score))
    confidence = evidence.confidence(fresh.z_score, other)
    for low, high in [(0.2, 0.5), (0.5, 0.8), (0.8, 0.95)]:
        rows = (confidence >= low) & (confidence < high)
        assert fresh.is_particle[rows].mean() == pytest.approx(confidence[rows].mean(), abs=0.2)


def test_the_weight_of_the_foreground_can_be_nothing():
    made = mixture(12, particles=200)
    value = _foreground(np.random.default_rng(1), made.is_particle, 0.3)
    evidence = learn(made, value, weight=0.0)
    assert evidence.foregrounds == []
    assert evidence == learn(made)


@pytest.mark.parametrize("seed", range(5))
def test_the_cut_has_the_greatest_expected_f1(seed):
    """Against trying every threshold."""
    confidence = np.round(np.random.default_rng(seed).beta(0.5, 1.5, 300), 2)
    threshold, f1, precision, recall = _operating_point(confidence, 1.0, None)
    tried = []
    for cut in np.unique(confidence):
        taken = confidence[confidence >= cut]
        tried.append(
            (
                2 * taken.sum() / (len(taken) + confidence.sum()),
                taken.mean(),
                taken.sum() / confidence.sum(),
                cut,
            )
        )
    best = max(tried)
    assert (f1, precision, recall, threshold) == pytest.approx(best)


@pytest.mark.parametrize("accepted", [0.5, 3.0, 40.0, 1e6])
def test_the_cut_accepts_no_more_false_positives_than_asked(accepted):
    """Also where many maxima share one confidence, and none without any."""
    confidence = np.concatenate([np.full(20, 0.99), np.full(30, 0.8), np.full(100, 0.5), np.zeros(50)])
    threshold, *_ = _operating_point(confidence, 2.0, accepted)
    expected = {0.5: 0.99, 3.0: 0.99, 40.0: 0.5, 1e6: 0.5}
    assert threshold == expected[accepted]
    taken = confidence[confidence >= threshold]
    assert np.sum(1 - taken) <= 2 * accepted


def textured(seed: int, *, particles: int, frames: int = FRAMES) -> Mixture:
    """Noise, texture that makes a few maxima more than noise lets expect, and far brighter particles."""
    rng = np.random.default_rng(seed)
    noise = noise_z(rng, PER_FRAME * frames)
    texture = 3.9 + rng.exponential(0.5, 8 * frames)
    seen = rng.lognormal(np.log(30), 0.3, particles * frames)
    return Mixture(
        np.concatenate([noise, texture, seen]),
        np.arange(len(noise) + len(texture) + len(seen)) >= len(noise) + len(texture),
        noise_z(rng, PER_FRAME * frames),
    )


@pytest.mark.parametrize(("particles", "least"), [(10, 0.98), (40, 0.9)])
def test_texture_far_below_the_particles_is_not_taken_for_dim_ones(particles, least):
    precision = []
    for seed in range(6):
        evidence = learn(textured(seed, particles=particles))
        fresh = textured(1000 + seed, particles=particles, frames=20)
        confidence = evidence.confidence(fresh.z_score, NONE)
        assert (confidence[fresh.is_particle] > 0.9).mean() > 0.95
        assert confidence[~fresh.is_particle].sum() < 0.3 * fresh.is_particle.sum()
        precision.append(fresh.is_particle[confidence >= evidence.threshold].mean())
    assert np.mean(precision) > least


def test_a_gap_may_lie_within_the_last_unsure_bin():
    """Ten of the twenty dimmest maxima are too many; all 22 spread over 16 steps of z-score leave one."""
    share, count = np.array([0.5, 0.6, 0.99, 0.99]), np.full(4, 20.0)
    lowered = _without_texture(share, count, np.array([4.0, 4.5, 20.0, 24.0, 30.0]))
    assert lowered == pytest.approx([(10 + 12) / 16 * 0.5 / 20, 0.6, 0.99, 0.99], abs=1e-3)
    level = np.array([4.0, 4.5, 5.0, 5.5, 6.2])
    assert _without_texture(share, count, level).tolist() == share.tolist()


def test_particles_that_are_the_more_frequent_the_dimmer_they_are_stay():
    """No gap parts them from noise: their confidence is as it would be without bright ones."""
    for seed in range(4):
        rng = np.random.default_rng(seed)

        def made(frames: int, rng: np.random.Generator = rng) -> Mixture:
            noise, seen = noise_z(rng, PER_FRAME * frames), 3 + rng.exponential(4.0, 100 * frames)
            kind = np.arange(len(noise) + len(seen)) >= len(noise)
            return Mixture(np.concatenate([noise, seen]), kind, noise_z(rng, PER_FRAME * frames))

        evidence, fresh = learn(made(FRAMES)), made(40)
        confidence = evidence.confidence(fresh.z_score, NONE)
        rows = (confidence >= 0.3) & (confidence < 0.9)
        assert fresh.is_particle[rows].mean() == pytest.approx(confidence[rows].mean(), abs=0.1)
