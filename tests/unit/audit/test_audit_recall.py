"""Matching, intervals and unfolding against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from spatialdino_core.audit.recall import GATE, binomial, found_of, unfolded

SIGMA = np.array([0.3, 0.1, 0.1])
NONE = np.empty((0, 3))


def test_each_particle_gets_its_own_detection() -> None:
    truth = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.25], [5.0, 5.0, 5.0]])
    detected = truth[[1, 0]] + 0.01
    assert found_of(truth, NONE, detected, SIGMA).tolist() == [1, 0, -1]


def test_what_the_movie_has_by_itself_is_not_taken_for_what_was_planted() -> None:
    truth, own = np.array([[1.0, 1.0, 1.0]]), np.array([[1.0, 1.0, 1.2]])
    assert found_of(truth, own, own, SIGMA).tolist() == [-1]
    assert found_of(truth, NONE, own, SIGMA).tolist() == [0]


def test_the_gate_is_in_standard_deviations_along_each_axis() -> None:
    truth = np.zeros((1, 3))
    for axis, sigma in enumerate(SIGMA):
        step = np.eye(3)[[axis]] * sigma
        assert found_of(truth, NONE, 0.99 * GATE * step, SIGMA).tolist() == [0]
        assert found_of(truth, NONE, 1.01 * GATE * step, SIGMA).tolist() == [-1]


def test_nothing_planted_or_found() -> None:
    assert found_of(NONE, NONE, NONE, SIGMA).tolist() == []
    assert found_of(np.zeros((2, 3)), NONE, NONE, SIGMA).tolist() == [-1, -1]


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """On average over shares, which is what Jeffreys' interval promises."""
    generator = np.random.default_rng(0)
    shares = generator.uniform(0, 1, 4000)
    rates = [binomial(int(generator.binomial(40, share)), 40) for share in shares]
    held = [rate.low <= share <= rate.high for rate, share in zip(rates, shares, strict=True)]
    assert np.mean(held) == pytest.approx(0.9, abs=0.02)
    assert binomial(0, 10).low == 0
    assert binomial(10, 10).high == 1


def test_of_nothing_no_share_is_known() -> None:
    rate = binomial(0, 0)
    assert np.isnan(rate.value)
    assert (rate.low, rate.high) == (0.0, 1.0)


def test_heights_are_unfolded_from_what_was_measured() -> None:
    """A step of detection at 2, noise of 0.5 in what is measured, false detections besides."""
    heights, edges = np.array([1.0, 2.0, 4.0]), np.linspace(0, 8, 33)
    seen = norm.sf(2.0, heights, 0.5)
    response = np.array([np.diff(norm.cdf(np.maximum(edges, 2.0), h, 0.5)) for h in heights])
    np.testing.assert_allclose(response.sum(axis=1), seen, atol=1e-3)
    number, false = np.array([0.0, 300.0, 100.0]), np.where((edges[:-1] > 2) & (edges[:-1] < 3), 5.0, 0.0)
    found = unfolded(number @ response + false, response, false)
    np.testing.assert_allclose(found[1:], number[1:], atol=12)
    # Of those of which one in forty is found, little is known; of what was found of them, all.
    assert found[0] * seen[0] < 1.5
    assert (found * seen).sum() == pytest.approx((number * seen).sum(), rel=0.01)
