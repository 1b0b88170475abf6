"""Otsu against scikit-image, bimodality against known mixtures, noise tails against known distributions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from spatialdino_core.segment.believe.bimodality import bimodality
from spatialdino_core.segment.believe.tail import NoiseTail, noise_tail

EDGES = np.linspace(0, 1, 257)


def _verdict(sample):
    return bimodality(np.histogram(sample, EDGES)[0].astype(float), EDGES)


def test_threshold_is_otsus():
    rng = np.random.default_rng(0)
    sample = np.concatenate([rng.normal(0.3, 0.1, 90_000), rng.normal(0.65, 0.1, 30_000)])
    counts = np.histogram(sample, EDGES)[0].astype(float)
    expected = threshold_otsu(hist=(counts, (EDGES[1:] + EDGES[:-1]) / 2))
    assert bimodality(counts, EDGES).threshold == pytest.approx(expected, abs=1.01 / 256)


def test_ashman_d_of_two_normals():
    rng = np.random.default_rng(1)
    sample = np.concatenate([rng.normal(0.25, 0.05, 50_000), rng.normal(0.7, 0.1, 20_000)])
    verdict = _verdict(sample)
    assert verdict.bimodal
    assert verdict.ashman_d == pytest.approx(np.sqrt(2) * 0.45 / np.hypot(0.05, 0.1), rel=0.05)
    assert verdict.valley < 0.1


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.normal(0.5, 0.1, 100_000),
        lambda rng: rng.random(100_000),
        lambda rng: rng.exponential(0.08, 100_000),
        lambda rng: np.full(1000, 0.3),
    ],
    ids=["normal", "uniform", "exponential", "constant"],
)
def test_one_population_is_not_split(draw):
    assert not _verdict(draw(np.random.default_rng(2))).bimodal


def test_rare_confident_foreground_is_found():
    rng = np.random.default_rng(3)
    sample = np.concatenate([rng.beta(1, 30, 99_000), rng.beta(30, 2, 1000)])
    verdict = _verdict(sample)
    assert verdict.bimodal
    assert 0.15 < verdict.threshold < 0.85


def test_tail_extrapolates_beyond_what_was_seen():
    """Maxima with P(>u) = exp(-u²/2): the true rate at any u is known."""
    rng = np.random.default_rng(4)
    per_frame, frames = 5000, 4
    dark = np.sqrt(2 * rng.exponential(size=per_frame * frames))
    tail = noise_tail(dark, np.sqrt(2 * rng.exponential(size=per_frame * frames)), frames, frames)
    for rate in (10.0, 1.0, 0.05):
        assert tail.threshold(rate) == pytest.approx(np.sqrt(2 * np.log(per_frame / rate)), abs=0.15)
        assert tail.rate(tail.threshold(rate)) == pytest.approx(rate, rel=0.05)


def test_skewed_noise_raises_the_threshold():
    """Bright maxima in excess by exp(γ (u³ - 3u) / 3), γ = 0.03, as Poisson noise makes them."""
    rng = np.random.default_rng(5)
    dark = np.sqrt(4 + 2 * rng.exponential(size=40_000))
    parent = np.sqrt(4 + 2 * rng.exponential(size=4_000_000))
    parent = parent[parent < 6]
    weight = np.exp(0.03 * (parent**3 - 3 * parent) / 3)
    bright = rng.choice(parent, int(40_000 * weight.mean()), p=weight / weight.sum())
    tail = noise_tail(dark, bright, 8, 8)
    assert tail.skew == pytest.approx(0.03, abs=0.01)
    assert tail.rate(tail.threshold(1.0)) == pytest.approx(1.0, rel=0.05)
    symmetric = replace(tail, skew=0.0)
    assert np.sum(bright > tail.threshold(1.0)) / 8 < 3 < np.sum(bright > symmetric.threshold(1.0)) / 8


def test_a_lower_rate_never_lowers_the_threshold():
    rng = np.random.default_rng(6)
    dark = np.sqrt(2 * rng.exponential(size=3000))
    tail = noise_tail(dark, dark, 1, 1)
    thresholds = [tail.threshold(rate) for rate in np.geomspace(1000, 1e-6, 30)]
    assert (np.diff(thresholds) >= 0).all()


def test_the_expansion_ends_where_it_would_turn():
    """Far out the cubic term of skewness would make noise brighter without end, and endless numbers."""
    tail = NoiseTail(3.0, rate_per_frame=80.0, decay=3.0, skew=0.05, skew_error=0.005, maxima=4000)
    rates = [tail.rate(z) for z in np.geomspace(3, 1000, 50)]
    assert (np.diff(rates) <= 0).all()
    assert rates[-1] == 0


def test_the_rate_is_as_uncertain_as_it_says():
    """Against the scatter over movies of the same kind."""
    fitted = []
    for seed in range(60):
        rng = np.random.default_rng(100 + seed)
        dark, bright = (np.sqrt(2 * rng.exponential(size=20_000)) for _ in range(2))
        tail = noise_tail(dark, bright, 4, 4)
        fitted.append((np.log(tail.rate(4.0)), tail.relative_error(np.array(4.0))))
    scatter, claimed = np.std([rate for rate, _ in fitted]), np.mean([error for _, error in fitted])
    # Skewness is never negative, so half of its scatter is not seen.
    assert 0.4 * claimed < scatter < 1.3 * claimed
