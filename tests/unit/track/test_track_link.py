"""Linking on simulated movies with known tracks, beside a published linker; gaps, events and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from track_scenes import REGION, as_objects, link, link_f1, movie

from spatialdino_core.movies.clock import Clock
from spatialdino_core.track.events import EVENT_COLUMNS
from spatialdino_core.track.exports import write_csv
from spatialdino_core.track.link import TRACK_COLUMNS, link_objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.region import Region


@pytest.mark.parametrize(
    ("step", "drift", "expected"), [(0.08, 0.0, 0.99), (0.15, 0.0, 0.95), (0.05, 0.2, 0.98)]
)
def test_particles_are_followed(step: float, drift: float, expected: float) -> None:
    truth = movie(step=step, drift=drift)
    assert link_f1(link(truth)[0], truth) >= expected


@pytest.mark.parametrize(
    ("particles", "step", "drift"), [(60, 0.15, 0.0), (200, 0.12, 0.0), (120, 0.06, 0.2)]
)
def test_linking_is_not_behind_laptrack(particles: int, step: float, drift: float) -> None:
    """With the same positions and the same reach; ours is blind to brightness, as the peer is."""
    laptrack = pytest.importorskip("laptrack")
    truth = movie(particles=particles, step=step, drift=drift)
    peer = laptrack.LapTrack(cutoff=1.0, gap_closing_cutoff=2.0, gap_closing_max_frame_count=2)
    coordinates = ["z_um", "y_um", "x_um"]
    found = peer.predict_dataframe(truth, coordinates, frame_col="frame", only_coordinate_cols=False)[0]
    found = found.reset_index(drop=True).rename(columns={"frame_y": "frame"}).assign(gap=0)
    assert link_f1(link(truth, intensity_weight=0)[0], truth) >= link_f1(found, truth) - 0.01


def test_a_particle_unseen_for_two_frames_is_one_track_with_a_bridge() -> None:
    truth = movie(particles=20, step=0.05)
    seen = truth[~((truth["particle"] == 3) & truth["frame"].isin([5, 6]))].reset_index(drop=True)
    tracks, _, report = link(seen)
    assert report.gaps_closed == 1
    assert report.tracks == 20
    bridge = tracks[tracks["gap"] == 1]
    assert bridge["frame"].tolist() == [5, 6]
    assert (bridge["label"] == 0).all()
    assert bridge["intensity_sum"].isna().all()
    whole = tracks[tracks["track_id"] == bridge["track_id"].iloc[0]].set_index("frame")
    assert list(whole.index) == list(range(12))
    for frame, share in [(5, 1 / 3), (6, 2 / 3)]:
        expected = whole.loc[4, "x_um"] * (1 - share) + whole.loc[7, "x_um"] * share
        assert whole.loc[frame, "x_um"] == pytest.approx(expected, abs=0.005)
    assert np.isfinite(whole.loc[7, "link_cost"])


def test_no_gap_is_closed_where_none_is_allowed() -> None:
    truth = movie(particles=20, step=0.05)
    seen = truth[~((truth["particle"] == 3) & (truth["frame"] == 5))]
    assert link(seen.reset_index(drop=True), max_gap_frames=0)[2].tracks == 21


def test_the_table_keeps_its_contract() -> None:
    tracks, events, _ = link(movie(particles=20))
    assert list(tracks) == TRACK_COLUMNS
    assert list(events) == EVENT_COLUMNS
    assert tracks.sort_values(["track_id", "frame"]).index.is_monotonic_increasing
    assert not tracks.duplicated(["track_id", "frame"]).any()
    first = tracks.groupby("track_id").head(1)
    assert first["link_cost"].isna().all()
    assert first["frame"].is_monotonic_increasing
    rest = tracks.drop(first.index)
    assert rest["link_confidence"].between(0, 1).all()
    np.testing.assert_allclose(tracks["time_s"], tracks["frame"] * 2.0)


def test_the_order_of_rows_does_not_matter() -> None:
    objects = as_objects(movie(step=0.15))
    shuffled = objects.sample(frac=1, random_state=1)
    one, two = (link_objects(t, Clock.even(12, 2.0), REGION, TrackParameters()) for t in (objects, shuffled))
    pd.testing.assert_frame_equal(one[0], two[0])
    pd.testing.assert_frame_equal(one[1], two[1])


def test_links_of_high_confidence_are_more_often_right() -> None:
    truth = movie(particles=250, step=0.2, brightness=0.6)
    tracks = link(truth)[0]
    named = tracks.merge(truth[["frame", "x_um", "particle"]], on=["frame", "x_um"])
    named = named.sort_values(["track_id", "frame"])
    right = (named["particle"] == named["particle"].shift()) & (
        named["track_id"] == named["track_id"].shift()
    )
    linked = named["link_confidence"].notna()
    sure, unsure = linked & (named["link_confidence"] > 0.95), linked & (named["link_confidence"] < 0.7)
    assert unsure.sum() > 50
    assert right[sure].mean() > 0.97
    assert right[unsure].mean() < right[sure].mean() - 0.05


@pytest.mark.parametrize("frames", [1, 5])
def test_a_movie_without_objects_has_empty_tables(frames: int) -> None:
    empty = as_objects(movie().iloc[:0])
    tracks, events, report = link_objects(empty, Clock.even(frames), REGION, TrackParameters())
    assert list(tracks) == TRACK_COLUMNS
    assert len(tracks) == len(events) == report.tracks == 0


def test_a_movie_of_one_frame_has_tracks_of_one_row() -> None:
    truth = movie(frames=1, particles=9)
    tracks, events, _ = link_objects(as_objects(truth), Clock.even(1), REGION, TrackParameters())
    assert tracks["track_id"].tolist() == list(range(1, 10))
    assert len(events) == 0


def test_short_tracks_are_dropped_on_request() -> None:
    truth = movie(particles=10, step=0.03)
    lone = pd.DataFrame([[4, 99, 4.0, 0.5, 0.6, 900.0]], columns=truth.columns)
    both = pd.concat([truth, lone], ignore_index=True)
    assert link(both)[2].tracks == 11
    tracks, _, report = link(both, min_length_frames=2)
    assert (report.tracks, report.dropped_tracks) == (10, 1)
    assert sorted(set(tracks["track_id"])) == list(range(1, 11))


def split_movie() -> pd.DataFrame:
    """Twenty quiet particles; particle 5 splits in two halves of its brightness in frame 6."""
    truth = movie(particles=20, step=0.02, brightness=0.05)
    mother = (truth["particle"] == 5) & (truth["frame"] >= 6)
    daughter = truth[mother].assign(particle=50)
    daughter["x_um"] += 0.25
    truth.loc[mother, "intensity_sum"] /= 2
    daughter["intensity_sum"] /= 2
    return pd.concat([truth, daughter], ignore_index=True)


def test_a_split_is_a_candidate_fission() -> None:
    tracks, events, _ = link(split_movie())
    fissions = events[events["event"] == "fission"]
    assert fissions["frame"].tolist() == [6]
    mother = tracks[(tracks["frame"] == 0)].merge(
        split_movie().query("frame == 0 and particle == 5"), on="x_um"
    )
    assert fissions["other_track_id"].tolist() == mother["track_id"].tolist()
    assert not (events["event"] == "appearance").any()


def test_a_newcomer_beside_a_particle_that_keeps_its_brightness_is_no_fission() -> None:
    truth = movie(particles=20, step=0.02, brightness=0.05)
    newcomer = truth[(truth["particle"] == 5) & (truth["frame"] >= 6)].assign(particle=50)
    newcomer["x_um"] += 0.25
    events = link(pd.concat([truth, newcomer], ignore_index=True))[1]
    assert not (events["event"] == "fission").any()


def test_a_merge_is_a_candidate_fusion() -> None:
    backwards = split_movie()
    backwards["frame"] = 11 - backwards["frame"]
    events = link(backwards.sort_values("frame", kind="stable").reset_index(drop=True))[1]
    assert events["event"].tolist() == ["fusion"]
    assert events["frame"].tolist() == [5]


def test_appearances_count_away_from_border_and_movie_ends_only() -> None:
    truth = movie(particles=10, step=0.02)
    inner = truth[(truth["particle"] == 0)].assign(particle=70, z_um=4.0, y_um=5.0, x_um=0.7)
    border = inner.assign(particle=71, x_um=0.2, y_um=2.0)
    late = pd.concat([inner, border]).query("3 <= frame <= 8")
    events = link(pd.concat([truth, late], ignore_index=True))[1]
    assert events["event"].tolist() == ["appearance", "disappearance"]
    assert events["frame"].tolist() == [3, 8]
    assert events["time_s"].tolist() == [6.0, 16.0]
    assert (events["x_um"] == 0.7).all()


def test_a_tilted_region_knows_its_border() -> None:
    """A point in the middle of the tilted box is far from the border; the same x at another depth is not."""
    region = Region((20.0, 10.0, 12.0), tilt=(0.0, 0.0, 1.6))
    middle = np.array([[4.0, 5.0, 6.0 + 1.6 * 4]])
    assert region.distance_to_border_um(middle)[0] == pytest.approx(4.0)
    deeper = np.array([[7.0, 5.0, 6.0 + 1.6 * 4]])
    assert region.distance_to_border_um(deeper)[0] == pytest.approx(6.0 + 1.6 * 4 - 1.6 * 7)
    leaning = Region((8.0, 10.0, 12.0), tilt=(0.0, 0.0, -1.0), start_um=(0.0, 0.0, 8.0))
    assert leaning.distance_to_border_um(np.array([[0.5, 5.0, 8.0]]))[0] == pytest.approx(0.5)


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    tracks = link(movie(particles=5))[0]
    write_csv(tmp_path / "a.csv", tracks)
    write_csv(tmp_path / "b.csv", tracks.copy())
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == ",".join(TRACK_COLUMNS)
