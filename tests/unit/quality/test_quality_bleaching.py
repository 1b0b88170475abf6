"""Half-life and trend against known decays: exact ones, noisy ones, and simulated movies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatialdino_core.quality.bleaching import signal_trend
from spatialdino_core.quality.metrics import frame_metrics
from spatialdino_core.simulate.movie import simulate_movie
from spatialdino_core.simulate.parameters import AcquisitionParameters, MovieParameters, SceneParameters


@given(
    half_life_s=st.floats(0.5, 1e4),
    interval_s=st.floats(0.1, 60),
    start=st.floats(1e-2, 1e4),
    frames=st.lists(st.integers(1, 300), min_size=2, max_size=9, unique=True),
)
def test_an_exact_decay_gives_its_half_life_whatever_frames_are_looked_at(
    half_life_s: float, interval_s: float, start: float, frames: list[int]
) -> None:
    numbers = [0, *sorted(frames)]
    signals = [start * 2.0 ** (-n * interval_s / half_life_s) for n in numbers]
    if signals[2] < 1e-290:
        return
    trend = signal_trend(numbers, signals, [n * interval_s for n in numbers])
    assert trend.half_life_s == pytest.approx(half_life_s, rel=1e-6)
    assert trend.signal_slope_per_frame == pytest.approx(-np.log(2) * interval_s / half_life_s, rel=1e-6)
    assert trend.signal_change == pytest.approx(signals[-1] / start - 1)


@given(growth=st.floats(0, 0.1), start=st.floats(0.1, 1e3))
def test_a_steady_or_growing_signal_has_no_half_life(growth: float, start: float) -> None:
    frames = [0, 1, 5, 9, 20]
    trend = signal_trend(frames, [start * (1 + growth) ** n for n in frames], [2.0 * n for n in frames])
    assert trend.half_life_s is None
    assert trend.signal_slope_per_frame == pytest.approx(np.log1p(growth), abs=1e-9)


def test_scatter_is_taken_for_bleaching_as_rarely_as_the_level_says() -> None:
    rng = np.random.default_rng(0)
    frames = [0, 1, 25, 50, 75, 99]
    found = [
        signal_trend(frames, list(np.exp(rng.normal(0, 0.1, 6))), frames).half_life_s is not None
        for _ in range(4000)
    ]
    assert 0.005 < np.mean(found) < 0.016


def test_what_frames_cannot_tell_is_left_open() -> None:
    assert signal_trend([0], [5.0], [0]).signal_change is None
    two = signal_trend([0, 9], [5.0, 4.0], [0, 9])
    assert two.signal_change == pytest.approx(-0.2)
    assert two.half_life_s is two.signal_slope_per_frame is None
    assert signal_trend([0, 1, 9], [0.0, 5.0, 4.0], [0, 1, 9]).signal_change is None


def test_the_half_life_is_that_of_the_clock() -> None:
    """A decay over 90 s, with a pause of a minute after the third of six frames."""
    times_s = [0.0, 2.0, 4.0, 64.0, 66.0, 90.0]
    trend = signal_trend(range(6), [100 * 2 ** (-t / 30) for t in times_s], times_s)
    assert trend.half_life_s == pytest.approx(30)


def test_a_signal_that_is_gone_ends_the_fit() -> None:
    trend = signal_trend([0, 1, 2, 5, 9], [16.0, 8.0, 4.0, 0.0, 3.0], [0, 10, 20, 50, 90])
    assert trend.half_life_s == pytest.approx(10.0)


def test_a_signal_that_is_no_longer_noticed_has_lost_what_must_be_lost() -> None:
    frames, times = range(3), [0.0, 1.0, 2.0]
    assert signal_trend(frames, [10.0, 5.0, 0.0], times, 1.0).signal_change == pytest.approx(-0.9)
    assert signal_trend(frames, [1.2, 0.0, 0.0], times, 1.0).signal_change == pytest.approx(-1 / 6)
    assert signal_trend(frames, [0.9, 0.0, 0.0], times, 1.0).signal_change is None


@pytest.mark.parametrize("half_life_s", [20.0, 60.0, 150.0])
def test_the_half_life_of_simulated_movies(half_life_s: float) -> None:
    """Poisson and read noise, moving particles of sparse scenes: where a mean above the background fails."""
    scene = SceneParameters(frames=31, particles=25, snr=8.0, bleaching_half_life_s=half_life_s)
    acquisition = AcquisitionParameters(planes=20, rows=64, columns=72)
    movie = simulate_movie(MovieParameters(seed=4, scene=scene, acquisition=acquisition))
    frames = [0, 1, 8, 15, 22, 30]
    signals = [frame_metrics(movie.raw_frame(frame)).signal for frame in frames]
    assert signal_trend(frames, signals, [scene.interval_s * n for n in frames]).half_life_s == pytest.approx(
        half_life_s, rel=0.15
    )


def test_a_simulated_movie_that_does_not_bleach() -> None:
    scene = SceneParameters(frames=31, particles=25, snr=8.0)
    acquisition = AcquisitionParameters(planes=20, rows=64, columns=72)
    movie = simulate_movie(MovieParameters(seed=4, scene=scene, acquisition=acquisition))
    frames = [0, 1, 8, 15, 22, 30]
    signals = [frame_metrics(movie.raw_frame(frame)).signal for frame in frames]
    trend = signal_trend(frames, signals, [scene.interval_s * n for n in frames])
    assert trend.half_life_s is None
    assert trend.signal_change == pytest.approx(0, abs=0.12)
