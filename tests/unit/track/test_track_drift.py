"""Drift, jumps and bleaching of a whole movie: found where they are, and only there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from track_scenes import as_objects, link, link_f1, movie

from spatialdino_core.movies.clock import Clock
from spatialdino_core.track.drift import sample_jumps, shared_change
from spatialdino_core.track.objects import Objects


def test_a_shared_step_of_one_frame_is_found() -> None:
    generator = np.random.default_rng(0)
    frame = np.repeat(np.arange(1, 10), 50)
    steps = generator.normal(0, 0.1, (450, 3))
    steps[frame == 4] += [0.0, 0.3, 0.0]
    found = shared_change(frame, steps, np.ones(10))
    np.testing.assert_allclose(found[:4], 0)
    np.testing.assert_allclose(found[4:], np.tile([0, 0.3, 0], (6, 1)), atol=0.06)


def test_chance_is_no_drift() -> None:
    steps = np.random.default_rng(1).normal(0, 0.1, (450, 3))
    np.testing.assert_array_equal(shared_change(np.repeat(np.arange(1, 10), 50), steps, np.ones(10)), 0)


def test_a_few_particles_are_no_sample() -> None:
    np.testing.assert_array_equal(shared_change(np.arange(1, 7), np.ones((6, 3)), np.ones(10)), 0)


def with_jump(distance: float, frame: int = 6) -> pd.DataFrame:
    truth = movie(step=0.08)
    truth.loc[truth["frame"] >= frame, "y_um"] += distance
    return truth


def test_a_jump_beyond_the_reach_is_found_and_undone() -> None:
    truth = with_jump(3.0)
    found = sample_jumps(Objects.of(as_objects(truth), Clock.even(12)), 1.0)
    np.testing.assert_allclose(found[:6], 0)
    np.testing.assert_allclose(found[6:], np.tile([0, 3.0, 0], (6, 1)), atol=0.06)
    tracks, _, report = link(truth)
    assert link_f1(tracks, truth) >= 0.99
    np.testing.assert_allclose(np.array(report.model["drift_um"])[6:, 1], 3.0, atol=0.06)
    # Positions are published where they were measured.
    assert set(tracks["y_um"].round(9)) == set(truth["y_um"].round(9))


def test_a_jump_farther_than_anything_is_looked_for_breaks_tracks_without_failing() -> None:
    tracks, _, report = link(with_jump(30.0))
    assert report.tracks >= 120
    assert tracks.groupby("track_id")["frame"].agg(np.ptp).max() <= 6


def test_steady_drift_is_removed_and_recorded() -> None:
    truth = movie(step=0.05)
    truth["x_um"] += 0.3 * truth["frame"]
    tracks, _, report = link(truth)
    assert link_f1(tracks, truth) >= 0.99
    np.testing.assert_allclose(np.array(report.model["drift_um"])[:, 2], 0.3 * np.arange(12), atol=0.1)


def test_bleaching_is_measured_and_links_hold() -> None:
    truth = movie(step=0.12, particles=80)
    truth["intensity_sum"] *= np.exp(-0.15 * truth["frame"])
    tracks, _, report = link(truth)
    assert link_f1(tracks, truth) >= 0.97
    assert report.model["fading_log"][-1] == pytest.approx(-0.15 * 11, abs=0.15)
