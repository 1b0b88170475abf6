"""Tracking by the clock: uneven steps against Gaussians of known covariance and simulated particles of known
diffusion; frames that were left out make nothing happen.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal
from track_scenes import REGION, as_objects, link_f1

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.clock import Clock
from spatialdino_core.movies.record import Acquisition, MovieRecord
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.track.appearance import measured_brightness, prior_brightness
from spatialdino_core.track.candidates import MOST_NEIGHBOURS, next_frame_pairs
from spatialdino_core.track.drift import shared_change
from spatialdino_core.track.events import EVENT_COLUMNS
from spatialdino_core.track.filter import (
    DIRECTED,
    HYPOTHESES,
    RUN_V,
    STATE,
    WEIGHT,
    filter_tracks,
    initialise,
    predict,
)
from spatialdino_core.track.gaps import fill_gaps
from spatialdino_core.track.joins import Measurements
from spatialdino_core.track.link import TrackReport, link_objects
from spatialdino_core.track.links import Links, Model
from spatialdino_core.track.motion import fitted_model, prior_model
from spatialdino_core.track.objects import Objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.rates import first_rates
from spatialdino_core.track.stage import track_movie

PAUSE_S = np.array([0.0, 2, 4, 64, 66, 68])
LONG_PAUSE_S = np.r_[np.arange(0.0, 20, 2), np.arange(78.0, 98, 2)]
JITTER_S = np.r_[0, (2 * np.random.default_rng(5).lognormal(0, 0.7, 24)).cumsum()]
SLOWER_S = np.r_[np.arange(0.0, 26, 2), np.arange(34.0, 124, 10)]
UNEVEN_S = {"pause": PAUSE_S, "long": LONG_PAUSE_S, "jitter": JITTER_S, "slower": SLOWER_S}
DIFFUSION = 0.0016
"""µm²/s: 0.08 µm along an axis in 2 s."""


def brownian(
    times_s: np.ndarray, particles: int, seed: int = 0, diffusion: float = DIFFUSION
) -> pd.DataFrame:
    """Particles that diffuse between the walls of the region, measured to 20 nm, at times of any steps."""
    generator = np.random.default_rng(seed)
    size = np.array(REGION.size_um)
    place = generator.uniform(0, 1, (particles, 3)) * size
    path = [place]
    for step_s in np.diff(times_s):
        place = place + generator.normal(0, np.sqrt(2 * diffusion * step_s), (particles, 3))
        place = size - np.abs(size - np.abs(place))
        path.append(place)
    seen = np.array(path) + generator.normal(0, 0.02, (len(times_s), particles, 3))
    level = generator.lognormal(7, 0.4, particles) * generator.lognormal(0, 0.1, (len(times_s), particles))
    rows = [[t, p, *seen[t, p], level[t, p]] for t in range(len(times_s)) for p in range(particles)]
    return pd.DataFrame(rows, columns=["frame", "particle", "z_um", "y_um", "x_um", "intensity_sum"])


def link(
    truth: pd.DataFrame, times_s: np.ndarray, left_out: tuple[int, ...] = (), **changes: float
) -> tuple[pd.DataFrame, pd.DataFrame, TrackReport]:
    every = np.arange(len(times_s))
    clock = Clock(times_s, every[~np.isin(every, left_out)])
    seen = truth[~truth["frame"].isin(left_out)]
    return link_objects(as_objects(seen), clock, REGION, TrackParameters(**changes))  # type: ignore[arg-type]


def log_density(position: np.ndarray, times: np.ndarray, motion: list[float], noise: float = 0.05) -> float:
    previous = np.arange(len(times)) - 1
    variance = np.full((len(times), 3), noise**2)
    return float(filter_tracks(times, position, variance, previous, np.array(motion)).sum())


def gaussian(position: np.ndarray, covariance: np.ndarray, noise: float = 0.05) -> float:
    """Log-density of positions after the first, given the first with its error, per axis."""
    covariance = covariance[1:, 1:] + noise**2 * (np.eye(len(position) - 1) + 1)
    apart = position[1:] - position[0]
    return sum(multivariate_normal(np.zeros(len(apart)), covariance).logpdf(apart[:, a]) for a in range(3))


@pytest.mark.parametrize("steps", [[1, 1, 30, 1], [0.37, 1.9, 0.05, 4.4], [1, 1.5, 2.5, 0.5]])
def test_diffusion_spreads_with_time(steps: list[float]) -> None:
    times = np.r_[0, np.cumsum(steps)]
    position = np.random.default_rng(0).normal(0, 0.3, (5, 3))
    expected = gaussian(position, 0.2**2 * np.minimum.outer(times, times))
    assert log_density(position, times, [0.2**2, 0.04**2, 0.3**2, 0, 0, 0]) == pytest.approx(expected)


@pytest.mark.parametrize("steps", [[1, 1, 30, 1], [0.37, 1.9, 0.05, 4.4], [1, 1.5, 2.5, 0.5]])
def test_a_run_covers_its_velocity_for_all_of_the_time(steps: list[float]) -> None:
    times = np.r_[0, np.cumsum(steps)]
    position = np.outer(times, [0.3, -0.2, 0.25]) + np.random.default_rng(1).normal(0, 0.05, (5, 3))
    covariance = 0.3**2 * np.outer(times, times) + 0.04**2 * np.minimum.outer(times, times)
    found = log_density(position, times, [0.2**2, 0.04**2, 0.3**2, 0, 0, 1])
    assert found == pytest.approx(gaussian(position, covariance))


@pytest.mark.parametrize("time", [0.25, 1.0, 1.4, 7.0, 33.3, 400.0])
def test_a_motion_is_kept_for_a_geometric_time(time: float) -> None:
    """Of runners of whom nobody sets off again, (1 − p)^t still run."""
    motion = np.array([0.01, 0.01, 0.09, 0.0, 0.02, 0.0])
    state, ahead, hypotheses = np.empty(STATE), np.empty(STATE), np.empty(HYPOTHESES)
    initialise(state, np.zeros(3), np.full(3, 0.01), motion)
    state[DIRECTED] = 1.0
    state[RUN_V : RUN_V + 3] = 0.2
    predict(state, time, motion, ahead, hypotheses)
    assert hypotheses[1, WEIGHT] == pytest.approx(0.98**time)
    assert hypotheses[:, WEIGHT].sum() == pytest.approx(1)


@pytest.mark.parametrize("name", ["long", "jitter", "slower"])
def test_the_diffusion_of_simulated_particles_is_recovered(name: str) -> None:
    """To five standard errors, a variance of 3 n steps having the relative error √(2 / 3n)."""
    times_s = UNEVEN_S[name]
    particles = 150
    truth = brownian(times_s, particles, seed=3)
    usual_s = Clock(times_s, np.arange(len(times_s))).usual_s
    previous = np.maximum(np.arange(len(truth)) - particles, -1)
    place = truth[["z_um", "y_um", "x_um"]].to_numpy().copy(order="C")
    prior = prior_model(1.0, False)
    time = np.repeat(times_s / usual_s, particles)
    model = fitted_model(prior, prior, time, place, np.ones_like(place), previous)
    error = np.sqrt(2 / (3 * particles * (len(times_s) - 1)))
    # Beyond chance, little of the motion is taken for slow runs and for errors of localisation.
    assert model.brownian_um**2 / (2 * usual_s) == pytest.approx(DIFFUSION, rel=5 * error + 0.02)
    assert model.localisation_lateral == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("name", ["long", "jitter", "slower"])
def test_tracks_of_a_crowd_hold_over_uneven_steps(name: str) -> None:
    times_s = UNEVEN_S[name]
    truth = brownian(times_s, 200, seed=1)
    tracks, events, report = link(truth, times_s)
    assert link_f1(tracks, truth) >= 0.995
    assert report.tracks == 200
    assert len(events) == 0
    diffusion = report.model["motion"]["brownian_um"] ** 2 / (2 * np.median(np.diff(times_s)))
    assert diffusion == pytest.approx(DIFFUSION, rel=0.1)


def test_a_pause_in_a_short_movie() -> None:
    truth = brownian(PAUSE_S, 60)
    tracks, events, report = link(truth, PAUSE_S)
    assert link_f1(tracks, truth) >= 0.99
    assert (report.tracks, len(events)) == (60, 0)
    assert sorted(tracks["time_s"].unique()) == PAUSE_S.tolist()
    np.testing.assert_array_equal(tracks["time_s"], PAUSE_S[tracks["frame"]])


def test_runners_are_found_again_after_longer_steps() -> None:
    """As far as Δt times a speed, not √Δt: 0.8 µm in a usual step is in reach, 1.6 in a long one beyond."""
    times_s = np.r_[np.arange(0.0, 26, 2), np.arange(28.0, 40, 4)]
    generator = np.random.default_rng(8)
    # Opposite in pairs, or it would be a drift of the sample.
    heading = np.repeat(generator.normal(size=(6, 3)), 2, axis=0) * np.tile([[1], [-1]], (6, 1))
    heading *= 0.4 / np.linalg.norm(heading, axis=1, keepdims=True)
    start = generator.uniform(0, 60, (12, 3))
    rows = [
        [t, p, *(start[p] + heading[p] * s + generator.normal(0, 0.02, 3)), 1000.0 + p]
        for t, s in enumerate(times_s)
        for p in range(12)
    ]
    truth = pd.DataFrame(rows, columns=["frame", "particle", "z_um", "y_um", "x_um", "intensity_sum"])
    assert link_f1(link(truth, times_s)[0], truth) == 1.0


@pytest.mark.parametrize("left_out", [(0,), (19,), (8, 9, 10, 11, 12), (0, 1, 7, 9, 18, 19)])
def test_frames_that_were_left_out_make_nothing_happen(left_out: tuple[int, ...]) -> None:
    times_s = 2.0 * np.arange(20)
    truth = brownian(times_s, 60, seed=3)
    tracks, events, report = link(truth, times_s, left_out, max_gap_frames=1, border_um=0.0)
    assert len(events) == 0
    assert report.tracks == 60
    inner = [frame for frame in left_out if frame not in (0, 1, 18, 19)]
    first, last = (min(set(range(20)) - set(left_out)), max(set(range(20)) - set(left_out)))
    for _, track in tracks.groupby("track_id"):
        assert track["frame"].tolist() == list(range(first, last + 1))
        assert track.loc[track["gap"] == 1, "frame"].tolist() == inner
    gaps = tracks[tracks["gap"] == 1]
    assert (gaps["label"] == 0).all()
    np.testing.assert_array_equal(tracks["time_s"], 2.0 * tracks["frame"])
    # The bridge of a random walk of n steps has the variance n / 4 of a step in its middle.
    near = gaps.merge(truth, on="frame", suffixes=("", "_true"))
    axes = ["z_um", "y_um", "x_um"]
    apart = (near[axes].to_numpy() - near[[f"{axis}_true" for axis in axes]].to_numpy()) ** 2
    nearest = near.assign(far=np.sqrt(apart.sum(axis=1))).groupby(["track_id", "frame"])["far"].min()
    if len(nearest):
        assert np.median(nearest) < 0.08 * np.sqrt(3 * 6 / 4)
    # They are no missed detections and no time that a particle was not there.
    assert report.model["rates"]["detection"] > 0.99
    assert report.model["rates"]["survival"] > 0.99
    assert len(report.model["drift_um"]) == len(report.model["fading_log"]) == 20


def test_a_short_gap_beside_frames_that_were_left_out_is_closed() -> None:
    """Unseen once and left out five times: one frame of the longest gap, not six."""
    times_s = 2.0 * np.arange(20)
    truth = brownian(times_s, 60, seed=3)
    unseen = (truth["particle"] < 20) & (truth["frame"] == 13)
    tracks, events, report = link(truth[~unseen], times_s, (8, 9, 10, 11, 12), max_gap_frames=1)
    assert (report.tracks, report.gaps_closed, len(events)) == (60, 20, 0)
    assert (tracks.groupby("track_id")["frame"].count() == 20).all()
    assert report.model["rates"]["detection"] == pytest.approx(1 - 20 / (60 * 13), abs=0.01)


def test_an_observed_frame_without_objects_is_not_left_out() -> None:
    """What begins after an empty frame appears; after one that was left out it was there."""
    times_s = 2.0 * np.arange(12)
    truth = brownian(times_s, 40, seed=6).query("frame > 0")
    events = link(truth, times_s, border_um=0.0)[1]
    assert events["event"].tolist() == ["appearance"] * 40
    assert (events["frame"] == 1).all()
    assert len(link(truth, times_s, (0,), border_um=0.0)[1]) == 0


def test_events_keep_their_frame_and_time() -> None:
    times_s = np.r_[0.0, 1.9, 4, 6, 30, 32, 34, 36, 38, 40]
    truth = brownian(times_s, 40, seed=7)
    truth = truth[(truth["particle"] > 0) | truth["frame"].between(5, 7)]
    truth.loc[truth["particle"] == 0, ["z_um", "y_um", "x_um"]] = [4.0, 5.0, 6.0]
    events = link(truth, times_s, (2, 3), border_um=0.0)[1]
    assert list(events) == EVENT_COLUMNS
    assert events[["event", "frame", "time_s"]].to_numpy().tolist() == [
        ["appearance", 5, 32.0],
        ["disappearance", 7, 36.0],
    ]


@pytest.mark.parametrize("interval_s", [0.1, 1 / 3, 7.3])
def test_tracks_of_an_even_clock_do_not_depend_on_its_interval(interval_s: float) -> None:
    truth = brownian(np.arange(12.0), 60, diffusion=0.005)
    one = link(truth, np.arange(12.0))
    other = link(truth, np.full(12, interval_s).cumsum() - interval_s)
    for table, same in zip(one[:2], other[:2], strict=True):
        pd.testing.assert_frame_equal(
            table.drop(columns="time_s"), same.drop(columns="time_s"), check_exact=True
        )
    assert one[2] == other[2]


def test_a_gap_is_filled_by_the_times_of_its_frames() -> None:
    """Between frames at 0 and 10 intervals, measured alike, those at 1 and 8 lie 1/10 and 8/10 along."""
    clock = Clock(np.r_[np.arange(0.0, 6), 6.0, 13, 15, np.arange(16.0, 22)], np.r_[0:6, 8:15])
    truth = pd.DataFrame({"frame": clock.observed, "particle": 0, "intensity_sum": 100.0})
    position = np.where(truth["frame"] < 6, 3.0, 3.9)
    objects = Objects.of(as_objects(truth.assign(z_um=position, y_um=5.0, x_um=6.0)), clock)
    motion = replace(prior_model(1.0, False), directed_fraction=1e-9, redraw=1e-9, localisation_lateral=1e-3)
    motion = replace(motion, localisation_axial=1e-3)
    n = len(objects)
    light, rates = prior_brightness(objects.log_brightness, 1.0), first_rates(n, n, 100.0)
    model = Model(motion, rates, light, {}, np.zeros((n, 3)), np.zeros(n))
    links = Links(np.arange(n) - 1, np.append(np.arange(1, n), -1), np.zeros(n), np.ones(n))
    later, frame, found = fill_gaps(objects, links, model)
    assert (later.tolist(), frame.tolist()) == ([6, 6], [6, 7])
    np.testing.assert_allclose(found[:, 0], 3 + 0.9 * np.array([0.1, 0.8]), atol=2e-3)


def test_brightness_wanders_by_the_usual_interval() -> None:
    """Every other step is ten intervals long; its changes are no measure of one."""
    generator = np.random.default_rng(4)
    times = np.cumsum(np.tile([1.0, 1.0, 1.0, 10.0, 10.0], 8)) - 1
    wander = generator.normal(0, 0.05, (40, 100)) * np.sqrt(np.diff(times, prepend=-1))[:, None]
    brightness = wander.cumsum(axis=0) + generator.normal(0, 0.1, (40, 100))
    frame, previous = np.repeat(np.arange(40), 100), np.maximum(np.arange(4000) - 100, -1)
    nowhere = np.zeros((4000, 3))
    measured = Measurements(frame, times[frame], nowhere, nowhere, brightness.ravel())
    light = measured_brightness(prior_brightness(brightness.ravel(), 1.0), measured, previous)
    assert light.wander == pytest.approx(0.05, rel=0.25)
    assert light.noise == pytest.approx(0.1, rel=0.1)


def test_drift_goes_on_during_a_pause_and_bleaching_does_not() -> None:
    steps = np.array([1, 1, 1, 1, 12, 1, 1, 1.0])
    generator = np.random.default_rng(0)
    frame = np.repeat(np.arange(1, 8), 60)
    drift = shared_change(frame, generator.normal(0.1 * steps[frame], 0.05)[:, None], steps)[:, 0]
    np.testing.assert_allclose(drift, 0.1 * np.r_[0, steps[1:].cumsum()], atol=0.08)
    fading = shared_change(frame, generator.normal(-0.1, 0.05, 420)[:, None], np.ones(8))[:, 0]
    np.testing.assert_allclose(fading, -0.1 * np.arange(8), atol=0.03)


def test_steady_drift_is_told_by_few_links_of_each_frame() -> None:
    """Too few to see it frame by frame: in proportion to steps of 1 and 4 it is seen all the same."""
    steps = np.tile([1.0, 4.0], 30)
    frame = np.repeat(np.arange(1, 60), 5)
    change = 0.1 * steps[frame] + np.random.default_rng(1).normal(0, 0.02, len(frame))
    found = shared_change(frame, change[:, None], steps)[:, 0]
    np.testing.assert_allclose(np.diff(found), 0.1 * steps[1:], atol=0.01)


def test_a_long_pause_in_a_large_crowd_stays_cheap() -> None:
    """An hour, in which everybody could be anywhere: no link, and some hundred candidates for each."""
    times_s = np.r_[np.arange(0.0, 8, 2), np.arange(3608.0, 3616, 2)]
    truth = brownian(times_s, 600, seed=2)
    report = link(truth, times_s)[2]
    assert report.tracks > 1000
    objects = Objects.of(as_objects(truth), Clock(times_s, np.arange(8)))
    pairs = next_frame_pairs(objects, objects.position_um, 1.0)
    assert (np.diff(pairs.starts)[objects.frame == 3]).max() < 3 * MOST_NEIGHBOURS


def test_objects_in_a_frame_that_was_left_out_are_refused() -> None:
    truth = brownian(np.arange(4.0), 5)
    clock = Clock.even(4, left_out=[2])
    with pytest.raises(BadInputError, match="frames that were left out, first in frame 2"):
        link_objects(as_objects(truth), clock, REGION, TrackParameters())


def test_the_stage_knows_what_segmentation_did_not_finish(tmp_path: Path) -> None:
    """Left out by the register (0), or found bad later (4): neither is in the record of labels."""
    times_s = [0.0, 2, 4, 64, 66, 68]
    truth = brownian(np.array(times_s), 20).query("frame not in [0, 4]")
    as_objects(truth).to_parquet(tmp_path / "objects.parquet")
    done = dict.fromkeys([1, 2, 3, 5], "sum")
    StageRecord(stores=[], checksums=done, skipped={4: "zeros"}, about={}).write(tmp_path / "labels.json")
    scan = Acquisition(
        scan="none",
        angle_deg=None,
        step_um=0.2,
        pixel_um=0.1,
        interval_s=2.0,
        skew_axis=None,
        scan_sign=1,
    )
    record = MovieRecord(
        movie="cell",
        channels=["488nm"],
        paths=["raw"],
        train=False,
        acquisition=scan,
        frames=6,
        shape_zyx=(41, 101, 121),
        times_s=times_s,
        skipped={0: "truncated"},
    )
    files = [tmp_path / name for name in ("labels.json", "objects.parquet", "t.csv", "e.csv", "about.json")]
    track_movie(record, *files, TrackParameters(border_um=0.0))
    tracks, events = pd.read_csv(tmp_path / "t.csv"), pd.read_csv(tmp_path / "e.csv")
    assert len(events) == 0
    assert tracks.groupby("track_id")["frame"].agg(list).tolist() == [[1, 2, 3, 4, 5]] * 20
    assert sorted(tracks["time_s"].unique()) == [2, 4, 64, 66, 68]
