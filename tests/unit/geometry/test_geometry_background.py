"""Background and exact histograms against NumPy and known distributions."""

import numpy as np
import pytest

from spatialdino_core.geometry.background import estimate_background, histogram_quantile, intensity_histogram


def camera(seed, offset, sigma, signal_fraction, shape=(12, 64, 80)):
    rng = np.random.default_rng(seed)
    image = rng.normal(offset, sigma, shape)
    lit = rng.random(shape) < signal_fraction
    image[lit] += rng.exponential(40 * sigma, lit.sum())
    return np.rint(image).clip(0, 65535).astype(np.uint16)


@pytest.mark.parametrize(("offset", "sigma"), [(98.4, 2.5), (110.0, 4.0), (1000.3, 25.0)])
@pytest.mark.parametrize("signal_fraction", [0.0, 0.05, 0.6])
def test_background_is_the_camera_offset(offset, sigma, signal_fraction):
    assert estimate_background(camera(0, offset, sigma, signal_fraction)) == pytest.approx(
        offset, abs=0.15 * sigma
    )


def test_empty_planes_padding_and_hot_pixels_do_not_move_it():
    frame = camera(1, 98.4, 4.0, 0.05)
    clean = estimate_background(frame)
    spoilt = np.concatenate([np.zeros((40, 64, 80), np.uint16), frame])
    spoilt[45, :10, :10] = 65535
    assert estimate_background(spoilt) == pytest.approx(clean, abs=0.1)


def test_degenerate_frames():
    assert estimate_background(np.zeros((2, 3, 4), np.uint16)) == 0
    assert estimate_background(np.full((2, 3, 4), 65535, np.uint16)) == 65535
    assert estimate_background(np.full((2, 3, 4), 1, np.uint16)) == 1


def test_histogram_counts_valid_voxels_in_any_partition():
    frame = camera(2, 50, 9, 0.1)
    valid = np.random.default_rng(3).random((12, 1, 80)) < 0.7
    chosen = frame[np.broadcast_to(valid, frame.shape)]
    whole = intensity_histogram(frame, valid)
    assert np.array_equal(whole, np.bincount(chosen, minlength=65536))
    assert np.array_equal(whole, intensity_histogram(chosen))
    assert np.array_equal(
        whole, sum(intensity_histogram(frame[i : i + 5], valid[i : i + 5]) for i in (0, 5, 10))
    )


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.25, 0.5, 0.999, 1.0])
def test_quantile_equals_numpy(fraction):
    frame = camera(4, 300, 30, 0.2)
    expected = np.quantile(frame, fraction, method="inverted_cdf")
    assert histogram_quantile(intensity_histogram(frame), fraction) == expected
