"""The clock of a movie: even ones stay even, uneven ones are named, impossible ones refused."""

from __future__ import annotations

import numpy as np
import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.clock import Clock
from spatialdino_core.movies.record import Acquisition, MovieRecord


def record(times_s: list[float], skipped: dict[int, str] | None = None) -> MovieRecord:
    scan = Acquisition(
        scan="none",
        angle_deg=None,
        step_um=0.25,
        pixel_um=0.1,
        interval_s=2.0,
        skew_axis=None,
        scan_sign=1,
    )
    return MovieRecord(
        movie="cell",
        channels=["488nm"],
        paths=["raw"],
        train=False,
        acquisition=scan,
        frames=len(times_s) or 1,
        times_s=times_s,
        skipped=skipped or {},
    )


@pytest.mark.parametrize("interval_s", [0.1, 1 / 3, 2.345678, 1e-3, 3600.7])
def test_an_even_clock_counts_frames_exactly(interval_s: float) -> None:
    """A third of a second is no binary fraction, and sums of it are not its multiples."""
    for times_s in (interval_s * np.arange(500), np.full(500, interval_s).cumsum() - interval_s):
        clock = Clock.of(record(times_s.tolist()))
        np.testing.assert_array_equal(clock.times, np.arange(500.0))
        assert clock.usual_s == pytest.approx(interval_s)
        assert clock.unevenness() == ""


def test_a_pause_is_named() -> None:
    clock = Clock.of(record([0, 2, 4, 64, 66, 68]))
    assert clock.unevenness() == "uneven clock: steps from 2 to 60 s, usual 2 s"
    assert clock.times.tolist() == [0, 1, 2, 32, 33, 34]


def test_the_jitter_of_a_good_microscope_is_not_uneven() -> None:
    assert Clock.of(record([0, 2.003, 3.998, 6.001, 8.02])).unevenness() == ""
    assert Clock.of(record([0, 2, 4, 6.3, 8.3])).unevenness() != ""


def test_left_out_frames_have_a_time_but_are_not_observed() -> None:
    clock = Clock.of(record([0, 2, 4, 6], skipped={1: "truncated"}))
    assert clock.observed.tolist() == [0, 2, 3]
    assert clock.times.tolist() == [0, 1, 2, 3]
    assert Clock.of(
        record([0, 2, 4, 6], skipped={1: "truncated"}), {3: "sum", 0: "sum"}
    ).observed.tolist() == [0, 3]


def test_one_frame_is_at_zero() -> None:
    clock = Clock.of(record([]))
    assert clock.times_s.tolist() == [0.0]
    assert clock.unevenness() == ""


@pytest.mark.parametrize("times_s", [[0.0, 2.0, 1.0], [0.0, 2.0, 2.0], [0.0, 2.0, float("nan")]])
def test_a_clock_that_stands_still_or_goes_back_is_refused(times_s: list[float]) -> None:
    with pytest.raises(BadInputError, match=r"frame 2: found the time .* after 2 s"):
        Clock.of(record(times_s))
