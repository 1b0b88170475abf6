"""From a table of objects to tables of tracks and events."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from spatialdino_core.movies.clock import Clock
from spatialdino_core.track.events import EVENT_COLUMNS, find_events, find_partners
from spatialdino_core.track.existence import track_confidence
from spatialdino_core.track.gaps import fill_gaps
from spatialdino_core.track.links import Links, Model, link_movie
from spatialdino_core.track.objects import POSITION_UM, Array, Index, Objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.rates import log_probabilities
from spatialdino_core.track.region import Region

POSITION_VOXELS = ["z", "y", "x"]
OBJECT_COLUMNS = ["label", "volume_um3", "intensity_mean", "intensity_sum", "snr"]
TRACK_COLUMNS = ["track_id", "frame", "time_s", *POSITION_VOXELS, *POSITION_UM, *OBJECT_COLUMNS]
TRACK_COLUMNS += ["link_cost", "link_confidence", "track_confidence", "gap"]


@dataclass(frozen=True, kw_only=True)
class TrackReport:
    """Counts, and the model that was measured on the movie."""

    objects: int
    tracks: int
    links: int
    gaps_closed: int
    dropped_tracks: int
    model: dict[str, Any]


def link_objects(
    table: pd.DataFrame, clock: Clock, region: Region, parameters: TrackParameters
) -> tuple[pd.DataFrame, pd.DataFrame, TrackReport]:
    """Link the objects of a movie.

    Parameters
    ----------
    table
        One row per object: ``frame, label, z, y, x`` (voxels), ``z_um, y_um, x_um``, ``volume_um3``,
        ``intensity_mean``, ``intensity_sum``, ``snr``, and what else `Objects.of` knows. The order of rows
        does not matter.
    clock
        When the movie's frames were recorded, and which of them were observed: the others say nothing of any
        particle.
    region
        Imaged region.

    Returns
    -------
    tracks : pandas.DataFrame
        ``TRACK_COLUMNS``, sorted by track and frame; rows that bridge a gap, or frames that were left out,
        have label 0, ``gap`` 1 and a position smoothed from both sides.
    events : pandas.DataFrame
        ``EVENT_COLUMNS``, see `find_events`.
    report : TrackReport

    Raises
    ------
    BadInputError
        When the table is unusable, see `Objects.of`.
    """
    objects = Objects.of(table, clock)
    links, model = link_movie(objects, region.volume_um3, parameters)
    exists = _existence(objects, links, model, parameters)
    track, dropped = _number(objects, links, exists, parameters)
    tracks = _track_table(objects, track, exists, links, model)
    events = find_events(objects, track, links, model, region, parameters)
    events.insert(2, "time_s", clock.times_s[events["frame"].to_numpy(np.intp)])
    linked = np.flatnonzero(links.previous >= 0)
    report = TrackReport(
        objects=len(objects),
        tracks=int(track.max(initial=0)),
        links=len(linked),
        gaps_closed=int((objects.frame[linked] - objects.frame[links.previous[linked]] > 1).sum()),
        dropped_tracks=dropped,
        model=_about(objects, model),
    )
    return tracks, events[EVENT_COLUMNS], report


def _existence(objects: Objects, links: Links, model: Model, parameters: TrackParameters) -> Array:
    """Probability that each object's track is a particle, (N,); what splits from one likelier is, too."""
    log_probability = log_probabilities(objects, model.rates, 1)
    accepted = track_confidence(links, log_probability) >= parameters.min_track_confidence
    every = np.ones(len(objects), bool)
    related = np.full(len(objects), -np.inf)
    for some in find_partners(objects, links, model, every, accepted, parameters.max_displacement_um):
        related[some.edge] = np.logaddexp(related[some.edge], some.odds)
    return track_confidence(links, log_probability, related)


def _number(objects: Objects, links: Links, exists: Array, parameters: TrackParameters) -> tuple[Index, int]:
    """Track of each object, from 1 in order of first appearance; 0 in tracks too short or improbable.

    Where the table says nothing of its objects' confidence, no track is improbable.
    """
    firsts, number = np.unique(links.track, return_inverse=True)
    last = np.zeros(len(firsts), np.intp)
    np.maximum.at(last, number, objects.frame)
    kept = last - objects.frame[firsts] + 1 >= parameters.min_length_frames
    if objects.confidence_known:
        kept &= exists[firsts] >= parameters.min_track_confidence
        mean = np.bincount(number, objects.confidence) / np.bincount(number)
        kept &= mean >= parameters.min_mean_confidence
    return np.where(kept, kept.cumsum(), 0)[number], int((~kept).sum())


def _track_table(objects: Objects, track: Index, exists: Array, links: Links, model: Model) -> pd.DataFrame:
    rows = objects.table[["frame", *POSITION_VOXELS, *POSITION_UM, *OBJECT_COLUMNS]].copy()
    rows["track_id"], rows["gap"] = track, 0
    rows["link_cost"], rows["link_confidence"] = links.cost, links.confidence
    rows["track_confidence"] = exists
    rows = pd.concat([rows, _gap_rows(objects, track, exists, links, model)], ignore_index=True)
    rows = rows[rows["track_id"] > 0].sort_values(["track_id", "frame"], kind="stable").reset_index(drop=True)
    rows["time_s"] = objects.clock.times_s[rows["frame"].to_numpy(np.intp)]
    return rows[TRACK_COLUMNS].astype({"label": int, "gap": int, "frame": int, "track_id": int})


def _gap_rows(objects: Objects, track: Index, exists: Array, links: Links, model: Model) -> pd.DataFrame:
    """Rows for the frames in which a particle was not seen, or nothing was."""
    later, frame, position = fill_gaps(objects, links, model)
    table = pd.DataFrame({"track_id": track[later], "frame": frame, "label": 0, "gap": 1})
    table["track_confidence"] = exists[later]
    table[POSITION_UM] = position
    table[POSITION_VOXELS] = position * _voxels_per_um(objects)
    return table


def _voxels_per_um(objects: Objects) -> np.ndarray:
    """Of each axis, from the positions that the table has in both; 0 along an axis of a single plane."""
    voxels = objects.table[POSITION_VOXELS].to_numpy(float)
    squares = (objects.position_um**2).sum(axis=0)
    products = (voxels * objects.position_um).sum(axis=0)
    return np.where(squares > 0, products / np.where(squares > 0, squares, 1.0), 0.0)


def _about(objects: Objects, model: Model) -> dict[str, Any]:
    """The model as plain numbers; drift and fading in every frame of the movie."""
    return {
        "motion": asdict(model.motion),
        "rates": asdict(model.rates),
        "light": asdict(model.light),
        "feature_likeness": model.likeness,
        "drift_um": np.round(objects.in_movie(model.drift_um), 5).tolist(),
        "fading_log": np.round(objects.in_movie(model.fading[:, None])[:, 0], 5).tolist(),
    }
