"""Compiled Gaussians and second differences against scipy, with rows in rings."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from spatialdino_core.segment.detect.convolve import gaussian_weights, laplacian, smooth_rows, smooth_x

SHAPES = [(23, 7, 40), (3, 2, 1), (1, 1, 5), (50, 1, 8)]
SIGMAS = [0.1, 0.6, 1.0, 1.3, 2.2, 6.6]


def _volume(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 10, shape).astype(np.float32)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_weights_are_scipys(sigma):
    impulse = np.zeros(101)
    impulse[50] = 1
    expected = ndimage.gaussian_filter1d(impulse, sigma, truncate=4.0)
    weights = gaussian_weights(sigma)
    assert weights.dtype == np.float32
    assert weights == pytest.approx(expected[expected > 0], rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_smoothing_along_rows_is_scipys(shape, sigma):
    """In one go, and a few rows at a time from a ring that keeps no more than it must."""
    volume, weights = _volume(shape), gaussian_weights(sigma)
    expected = ndimage.gaussian_filter1d(volume, sigma, 0, mode="constant", truncate=4.0)
    whole = np.full(shape, np.nan, np.float32)
    smooth_rows(volume, whole, 0, len(volume), len(volume), weights)
    assert np.abs(whole - expected).max() < 1e-5
    reach, pieces = len(weights) // 2, np.full(shape, np.nan, np.float32)
    ring = np.zeros((2 * reach + 5, *shape[1:]), np.float32)
    edges = [0, *np.arange(2, len(volume), 5), len(volume)]
    taken = 0
    for first, stop in pairwise(edges):
        while taken < min(stop + reach, len(volume)):
            ring[taken % len(ring)] = volume[taken]
            taken += 1
        smooth_rows(ring, pieces, first, stop, len(volume), weights)
    assert np.array_equal(pieces, whole)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_smoothing_along_x_is_scipys(shape, sigma):
    plane = _volume(shape)[0]
    found = np.full(plane.shape, np.nan, np.float32)
    smooth_x(plane, found, gaussian_weights(sigma))
    expected = ndimage.gaussian_filter1d(plane, sigma, 1, mode="constant", truncate=4.0)
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_second_differences_are_scipys(shape):
    rows = _volume(shape)
    variance = np.array([0.4, 2.0, 3.0], np.float32)  # of z, y and x; rows lie along y
    expected = sum(
        variance[axis] * ndimage.convolve1d(rows, [-1.0, 2.0, -1.0], row, mode="constant")
        for axis, row in ((0, 1), (1, 0), (2, 2))
    )
    found = np.full(shape, np.nan, np.float32)
    for first in range(0, len(rows), 4):
        laplacian(rows, found, first, min(first + 4, len(rows)), len(rows), variance)
    assert np.abs(found - expected).max() < 1e-4
