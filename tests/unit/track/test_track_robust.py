"""Unusual movies: missing frames, missing values, false and missed detections. One clear behaviour each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from track_scenes import REGION, as_objects, link, link_f1, movie

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.clock import Clock
from spatialdino_core.track.link import link_objects
from spatialdino_core.track.objects import Objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.rates import counted_rates, first_rates, log_probabilities


def test_missing_time_points_use_up_no_memory_and_real_time_counts() -> None:
    """Particles run on through five frames that nobody recorded."""
    truth = movie(step=0.02, drift=0.12, frames=20)
    # Drift of single particles: they go in all directions.
    seen = truth[~truth["frame"].between(8, 12)].reset_index(drop=True)
    tracks, _, report = link(seen, frames=20)
    assert report.tracks == 60
    assert report.gaps_closed == 60
    bridge = tracks[tracks["gap"] == 1].merge(
        truth, left_on=["frame"], right_on=["frame"], suffixes=("", "_true")
    )
    near = np.abs(bridge["x_um"] - bridge["x_um_true"]) + np.abs(bridge["y_um"] - bridge["y_um_true"]) < 0.2
    assert bridge[near].groupby(["track_id", "frame"]).ngroups >= 0.95 * 300


def test_a_lone_particle_is_not_linked_over_a_long_blackout_of_many_frames_to_another_place() -> None:
    truth = movie(particles=1, step=0.02, frames=30)
    truth.loc[truth["frame"] >= 20, "x_um"] += 5.0
    seen = truth[(truth["frame"] < 8) | (truth["frame"] >= 20)]
    assert link(seen.reset_index(drop=True), frames=30)[2].tracks == 2


def test_dark_and_missing_brightness_is_no_evidence() -> None:
    truth = movie(step=0.1)
    truth.loc[::7, "intensity_sum"] = np.nan
    truth.loc[3::11, "intensity_sum"] = -5.0
    tracks = link(truth)[0]
    assert link_f1(tracks, truth) >= 0.97
    assert np.isfinite(tracks["link_cost"]).sum() > 0.9 * len(tracks)


@pytest.mark.parametrize("value", [500.0, np.nan])
def test_brightness_that_tells_nothing_links_like_none(value: float) -> None:
    truth = movie(step=0.15, particles=150)
    constant = truth.assign(intensity_sum=value)
    without = link(constant, intensity_weight=0.0)[0]
    pd.testing.assert_frame_equal(link(constant)[0], without)


def featured(noise: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    truth = movie(step=0.3, particles=250, seed=3).assign(intensity_sum=500.0)
    generator = np.random.default_rng(0)
    identity = generator.normal(size=(250, 8))
    vectors = identity[truth["particle"]] + noise * generator.normal(size=(len(truth), 8))
    names = [f"feature_{k:02d}" for k in range(8)]
    return truth, as_objects(truth).assign(**dict(zip(names, vectors.T, strict=True)))


def linked(objects: pd.DataFrame, **changes: float) -> tuple[pd.DataFrame, dict[str, float]]:
    tracks, _, report = link_objects(objects, Clock.even(12, 2.0), REGION, TrackParameters(**changes))
    return tracks, report.model["feature_likeness"]


def test_features_that_differ_help_and_their_scale_is_measured() -> None:
    truth, objects = featured(0.5)
    with_features, about = linked(objects)
    without, nothing = linked(objects, feature_weight=0.0)
    assert nothing == {}
    assert about["distance_linked"] < 0.4 * about["distance_others"]
    assert link_f1(with_features, truth) >= link_f1(without, truth) + 0.05
    assert link_f1(with_features, truth) >= 0.98


def test_features_that_are_constant_or_missing_change_nothing() -> None:
    _, objects = featured(0.5)
    names = [name for name in objects if name.startswith("feature_")]
    plain = linked(objects.drop(columns=names))[0]
    pd.testing.assert_frame_equal(linked(objects.assign(**dict.fromkeys(names, 1.0)))[0], plain)
    pd.testing.assert_frame_equal(linked(objects.assign(**dict.fromkeys(names, np.nan)))[0], plain)


def test_some_missing_features_do_not_spoil_the_others() -> None:
    truth, objects = featured(0.5)
    objects.loc[::5, "feature_03"] = np.nan
    assert link_f1(linked(objects)[0], truth) >= 0.97


def spoilt(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A tenth missed, as many false ones of a particle's brightness, and the truth of what was seen."""
    generator = np.random.default_rng(seed)
    truth = movie(step=0.08, particles=80, frames=20, seed=seed)
    truth = truth[generator.random(len(truth)) >= 0.1].reset_index(drop=True)
    false = pd.DataFrame(
        {
            "frame": generator.integers(0, 20, 160),
            "particle": -1 - np.arange(160),
            "z_um": generator.uniform(0, 8, 160),
            "y_um": generator.uniform(0, 10, 160),
            "x_um": generator.uniform(0, 12, 160),
            "intensity_sum": generator.choice(truth["intensity_sum"].to_numpy(), 160),
        }
    )
    return pd.concat([truth, false], ignore_index=True), truth


