"""Whether tracks of noise are told from tracks of particles, against truth that is drawn here."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spatialdino_core.movies.clock import Clock
from spatialdino_core.track.link import link_objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.region import Region

FRAMES, EDGE_UM = 15, 12.0
PARTICLES, FALSE = 30, 60


@pytest.fixture(scope="module")
def noisy() -> pd.DataFrame:
    """Slow particles, seen with probability 0.8, among twice as many false detections, less confident."""
    rng = np.random.default_rng(5)
    at = rng.uniform(1, EDGE_UM - 1, (PARTICLES, 3))
    frames = []
    for frame in range(FRAMES):
        at = at + rng.normal(0, 0.08, at.shape)
        seen = at[rng.random(PARTICLES) < 0.8]
        false = rng.uniform(0, EDGE_UM, (rng.poisson(FALSE), 3))
        confidence = np.concatenate([rng.beta(3, 3, len(seen)), rng.beta(2, 4, len(false))])
        table = pd.DataFrame(np.concatenate([seen, false]), columns=["z_um", "y_um", "x_um"])
        table["detection_confidence"] = confidence
        table["frame"], table["label"] = frame, np.arange(1, len(table) + 1)
        table["real"] = np.arange(len(table)) < len(seen)
        frames.append(table)
    joined = pd.concat(frames, ignore_index=True)
    joined[["z", "y", "x"]] = joined[["z_um", "y_um", "x_um"]] / 0.1
    return joined.assign(volume_um3=0.1, intensity_mean=10.0, intensity_sum=100.0, snr=3.0)


def link(table: pd.DataFrame, **settings: float) -> pd.DataFrame:
    region = Region((EDGE_UM, EDGE_UM, EDGE_UM))
    tracks = link_objects(table, Clock.even(FRAMES), region, TrackParameters(**settings))[0]
    return tracks[tracks["gap"] == 0].merge(table[["frame", "label", "real"]], on=["frame", "label"])


def test_noise_falls_and_particles_stay(noisy: pd.DataFrame) -> None:
    kept = link(noisy)
    assert kept["real"].sum() >= 0.9 * noisy["real"].sum()
    assert (~kept["real"]).sum() <= 0.1 * (~noisy["real"]).sum()


def test_confidence_of_a_track_is_how_often_it_is_real(noisy: pd.DataFrame) -> None:
    tracks = link(noisy, min_track_confidence=0.0, min_mean_confidence=0.0)
    assert len(tracks) == len(noisy)
    share = tracks.groupby("track_id").agg(sure=("track_confidence", "first"), real=("real", "mean"))
    assert share.loc[share["sure"] < 0.1, "real"].mean() < 0.1
    assert share.loc[share["sure"] > 0.9, "real"].mean() > 0.85


def test_texture_that_comes_back_in_every_frame_is_not_a_particle(noisy: pd.DataFrame) -> None:
    rng = np.random.default_rng(6)
    places = rng.uniform(1, EDGE_UM - 1, (40, 3))
    tables = [noisy[noisy["real"]]]
    for frame in range(FRAMES):
        seen = pd.DataFrame(places + rng.normal(0, 0.03, places.shape), columns=["z_um", "y_um", "x_um"])
        tables.append(
            seen.assign(frame=frame, label=np.arange(1000, 1040), detection_confidence=0.2, real=False)
        )
    table = pd.concat(tables, ignore_index=True)
    table[["z", "y", "x"]] = table[["z_um", "y_um", "x_um"]] / 0.1
    table = table.fillna({"volume_um3": 0.1, "intensity_mean": 10.0, "intensity_sum": 100.0, "snr": 3.0})
    table["real"] = table["real"].astype(bool)
    kept = link(table)
    assert kept["real"].sum() >= 0.9 * table["real"].sum()
    assert (~kept["real"]).sum() <= 0.05 * (~table["real"]).sum()
    assert (~link(table, min_mean_confidence=0.0)["real"]).mean() > 0.4


def test_nothing_is_dropped_where_confidence_is_unknown(noisy: pd.DataFrame) -> None:
    assert len(link(noisy.drop(columns="detection_confidence"))) == len(noisy)


def test_what_splits_off_for_one_frame_is_a_particle_where_light_is_conserved() -> None:
    """Flashes of one frame beside particles that dim by as much, beside others that do not, and anywhere."""
    rng = np.random.default_rng(2)
    at = rng.uniform(2, EDGE_UM - 2, (60, 3))
    flashing = {"split": np.arange(0, 20), "beside": np.arange(20, 40)}
    when = rng.integers(3, FRAMES - 3, len(at))
    rows = []
    for frame in range(FRAMES):
        at = at + rng.normal(0, 0.05, at.shape)
        light = 100 * rng.lognormal(0, 0.05, len(at))
        for kind, which in flashing.items():
            now = which[when[which] == frame]
            rows += [(frame, kind, 40.0, *(at[i] + [0.0, 0.25, 0.2])) for i in now]
            light[now] -= 40 if kind == "split" else 0
        rows += [(frame, "particle", light[i], *at[i]) for i in range(len(at))]
        rows.append((frame, "anywhere", 40.0, *rng.uniform(1, EDGE_UM - 1, 3)))
    table = pd.DataFrame(rows, columns=["frame", "kind", "intensity_sum", "z_um", "y_um", "x_um"])
    table["label"] = np.arange(1, len(table) + 1)
    table["detection_confidence"] = np.where(table["kind"] == "particle", 0.99, 0.95)
    table[["z", "y", "x"]] = table[["z_um", "y_um", "x_um"]] / 0.1
    table = table.assign(volume_um3=0.1, intensity_mean=10.0, snr=5.0, real=True)
    tracks = link(table, min_track_confidence=0.0).merge(
        table[["frame", "label", "kind"]], on=["frame", "label"]
    )
    sure = tracks.groupby("kind")["track_confidence"].median()
    assert sure["particle"] > 0.99
    assert sure["split"] > 0.5
    assert sure["beside"] < sure["split"] - 0.3
    assert sure["anywhere"] < 0.05
