"""Golden values of tracking: tables of objects on known paths, with all that makes linking hard."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from golden import Stage
from golden_tables import brief

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.clock import Clock
from spatialdino_core.movies.record import Acquisition, MovieRecord
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.track.link import link_objects
from spatialdino_core.track.motion import MotionModel, fitted_model, prior_model
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.region import Region, imaged_region
from spatialdino_core.track.stage import track_movie

STAGE = Stage("track", ["track/*.py"])
VOXEL_UM = (0.25, 0.11, 0.13)
SIDES_UM = np.array([7.0, 9.0, 11.0])
REGION = Region((7.0, 9.0, 11.0))
Table = pd.DataFrame


def paths(rng: np.random.Generator, particles: int, frames: int, step: Any = 0.1, run: float = 0.0) -> Table:
    """Particles that diffuse (µm per frame) or also run, alive throughout; brightness is their own."""
    start = rng.uniform(0.1, 0.9, (particles, 3)) * SIDES_UM
    heading = rng.normal(size=(particles, 3))
    heading *= run / np.linalg.norm(heading, axis=1, keepdims=True)
    steps = rng.normal(0, step, (frames, particles, 3)) * (1.3, 1.0, 0.8) + heading
    place = start + steps.cumsum(axis=0)
    level = rng.lognormal(7, 0.5, particles) * rng.lognormal(0, 0.1, (frames, particles))
    rows = [[t, p, *place[t, p], level[t, p]] for t in range(frames) for p in range(particles)]
    table = pd.DataFrame(rows, columns=["frame", "particle", "z_um", "y_um", "x_um", "intensity_sum"])
    return table.astype({"frame": int, "particle": int})


def objects(truth: Table) -> Table:
    """What segmentation would say of them."""
    table = truth.drop(columns="particle").reset_index(drop=True)
    table["label"] = table.groupby("frame").cumcount() + 1
    for number, (axis, size) in enumerate(zip("zyx", VOXEL_UM, strict=True)):
        table[axis] = table[f"{axis}_um"] / size
        table["volume_um3"] = 0.1 + 0.001 * (number + table["label"] % 7)
    return table.assign(snr=4.0 + table["label"] % 5, intensity_mean=table["intensity_sum"] / 50)


def linked(
    table: Table, frames: int | Clock, interval_s: float | None = 2.0, region: Region = REGION, **changes: Any
) -> dict[str, Any]:
    """Tracks, events and what was measured, in brief; frames alone stand for an even clock."""
    clock = frames if isinstance(frames, Clock) else Clock.even(frames, interval_s or 1.0)
    tracks, events, report = link_objects(table, clock, region, TrackParameters(**changes))
    about = dict(report.model)
    drift = pd.DataFrame(about.pop("drift_um"), columns=list("zyx")).assign(light=about.pop("fading_log"))
    counts = {name: value for name, value in vars(report).items() if name != "model"}
    return {
        "tracks": brief(tracks),
        "events": brief(events),
        "counts": counts,
        "model": about,
        "drift": brief(drift),
    }


def missing(rng: np.random.Generator, truth: Table, share: float) -> Table:
    return truth[rng.random(len(truth)) >= share]


@STAGE.scene
def diffusing_with_gaps(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    truth = missing(rng, paths(rng, 40, 12), 0.18)
    late = truth["particle"].isin(range(6)) & (truth["frame"] < 4)
    early = truth["particle"].isin(range(6, 12)) & (truth["frame"] > 7)
    truth = truth[~late & ~early]
    table = objects(truth).sample(frac=1, random_state=1)
    return {
        "default": linked(table, 12),
        "no gap": linked(table, 12, max_gap_frames=0, min_length_frames=3),
        "short reach": linked(table, 12, max_displacement_um=0.4, max_gap_frames=2, intensity_weight=0.0),
        "heavy light": linked(table, 12, intensity_weight=2.0, max_displacement_um=1.6, border_um=1.2),
    }


@STAGE.scene
def running_in_a_crowd(folder: Path) -> dict[str, Any]:
    """Directed motion, drift of the sample, bleaching; unseen frames."""
    rng = np.random.default_rng(2)
    truth = pd.concat([paths(rng, 25, 14, 0.05, 0.35), paths(rng, 45, 14, 0.12)], ignore_index=True)
    truth["particle"] = truth.groupby("frame").cumcount()
    truth[["z_um", "y_um", "x_um"]] += truth[["frame"]].to_numpy() * np.array([0.06, -0.15, 0.1])
    truth["intensity_sum"] *= np.exp(-0.08 * truth["frame"])
    truth = missing(rng, truth[~truth["frame"].isin([6, 7])], 0.08)
    return {"crowd": linked(objects(truth), 14), "more": linked(objects(truth), 14, max_gap_frames=1)}


@STAGE.scene
def uneven_clock(folder: Path) -> dict[str, Any]:
    """A pause, jitter and frames that were left out, for particles that diffuse and others that run."""
    rng = np.random.default_rng(11)
    times_s = np.r_[0, rng.lognormal(0.6, 0.4, 15).cumsum()]
    times_s[9:] += 40.0
    truth = pd.concat([paths(rng, 30, 16, 0.05), paths(rng, 15, 16, 0.03, 0.1)], ignore_index=True)
    truth["particle"] = truth.groupby("frame").cumcount()
    pause = rng.normal(0, 0.25, (45, 3))[truth["particle"]] * (truth["frame"] >= 9).to_numpy()[:, None]
    truth[["z_um", "y_um", "x_um"]] += pause + np.outer(times_s[truth["frame"]], [0.0, 0.01, 0.02])
    truth = missing(rng, truth, 0.08)
    every = Clock(times_s, np.arange(16))
    part = Clock(times_s, np.r_[1:4, 6:9, 10:15])
    seen = truth[truth["frame"].isin(part.observed)]
    return {
        "every": linked(objects(truth), every),
        "part": linked(objects(seen), part),
        "short gap": linked(objects(seen), part, max_gap_frames=1, border_um=0.0),
    }


@STAGE.scene
def jumping(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    found = {}
    for name, particles, jump in (("far", 30, (0.6, 2.4, -1.9)), ("crowd", 120, (1.0, 1.5, 0.0))):
        truth = paths(rng, particles, 8, 0.06)
        truth.loc[truth["frame"] >= 5, ["z_um", "y_um", "x_um"]] += np.array(jump)
        truth.loc[truth["frame"] == 3, ["z_um", "y_um", "x_um"]] += np.array([0.1, 0.3, 0.2])
        found[name] = linked(objects(missing(rng, truth, 0.1)), 8, max_displacement_um=0.8)
    new = pd.concat([paths(rng, 20, 3), paths(rng, 20, 3).assign(frame=lambda t: t["frame"] + 3)])
    return found | {"new particles": linked(objects(new), 6, max_displacement_um=0.8)}


@STAGE.scene
def doubtful_detections(folder: Path) -> dict[str, Any]:
    """Confidence, uncertainty and features, with clutter; values that are missing or impossible."""
    rng = np.random.default_rng(4)
    frames, particles = 10, 30
    truth = missing(rng, paths(rng, particles, frames, 0.12), 0.12)
    age = truth["frame"] - truth["particle"] % 9
    truth = truth[(truth["particle"] < 12) | ((age >= 0) & (age < 1 + truth["particle"] % 4))]
    clutter = pd.DataFrame(rng.uniform(0, 1, (110, 3)) * SIDES_UM, columns=["z_um", "y_um", "x_um"])
    clutter = clutter.assign(
        frame=rng.integers(0, frames, 110), particle=-1, intensity_sum=rng.lognormal(6.6, 0.5, 110)
    )
    every = pd.concat([truth, clutter], ignore_index=True).sort_values("frame", kind="stable")
    real = (every["particle"] >= 0).to_numpy()
    table = objects(every)
    plain = table.copy()
    table["detection_confidence"] = np.where(real, rng.beta(5, 2, len(real)), rng.beta(2, 4, len(real)))
    for axis, size in zip("zyx", (0.09, 0.03, 0.04), strict=True):
        table[f"localisation_{axis}_um"] = size * rng.lognormal(0, 0.3, len(table))
        table[f"{axis}_um"] += rng.normal(0, table[f"localisation_{axis}_um"])
        table[axis] = table[f"{axis}_um"] / VOXEL_UM["zyx".index(axis)]
    kinds = rng.normal(0, 1, (particles + 1, 6)) + 0.7
    features = kinds[every["particle"].to_numpy()] + rng.normal(0, 0.35, (len(table), 6))
    features[~real] = rng.normal(0, 1, ((~real).sum(), 6)) + 0.7
    described = table.assign(**{f"feature_{k}": features[:, k] for k in range(6)})
    odd = described.copy()
    odd.loc[::17, "intensity_sum"] = -3.0
    odd.loc[::19, "localisation_y_um"] = np.nan
    odd.loc[::23, "detection_confidence"] = np.nan
    odd.loc[::13, [f"feature_{k}" for k in range(6)]] = 0.0
    strict = {"min_track_confidence": 0.9, "min_mean_confidence": 0.5}
    return {
        "plain": linked(plain, frames),
        "known": linked(table, frames),
        "strict": linked(table, frames, **strict),
        "described": linked(described, frames),
        "weighed": linked(described, frames, feature_weight=0.3, intensity_weight=0.5),
        "odd": linked(odd, frames, min_track_confidence=0.0, min_mean_confidence=0.45),
        "alike": linked(
            described.assign(**{f"feature_{k}": 1 + 0.1 * rng.normal(size=len(table)) for k in range(6)}),
            frames,
            feature_weight=2.0,
        ),
    }


@STAGE.scene
def splitting_and_merging(folder: Path) -> dict[str, Any]:
    """Wholes whose parts leave them, and parts that come together, mass being kept."""
    rng = np.random.default_rng(5)
    truth = paths(rng, 24, 12, 0.07)
    truth.loc[truth["particle"] == 0, "z_um"] -= 6.0
    parts = []
    for number in range(12):
        one = truth["particle"] == number
        when = 5 + number % 3 if number else 2
        after = one & ((truth["frame"] >= when) if number < 7 else (truth["frame"] < when))
        part = truth[after].copy()
        share = rng.uniform(0.35, 0.6)
        aside = rng.normal(0, 0.2 + 0.05 * number, 3)
        far = np.abs(part["frame"] - when).to_numpy()[:, None] + 1
        part[["z_um", "y_um", "x_um"]] += aside * (1 + 0.3 * far)
        part["intensity_sum"] *= share
        part["particle"] = 100 + number
        truth.loc[after, "intensity_sum"] *= (1 - share) * (1 + 0.1 * (number % 4))
        parts.append(part)
    lone = truth["particle"] >= 20
    truth = truth[~(lone & (truth["frame"] < 3)) & ~(lone & (truth["frame"] > 8))]
    every = pd.concat([truth, *parts], ignore_index=True).sort_values("frame", kind="stable")
    table = objects(every)
    sure = table.assign(detection_confidence=np.where(every["particle"] >= 100, 0.35, 0.8))
    tilted = Region((6.0, 8.0, 10.0), (0.0, -0.4, 0.0), (0.0, 2.0, 0.3))
    return {
        "default": linked(table, 12),
        "all": linked(table, 12, min_event_score=0.02, border_um=0.0),
        "dark": linked(table, 12, intensity_weight=0.0, min_event_score=0.3),
        "confident": linked(sure, 12, region=tilted, border_um=0.8),
        "few": linked(objects(every[every["particle"].isin([0, 100, 8, 108])]), 12, max_displacement_um=0.9),
    }


@STAGE.scene
def hardly_a_movie(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(6)
    truth = paths(rng, 9, 3)
    flat = truth.assign(z_um=0.0)
    none = objects(truth)[:0]
    return {
        "one frame": linked(objects(truth[truth["frame"] == 0]), 1, None),
        "one of three": linked(objects(truth[truth["frame"] == 1]), 3),
        "two": linked(objects(truth[truth["frame"] < 2]), 2),
        "flat": linked(objects(flat), 3, region=Region((0.0, 9.0, 11.0))),
        "no object": [linked(none, 3), linked(none, 1, None)],
        "equally bright": linked(objects(truth.assign(intensity_sum=50.0)), 3),
    }


@STAGE.scene
def motion(folder: Path) -> dict[str, Any]:
    """Of so many objects that only some are looked at."""
    rng = np.random.default_rng(10)
    prior = prior_model(1.0, False)
    found = {str(free): MotionModel.of(np.full(8, free)) for free in (-20.0, 0.5, 20.0)}
    for particles in (126, 190):
        truth = paths(rng, particles, 50, 0.1, 0.1)
        previous = np.arange(len(truth)) - particles
        previous[previous < 0] = -1
        previous[rng.random(len(truth)) < 0.05] = -1
        frame, place = truth["frame"].to_numpy(), truth[["z_um", "y_um", "x_um"]].to_numpy().copy(order="C")
        found[str(particles)] = fitted_model(prior, prior, frame, place, np.ones_like(place), previous)
    return found


@STAGE.scene
def defaults(folder: Path) -> dict[str, Any]:
    return asdict(TrackParameters())


@STAGE.scene
def refused(folder: Path) -> list[bool]:
    rng = np.random.default_rng(7)
    table = objects(paths(rng, 4, 3))

    def tried(frames: int = 3, **changes: Any) -> bool:
        one = table.copy()
        for name, value in changes.items():
            one.loc[2, name] = value
        try:
            linked(one, frames)
        except BadInputError:
            return True
        return False

    tries = [{}, {"z_um": np.nan}, {"frames": 2}, {"frame": -1}, {"frame": 3}, {"label": 1}]
    return [tried(**each) for each in tries]


@STAGE.scene
def regions(folder: Path) -> dict[str, Any]:
    """Imaged regions of all kinds of scans."""
    points = np.random.default_rng(8).uniform(-1, 14, (40, 3))
    found: dict[str, Any] = {}
    scan = Acquisition(
        scan="stage", angle_deg=31.8, step_um=0.4, pixel_um=0.11, interval_s=2.0, skew_axis="y", scan_sign=1
    )
    scans = {
        "stage": scan,
        "steep": replace(scan, angle_deg=121.8, skew_axis="x"),
        "objective": replace(scan, scan="objective", skew_axis="x", angle_deg=58.0),
        "none": replace(scan, scan="none", angle_deg=None, skew_axis=None),
    }
    for name, each in scans.items():
        region = imaged_region(_record(each))
        found[name] = {
            "size": region.size_um,
            "tilt": region.tilt,
            "start": region.start_um,
            "volume": region.volume_um3,
            "distance": brief(pd.DataFrame({"border": region.distance_to_border_um(points)})),
        }
    return found


@STAGE.scene
def published(folder: Path) -> dict[str, Any]:
    """The stage: a Parquet table in, CSV tables out."""
    rng = np.random.default_rng(9)
    objects(missing(rng, paths(rng, 20, 6), 0.15)).to_parquet(folder / "objects.parquet")
    scan = Acquisition(
        scan="none", angle_deg=None, step_um=0.4, pixel_um=0.11, interval_s=3.0, skew_axis=None, scan_sign=1
    )
    StageRecord(stores=[], checksums=dict.fromkeys(range(6), "0"), skipped={}, about={}).write(
        folder / "labels.json"
    )
    names = ("labels.json", "objects.parquet", "tracks.csv", "events.csv", "about.json")
    files = (folder / name for name in names)
    track_movie(_record(scan), *files, TrackParameters(min_length_frames=2))
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("tracks", "events")}
    digits = (folder / "tracks.csv").read_text().splitlines()[1].split(",")[3]
    return {name: brief(table) for name, table in tables.items()} | {"digits": len(digits.split(".")[1])}


def _record(acquisition: Acquisition) -> MovieRecord:
    return MovieRecord(
        movie="cell",
        channels=["488nm"],
        paths=["raw"],
        train=False,
        acquisition=acquisition,
        frames=6,
        shape_zyx=(30, 80, 100),
        dtype="uint16",
    )


def test_results_of_tracking_stay(tmp_path: Path, write_golden: bool) -> None:
    STAGE.check(tmp_path, write=write_golden)
