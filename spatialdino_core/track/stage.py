"""Track a movie: from its table of objects to tracks, events and what they depend on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from spatialdino_core.files import write_json
from spatialdino_core.movies.provenance import software
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.track.exports import write_csv
from spatialdino_core.track.link import link_objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.region import imaged_region


def track_movie(
    record: MovieRecord,
    objects: Path | str,
    tracks: Path | str,
    events: Path | str,
    about: Path | str,
    parameters: TrackParameters,
) -> None:
    """Link the objects of a movie and publish ``tracks.csv``, ``events.csv`` and their provenance.

    Parameters
    ----------
    record
        The registered movie: its length, interval and imaged region.
    objects
        Parquet table of the segmentation.
    tracks, events, about
        Files to publish. The tables have no header lines of their own, so that any program reads
        them; versions, parameters and the model of motion are in ``about``.
    """
    interval_s = record.usable().interval_s
    table = pd.read_parquet(objects)
    found, happenings, report = link_objects(
        table, record.frames, interval_s, imaged_region(record), parameters
    )
    write_csv(tracks, found)
    write_csv(events, happenings)
    print(
        f"track {record.movie}: {report.objects} objects, {report.tracks} tracks "
        f"({report.dropped_tracks} more too short or improbable), {len(happenings)} events"
    )
    write_json(about, {"parameters": asdict(parameters), "linking": asdict(report)} | software("track"))
