"""Motion against Einstein's 6 D t, straight lines, and loops that anyone can check."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spatialdino_core.report.motion import (
    displacements_um,
    fit_diffusion,
    mean_squared_displacement,
    track_lengths,
)


def table(paths_um: np.ndarray, interval_s: float = 1.0) -> pd.DataFrame:
    """Tracks from paths (tracks, frames, 3)."""
    tracks, frames, _ = paths_um.shape
    rows = pd.DataFrame(paths_um.reshape(-1, 3), columns=["z_um", "y_um", "x_um"])
    rows["track_id"] = np.repeat(np.arange(tracks), frames)
    rows["frame"] = np.tile(np.arange(frames), tracks)
    rows["time_s"] = interval_s * rows["frame"]
    rows["gap"] = 0
    return rows


def brownian(diffusion: float, interval_s: float, tracks: int = 400, frames: int = 60) -> np.ndarray:
    steps = np.random.default_rng(1).normal(0, np.sqrt(2 * diffusion * interval_s), (tracks, frames, 3))
    return np.cumsum(steps, axis=1)


def test_brownian_motion_spreads_as_6dt() -> None:
    diffusion, interval_s = 0.02, 1.5
    msd = mean_squared_displacement(
        table(brownian(diffusion, interval_s), interval_s), interval_s, most_lags=20
    )
    expected = 6 * diffusion * msd.lag * interval_s
    assert list(msd.lag) == list(range(1, 21))
    assert list(msd.pairs) == [400 * (60 - lag) for lag in range(1, 21)]
    np.testing.assert_allclose(msd.msd_um2, expected, rtol=0.08)
    np.testing.assert_allclose(msd.msd_um2[:5], expected[:5], rtol=0.03)
    fit = fit_diffusion(msd)
    assert fit is not None
    assert fit.coefficient_um2_per_s == pytest.approx(diffusion, rel=0.04)
    assert fit.exponent == pytest.approx(1, abs=0.03)
    assert abs(fit.offset_um2) < 0.05 * 6 * diffusion * interval_s


def test_in_a_plane_the_same_spread_needs_a_larger_coefficient() -> None:
    msd = mean_squared_displacement(table(brownian(0.02, 1.0)), 1.0)
    in_space, in_plane = fit_diffusion(msd), fit_diffusion(msd, dimensions=2)
    assert in_space is not None
    assert in_plane is not None
    assert in_plane.coefficient_um2_per_s == pytest.approx(1.5 * in_space.coefficient_um2_per_s)


def test_localisation_error_goes_to_the_offset_not_to_diffusion() -> None:
    """Independent errors of standard deviation s per axis add 6 s² to every lag (Michalet 2010)."""
    error = 0.1
    paths = brownian(0.02, 1.0) + np.random.default_rng(2).normal(0, error, (400, 60, 3))
    fit = fit_diffusion(mean_squared_displacement(table(paths), 1.0))
    assert fit is not None
    assert fit.coefficient_um2_per_s == pytest.approx(0.02, rel=0.06)
    assert fit.offset_um2 == pytest.approx(6 * error**2, rel=0.15)


def test_directed_motion_has_slope_two() -> None:
    velocity = np.array([0.1, -0.2, 0.2])
    paths = np.arange(30)[None, :, None] * velocity + np.random.default_rng(3).uniform(0, 9, (20, 1, 3))
    msd = mean_squared_displacement(table(paths, 2.0), 2.0)
    np.testing.assert_allclose(msd.msd_um2, (velocity @ velocity) * msd.lag**2)
    fit = fit_diffusion(msd)
    assert fit is not None
    assert fit.exponent == pytest.approx(2)


def test_every_pair_counts_once_whatever_the_gaps_order_and_identifiers() -> None:
    rng = np.random.default_rng(4)
    rows = table(rng.normal(size=(7, 12, 3)))
    rows["track_id"] = rows["track_id"] * 1000 - 17
    rows["gap"] = (rng.random(len(rows)) < 0.2).astype(int)
    rows = rows[rng.random(len(rows)) < 0.8].sample(frac=1, random_state=0, ignore_index=True)
    msd = mean_squared_displacement(rows, 1.0, most_lags=11)
    measured = rows[rows["gap"] == 0]
    for lag, value, pairs in zip(msd.lag, msd.msd_um2, msd.pairs, strict=True):
        squares = [
            sum((getattr(a, axis) - getattr(b, axis)) ** 2 for axis in ("z_um", "y_um", "x_um"))
            for a in measured.itertuples()
            for b in measured.itertuples()
            if a.track_id == b.track_id and b.frame - a.frame == lag
        ]
        assert pairs == len(squares)
        assert value == pytest.approx(np.mean(squares))
    assert len(msd.lag) >= 4
    assert len(msd.lag) < 11, "lags with fewer than ten pairs are left out"


def test_a_gap_is_no_step() -> None:
    rows = table(np.cumsum(np.ones((1, 5, 3)), axis=1))
    rows.loc[2, "gap"] = 1
    assert len(displacements_um(rows)) == 2
    np.testing.assert_array_equal(displacements_um(rows, 2), np.full((1, 3), 2.0))


def test_lengths_count_the_frames_of_a_gap() -> None:
    rows = table(np.zeros((2, 5, 3))).drop([2, 9])
    np.testing.assert_array_equal(track_lengths(rows), [5, 4])


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_too_few_lags_are_not_fitted(frames: int) -> None:
    msd = mean_squared_displacement(table(brownian(0.02, 1.0, 30, frames)), 1.0)
    assert len(msd.lag) == frames - 1
    assert fit_diffusion(msd) is None


def test_nothing_from_no_track() -> None:
    empty = table(np.zeros((0, 5, 3)))
    assert len(mean_squared_displacement(empty, 1.0).lag) == 0
    assert displacements_um(empty).shape == (0, 3)
    assert fit_diffusion(mean_squared_displacement(table(np.zeros((5, 20, 3))), 1.0)) is None


PAUSE_S = np.array([0.0, 2, 4, 64, 66, 68])
LONG_PAUSE_S = np.r_[np.arange(0.0, 20, 2), np.arange(78.0, 98, 2)]
JITTER_S = np.r_[0, (2 * np.random.default_rng(5).lognormal(0, 0.7, 24)).cumsum()]
SLOWER_S = np.r_[np.arange(0.0, 26, 2), np.arange(34.0, 124, 10)]


@pytest.mark.parametrize("times_s", [PAUSE_S, LONG_PAUSE_S, JITTER_S, SLOWER_S])
@pytest.mark.parametrize("error_um", [0.0, 0.05])
def test_diffusion_is_that_of_the_clock(times_s: np.ndarray, error_um: float) -> None:
    """Known D at uneven times, a pause among them; the offset takes up the error of localisation."""
    rng = np.random.default_rng(7)
    spread = np.sqrt(2 * 0.004 * np.diff(times_s, prepend=0))
    steps = rng.normal(0, 1, (400, len(times_s), 3)) * spread[:, None]
    rows = table(steps.cumsum(axis=1) + rng.normal(0, error_um, steps.shape))
    rows["time_s"] = times_s[rows["frame"]]
    msd = mean_squared_displacement(rows, 2.0)
    np.testing.assert_allclose(msd.msd_um2, 6 * 0.004 * msd.time_s + 6 * error_um**2, rtol=0.15)
    fit = fit_diffusion(msd)
    assert fit is not None
    assert fit.coefficient_um2_per_s == pytest.approx(0.004, rel=0.06)


def test_pairs_are_taken_together_by_the_time_between_them() -> None:
    """Frames at 0, 1, 2, 12 and 13 s: three pairs a second apart, two 11 s, two 12 s."""
    rows = table(np.random.default_rng(8).normal(size=(10, 5, 3)))
    rows["time_s"] = np.array([0.0, 1, 2, 12, 13])[rows["frame"]]
    msd = mean_squared_displacement(rows, 1.0)
    assert msd.time_s.tolist() == [1, 2, 10, 11, 12, 13]
    assert msd.pairs.tolist() == [30, 10, 10, 20, 20, 10]
    assert len(mean_squared_displacement(rows, 1.0, most_lags=10).lag) == 3
