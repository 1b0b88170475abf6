"""From a table of objects to tracks and events: neighbouring frames, then gaps, then the tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from spatialdino_core.track.events import EVENT_COLUMNS, find_events
from spatialdino_core.track.links import Links, close_gaps, link_neighbouring_frames
from spatialdino_core.track.objects import Index, Objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.region import Region

POSITION_COLUMNS = ["z", "y", "x", "z_um", "y_um", "x_um"]
OBJECT_COLUMNS = ["label", "volume_um3", "intensity_mean", "intensity_sum", "snr"]
TRACK_COLUMNS = ["track_id", "frame", "time_s", *POSITION_COLUMNS, *OBJECT_COLUMNS]
TRACK_COLUMNS += ["link_cost", "link_confidence", "gap"]


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
    table: pd.DataFrame, frames: int, interval_s: float | None, region: Region, parameters: TrackParameters
) -> tuple[pd.DataFrame, pd.DataFrame, TrackReport]:
    """Link the objects of a movie.

    Parameters
    ----------
    table
        One row per object: ``frame, label, z, y, x`` (voxels), ``z_um, y_um, x_um``, ``volume_um3``,
        ``intensity_mean``, ``intensity_sum``, ``snr``. The order of rows does not matter.
    frames
        Length of the movie.
    interval_s
        Time between frames; ``None`` for a movie of one frame.
    region
        Imaged region.

    Returns
    -------
    tracks : pandas.DataFrame
        ``TRACK_COLUMNS``, sorted by track and frame; rows that bridge a gap have label 0, ``gap`` 1 and
        a linearly interpolated position.
    events : pandas.DataFrame
        ``EVENT_COLUMNS``, see `find_events`.
    report : TrackReport
    """
    objects = Objects.of(table)
    direct, model = link_neighbouring_frames(objects, frames, region.volume_um3, parameters)
    bridges = close_gaps(objects, direct, model, parameters)
    links = Links.joined([direct, bridges])
    previous, following = _neighbours(len(objects), links)
    track, dropped = _number(objects, previous, following, parameters.min_length_frames)
    seconds = interval_s or 0.0
    tracks = _track_table(objects, track, links, seconds)
    events = find_events(objects, track, previous, following, frames, region, model, parameters)
    events.insert(2, "time_s", events["frame"] * seconds)
    report = TrackReport(
        objects=len(objects),
        tracks=int(track.max(initial=0)),
        links=len(links.earlier),
        gaps_closed=len(bridges.earlier),
        dropped_tracks=dropped,
        model=asdict(model),
    )
    return tracks, events[EVENT_COLUMNS], report


def _neighbours(count: int, links: Links) -> tuple[Index, Index]:
    previous, following = np.full(count, -1, np.intp), np.full(count, -1, np.intp)
    previous[links.later], following[links.earlier] = links.earlier, links.later
    return previous, following


def _number(objects: Objects, previous: Index, following: Index, min_length: int) -> tuple[Index, int]:
    """Track of each object, from 1 in order of first appearance; 0 in tracks that are too short."""
    track = np.zeros(len(objects), np.intp)
    count = dropped = 0
    for start in np.flatnonzero(previous < 0):
        members = [start]
        while following[members[-1]] >= 0:
            members.append(following[members[-1]])
        if objects.frame[members[-1]] - objects.frame[start] + 1 < min_length:
            dropped += 1
            continue
        count += 1
        track[members] = count
    return track, dropped


def _track_table(objects: Objects, track: Index, links: Links, seconds: float) -> pd.DataFrame:
    rows = objects.table[["frame", *POSITION_COLUMNS, *OBJECT_COLUMNS]].copy()
    rows["track_id"], rows["gap"] = track, 0
    for name, values in [("link_cost", links.cost), ("link_confidence", links.confidence)]:
        rows[name] = np.nan
        rows.loc[links.later, name] = values
    rows = pd.concat([rows, _bridges(objects, track, links)], ignore_index=True)
    rows = rows[rows["track_id"] > 0].sort_values(["track_id", "frame"], kind="stable").reset_index(drop=True)
    rows["time_s"] = rows["frame"] * seconds
    return rows[TRACK_COLUMNS].astype({"label": int, "gap": int, "frame": int, "track_id": int})


def _bridges(objects: Objects, track: Index, links: Links) -> pd.DataFrame:
    """Rows for the frames in which a particle was not seen."""
    found = []
    for a, b in zip(links.earlier, links.later, strict=True):
        first, last = int(objects.frame[a]), int(objects.frame[b])
        for frame in range(first + 1, last):
            share = (frame - first) / (last - first)
            ends = objects.table.loc[[a, b], POSITION_COLUMNS].to_numpy(float)
            position = ends[0] * (1 - share) + ends[1] * share
            found.append([int(track[a]), frame, *position, 0, 1])
    whole = ["track_id", "frame", "label", "gap"]
    table = pd.DataFrame(found, columns=["track_id", "frame", *POSITION_COLUMNS, "label", "gap"])
    return table.astype(dict.fromkeys(POSITION_COLUMNS, float) | dict.fromkeys(whole, int))
