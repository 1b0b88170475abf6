"""Measures of frames whose background, noise, sharpness and damage are known."""

from dataclasses import asdict

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from spatialdino_core.quality.metrics import frame_metrics
from spatialdino_core.quality.parameters import QualityParameters
from spatialdino_core.quality.preview import max_projection
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
        assert not judge(asdict(found), QualityParameters()).accept


def test_normal_frames_pass_and_noise_does_not(frame, real_data):
    import tifffile

    assert judge(asdict(frame_metrics(frame)), QualityParameters()).accept
    noise = judge(asdict(frame_metrics(camera(np.zeros((10, 96, 96))))), QualityParameters())
    assert not noise.accept
    assert "SNR" in noise.reasons[0]
    cell = frame_metrics(tifffile.imread(real_data / "llsm_cell" / "raw_skewed.tif"))
    assert judge(asdict(cell), QualityParameters(min_focus=0.1)).accept
    assert cell.background == pytest.approx(98, abs=1.5)


@pytest.mark.parametrize(
    ("measure", "bad", "limit"),
    [
        ("snr", 4.9, {"min_snr": 5.0}),
        ("saturated_fraction", 0.02, {"max_saturated_fraction": 0.01}),
        ("empty_planes", 3, {"max_empty_planes": 2}),
        ("repeated_planes", 3, {"max_repeated_planes": 2}),
        ("focus", 0.1, {"min_focus": 0.2}),
    ],
)
def test_each_limit_rejects_for_its_own_reason(frame, measure, bad, limit):
    lenient = {"min_snr": 0, "max_saturated_fraction": 1, "max_empty_planes": 99, "max_repeated_planes": 99}
    measures = asdict(frame_metrics(frame)) | {measure: bad}
    verdict = judge(measures, QualityParameters(**(lenient | limit)))
    assert not verdict.accept
    assert len(verdict.reasons) == 1
    assert judge(measures, QualityParameters(**lenient)).accept


def test_projection_shows_the_brightest_voxel_of_each_column(frame):
    picture = max_projection(frame)
    assert picture.dtype == np.uint8
    assert picture.shape == frame.shape[1:]
    flat = frame.max(0).ravel()
    order = np.argsort(flat, kind="stable")
    assert (np.diff(picture.ravel()[order].astype(int)) >= 0).all()
    assert picture.max() == 255
    assert picture.min() == 0


def test_projection_keeps_a_single_voxel_of_a_large_picture_visible():
    stack = np.full((2, 1201, 900), 100, np.uint16)
    stack[1, 700:706, 451:457] = 1000
    picture = max_projection(stack)
    assert max(picture.shape) <= 400
    assert picture[700 // 4, 451 // 4] == 255
    assert np.median(picture) == 0