def test_false_detections_end_as_short_tracks_and_missed_ones_as_gaps() -> None:
    both, truth = spoilt()
    tracks, _, report = link(both, frames=20)
    named = tracks.merge(both[["frame", "x_um", "particle"]], on=["frame", "x_um"])
    lengths = named.groupby("track_id")["frame"].transform("count")
    assert (lengths[named["particle"] < 0] <= 2).mean() >= 0.9
    assert (lengths[named["particle"] >= 0] >= 10).mean() >= 0.9
    assert link_f1(tracks[tracks["gap"] == 0], truth) >= 0.9
    rates = report.model["rates"]
    assert rates["detection"] == pytest.approx(0.9, abs=0.03)
    assert rates["clutter_per_um3"] == pytest.approx(160 / 20 / REGION.volume_um3, rel=0.3)


def test_confident_detections_are_linked_rather_than_doubtful_ones() -> None:
    """Beside each particle lies a false detection; only the confidence tells them apart."""
    truth = movie(step=0.05, particles=40).assign(intensity_sum=500.0)
    generator = np.random.default_rng(5)
    false = truth.copy()
    false["particle"] = -1
    false[["z_um", "y_um", "x_um"]] += generator.normal(0, 0.15, (len(truth), 3))
    both = pd.concat([truth, false], ignore_index=True)
    confidence = np.where(both["particle"] >= 0, 0.97, 0.03)

    def right(objects: pd.DataFrame) -> float:
        tracks = link_objects(objects, Clock.even(12, 2.0), REGION, TrackParameters())[0]
        named = tracks.merge(both[["frame", "x_um", "particle"]], on=["frame", "x_um"])
        lengths = named.groupby("track_id")["frame"].transform("count")
        return float((named["particle"] >= 0)[lengths >= 6].mean())

    assert right(as_objects(both).assign(detection_confidence=confidence)) > right(as_objects(both))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("x_um", np.nan, "not finite"),
        ("frame", 12, "frames outside"),
        ("frame", -1, "frames outside"),
        ("label", 2, "label twice"),
    ],
)
def test_tables_that_make_no_sense_are_refused(column: str, value: float, message: str) -> None:
    objects = as_objects(movie(particles=5))
    objects.loc[0, column] = value
    with pytest.raises(BadInputError, match=message):
        link_objects(objects, Clock.even(12, 2.0), REGION, TrackParameters())


def test_empty_frames_at_both_ends() -> None:
    truth = movie(particles=10, step=0.05)
    inner = truth[truth["frame"].between(3, 8)].reset_index(drop=True)
    tracks, _, report = link(inner)
    assert report.tracks == 10
    assert (tracks["gap"] == 0).all()


def test_thousands_of_particles() -> None:
    generator = np.random.default_rng(0)
    start = generator.uniform(0, [40, 60, 60], (5000, 3))
    path = start + generator.normal(0, 0.08, (4, 5000, 3)).cumsum(axis=0)
    truth = pd.DataFrame(path.reshape(-1, 3), columns=["z_um", "y_um", "x_um"])
    truth = truth.assign(frame=np.repeat(np.arange(4), 5000), particle=np.tile(np.arange(5000), 4))
    assert link_f1(link(truth.assign(intensity_sum=100.0), frames=4)[0], truth) >= 0.99


@pytest.mark.parametrize(("confidence", "false"), [(None, 600), (0.1, 600), (0.98, 0)])
def test_rates_of_tracks_that_are_known(confidence: float | None, false: int) -> None:
    """Mean life 20 frames, seen 80 % of the time, known numbers of births and false detections.

    As many of the 600 objects that stay alone are ``false`` as their confidence allows.
    """
    generator = np.random.default_rng(1)
    rows, track = [], 0
    for birth in np.sort(generator.integers(-100, 200, 1500)):
        track += 1
        life = generator.geometric(1 / 20)
        for frame in range(max(birth, 0), min(birth + life, 200)):
            if generator.random() < 0.8:
                rows.append((frame, track))
    for frame in generator.integers(0, 200, 600):
        track += 1
        rows.append((frame, track))
    table = pd.DataFrame(rows, columns=["frame", "track"]).sort_values(["frame", "track"])
    for name in ("z_um", "y_um", "x_um", "intensity_sum"):
        table[name] = generator.random(len(table))
    table["label"] = table.groupby("frame").cumcount() + 1
    if confidence is not None:
        alone = table.groupby("track")["frame"].transform("size") == 1
        table["detection_confidence"] = np.where(alone, confidence, 0.98)
    objects = Objects.of(table, Clock.even(200))
    rates = counted_rates(objects, objects.table["track"].to_numpy(), 1000.0, 2)
    assert rates.survival == pytest.approx(0.95, abs=0.01)
    assert rates.detection == pytest.approx(0.8, abs=0.03)
    assert rates.births_per_um3 == pytest.approx(1000 / 200 / 1000, rel=0.15)
    assert rates.clutter_per_um3 == pytest.approx(false / 200 / 1000, rel=0.15, abs=2e-4)


def test_what_may_happen_after_an_object_adds_up_to_one() -> None:
    objects = Objects.of(as_objects(movie(particles=3)), Clock.even(12))
    log_probability = log_probabilities(objects, first_rates(36, 12, 960.0), 5)
    seen, unseen = np.exp(log_probability.seen), np.exp(log_probability.unseen)
    # Seen again first after 1 … 5 frames, or not at all until then.
    np.testing.assert_allclose(seen[:7].sum(axis=1) + unseen[:7, -1], 1)
    assert np.exp(log_probability.ending[-1]) == 1
    # From the first frame on: unseen for good is less likely than unseen for five frames.
    assert log_probability.ending[0] < log_probability.unseen[0, -1]
