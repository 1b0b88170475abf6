"""Measures of frames whose background, noise, sharpness and damage are known."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from spatialdino_core.quality.metrics import frame_metrics
from spatialdino_core.quality.parameters import QualityParameters
from spatialdino_core.quality.pictures import (
    GAP_PIXELS,
    grey,
    grey_range,
    max_projection,
    middle_plane,
    tiled,
)
from spatialdino_core.quality.verdict import judge

OFFSET, NOISE = 110.3, 4.2


def camera(signal, noise=NOISE, seed=0):
    values = OFFSET + signal + np.random.default_rng(seed).normal(0, noise, signal.shape)
    return np.rint(values).clip(0, 65535).astype(np.uint16)


def spots(sigma, shape=(10, 96, 96), number=200, height=60.0):
    rng = np.random.default_rng(1)
    points = np.zeros(shape)
    points[tuple(rng.integers(0, n, number) for n in shape)] = 1
    image = np.stack([gaussian_filter(plane, sigma) for plane in points])
    return image * height / image.max()


@pytest.fixture(scope="module")
def frame():
    return camera(spots(1.3))


def test_background_noise_and_snr(frame):
    found = frame_metrics(frame)
    assert found.background == pytest.approx(OFFSET, abs=0.15 * NOISE)
    assert found.noise == pytest.approx(NOISE, rel=0.05)
    assert found.snr == pytest.approx((np.quantile(frame, 0.9999) - OFFSET) / NOISE, rel=0.07)
    assert (found.lowest, found.highest) == (frame.min(), frame.max())
    for percent in (1, 50, 99):
        expected = np.percentile(frame, percent, method="inverted_cdf")
        assert asdict(found)[f"percentile_{percent}"] == expected


def test_noise_is_measured_in_fractions_of_a_count():
    for noise in (1.7, 2.3, 2.9, 11.0):
        assert frame_metrics(camera(np.zeros((6, 90, 90)), noise)).noise == pytest.approx(noise, rel=0.06)


def test_damage_is_counted_and_does_not_spoil_the_other_measures(frame):
    clean = frame_metrics(frame)
    damaged = np.concatenate([frame, frame[-1:], frame[-1:], np.zeros((3, *frame.shape[1:]), np.uint16)])
    found = frame_metrics(damaged)
    assert (found.empty_planes, found.repeated_planes) == (3, 2)
    assert (clean.empty_planes, clean.repeated_planes) == (0, 0)
    assert found.background == pytest.approx(clean.background, abs=0.3)
    assert found.noise == pytest.approx(clean.noise, rel=0.02)
    assert found.focus == pytest.approx(clean.focus, rel=0.1)
    assert found.lowest == 0


def test_saturation_knows_the_full_scale_of_smaller_cameras(frame):
    twelve_bit = np.minimum(frame.astype(np.uint32) * 40, 4095).astype(np.uint16)
    assert frame_metrics(twelve_bit).saturated_fraction == pytest.approx((twelve_bit == 4095).mean())
    assert (twelve_bit == 4095).any()
    assert frame_metrics(frame).saturated_fraction == 0
    overexposed = frame.copy()
    overexposed[0, 0, :50] = 65535
    assert frame_metrics(overexposed).saturated_fraction == pytest.approx(50 / frame.size)


def test_focus_of_gaussian_spots_is_the_analytic_value():
    """Spots of standard deviation s, less their blur by 4 pixels: three Gaussians make up the autocovariance,
    of variances 2 s², 2 s² + 4² and 2 s² + 2 · 4²."""

    def covariance(lag, sigma):
        variances = 2 * sigma**2 + np.array([0.0, 16.0, 32.0])
        return (np.array([1, -2, 1]) / variances * np.exp(-(lag**2) / (2 * variances))).sum()

    for sigma in (1.0, 1.4, 2.0):
        expected = 1 - covariance(2, sigma) / covariance(1, sigma)
        found = frame_metrics(camera(spots(sigma, number=60, height=5000)))
        assert found.focus == pytest.approx(expected, rel=0.03)


def test_focus_falls_with_blur_and_ignores_brightness_and_white_noise():
    scores = [frame_metrics(camera(spots(sigma))).focus for sigma in (1.0, 1.6, 2.4, 4.0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 3 * scores[2]
    bright = frame_metrics(camera(spots(1.3, height=600))).focus
    dim = frame_metrics(camera(spots(1.3, height=25))).focus
    assert dim == pytest.approx(bright, rel=0.2)
    assert frame_metrics(camera(np.zeros((10, 96, 96)))).focus == 0


def test_other_types_are_rounded_to_counts(frame):
    shifted, whole = frame_metrics(frame.astype(np.float32) + 0.2), frame_metrics(frame)
    assert (shifted.background, shifted.noise, shifted.snr) == (whole.background, whole.noise, whole.snr)
    eight_bit = (frame // 2).astype(np.uint8)
    assert frame_metrics(eight_bit) == frame_metrics(eight_bit.astype(np.uint16))


def test_frames_without_content_are_measured_and_rejected():
    for empty in (np.zeros((3, 8, 8), np.uint16), np.full((3, 8, 8), 100, np.uint16)):
        found = frame_metrics(empty)
        assert np.isfinite(list(asdict(found).values())).all()
        assert found.snr == found.focus == 0
        assert judge(asdict(found), QualityParameters()).word == "reject"


def test_normal_frames_pass(frame, real_data):
    import tifffile

    assert judge(asdict(frame_metrics(frame)), QualityParameters()).word == "accept"
    cell = frame_metrics(tifffile.imread(real_data / "llsm_cell" / "raw_skewed.tif"))
    assert judge(asdict(cell), QualityParameters(min_focus=0.1)).word == "accept"
    assert cell.background == pytest.approx(98, abs=1.5)


def test_signal_is_the_contrast_without_the_noise():
    """Gaussian spots of standard deviation s: the autocovariance at distance d is V exp(−d² / 4 s²), and the
    product of differences over 1 and 4 pixels has the mean 2 C(1) − C(3) − C(5)."""
    spread = 1.4
    truth = spots(spread, shape=(12, 128, 128), number=150, height=80.0)
    variance = np.mean(truth**2) - np.mean(truth) ** 2
    shares = 2 * np.exp(-1 / 4 / spread**2) - np.exp(-9 / 4 / spread**2) - np.exp(-25 / 4 / spread**2)
    for noise in (0.5, 4.0, 12.0):
        assert frame_metrics(camera(truth, noise)).signal == pytest.approx(
            np.sqrt(variance * shares), rel=0.04
        )


FEW_SPOTS = spots(1.4, shape=(6, 96, 96), number=60, height=200.0)


@given(
    factor=st.floats(0.2, 20), offset=st.floats(300, 5000), slope=st.floats(-2, 2), seed=st.integers(0, 1000)
)
@settings(max_examples=15, deadline=None)
def test_signal_is_proportional_to_brightness_and_ignores_what_is_no_detail(factor, offset, slope, seed):
    truth = FEW_SPOTS
    ramp = offset + slope * np.arange(96)[:, None]
    plain = frame_metrics(camera(truth, 2.0, seed)).signal
    values = truth * factor + ramp + np.random.default_rng(seed).normal(0, 2.0, truth.shape)
    found = frame_metrics(np.rint(values).clip(0, 65535).astype(np.uint16)).signal
    # A ramp over 4 pixels adds (4 slope)² to the variance: the slow background of a real cell is far less.
    assert found == pytest.approx(np.hypot(plain * factor, 4 * slope / np.sqrt(2)), rel=0.08)


def test_noise_has_no_signal():
    rng = np.random.default_rng(3)
    found = [frame_metrics(camera(np.zeros((4, 64, 64)), 5.0, seed)).signal for seed in range(60)]
    assert not any(found)
    shot = 100 + 2 * rng.poisson(8, (8, 96, 96)) + rng.normal(0, 3, (8, 96, 96))
    assert frame_metrics(np.rint(shot).clip(0).astype(np.uint16)).signal == 0


@given(gain=st.floats(0.7, 4), photons=st.floats(2, 200), read=st.floats(1, 3), offset=st.floats(60, 2000))
@settings(max_examples=40, deadline=None)
def test_background_and_noise_of_a_camera(gain, photons, read, offset):
    """offset + gain (Poisson(photons) + Normal(0, read)): its mean and standard deviation are known."""
    rng = np.random.default_rng(0)
    values = offset + gain * (rng.poisson(photons, (6, 80, 80)) + rng.normal(0, read, (6, 80, 80)))
    found = frame_metrics(np.rint(values).clip(0, 65535).astype(np.uint16))
    truth = np.sqrt(gain**2 * (photons + read**2) + 1 / 12)
    assert found.noise == pytest.approx(truth, rel=0.12)
    assert found.background == pytest.approx(offset + gain * photons, abs=0.6 * truth)


@given(value=st.integers(0, 65535), planes=st.integers(1, 5), y=st.integers(1, 9), x=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_a_constant_frame_is_empty_planes_and_no_signal(value, planes, y, x):
    found = frame_metrics(np.full((planes, y, x), value, np.uint16))
    assert (found.empty_planes, found.repeated_planes) == (planes, 0)
    assert found.snr == found.signal == found.focus == 0
    assert np.isfinite(list(asdict(found).values())).all()
    assert (found.lowest, found.highest) == (value, value)


def test_a_saturated_frame_is_rejected_as_saturated():
    found = frame_metrics(np.full((3, 8, 8), 65535, np.uint16))
    assert found.saturated_fraction == 1
    assert "100.00% of voxels are saturated" in "; ".join(judge(asdict(found), QualityParameters()).reasons)


def test_projection_shows_the_brightest_voxel_of_each_column(frame):
    assert np.array_equal(max_projection(frame), frame.max(0))
    assert np.array_equal(middle_plane(frame), frame[5])


def test_grey_runs_from_black_to_white_in_order(frame):
    image = max_projection(frame)
    picture = grey(image, grey_range(image))
    assert picture.dtype == np.uint8
    assert (picture.min(), picture.max()) == (0, 255)
    order = np.argsort(image.ravel(), kind="stable")
    assert (np.diff(picture.ravel()[order].astype(int)) >= 0).all()
    assert 0 < (picture == 255).mean() < 0.01


def test_projection_keeps_a_single_voxel_of_a_large_picture_visible():
    stack = np.full((2, 1201, 900), 100, np.uint16)
    stack[1, 700:706, 451:457] = 1000
    picture = max_projection(stack)
    assert max(picture.shape) <= 400
    assert picture[700 // 4, 451 // 4] == 1000
    assert np.median(picture) == 100


def test_panels_stand_in_rows_and_columns():
    panels = [[np.full((4, 5), 10 * r + c + 1, np.uint8) for c in range(3)] for r in range(2)]
    sheet = tiled(panels)
    assert sheet.shape == (2 * 4 + GAP_PIXELS, 3 * 5 + 2 * GAP_PIXELS)
    for r in range(2):
        for c in range(3):
            top, left = r * (4 + GAP_PIXELS), c * (5 + GAP_PIXELS)
            assert (sheet[top : top + 4, left : left + 5] == 10 * r + c + 1).all()


@pytest.mark.parametrize(("top", "step"), [(300, 1), (4000, 1), (4000, 16), (16383 * 3, 1), (16383 * 3, 16)])
def test_clipped_voxels_pile_up_at_any_value(top, step):
    bright = camera(20 * spots(1.3, number=400))
    scaled = np.rint(bright * (top / 300)).astype(np.int64)
    clipped = (np.minimum(scaled, top) // step * step).astype(np.uint16)
    share = (clipped == clipped.max()).mean()
    assert share > 0.001
    assert frame_metrics(clipped).saturated_fraction == pytest.approx(share)


@pytest.mark.parametrize(
    "kind", ["camera", "8 bit", "multiples of 16", "even", "flat", "two values", "few photons", "constant"]
)
def test_ordinary_counts_pile_up_nowhere(frame, kind):
    rng = np.random.default_rng(8)
    stacks = {
        "camera": frame,
        "8 bit": np.rint((frame.astype(float) - frame.min()) * 250 / np.ptp(frame)),
        "multiples of 16": frame * 16,
        "even": frame // 2 * 2,
        "flat": rng.integers(90, 200, frame.shape),
        "two values": rng.integers(100, 102, frame.shape),
        "few photons": rng.poisson(0.5, frame.shape),
        "constant": np.full(frame.shape, 300),
    }
    assert frame_metrics(stacks[kind].astype(np.uint16)).saturated_fraction == 0
