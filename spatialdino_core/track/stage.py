"""Track a movie: from its table of objects to tracks, events and what they depend on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from spatialdino_core.files import write_json
from spatialdino_core.movies.clock import Clock
from spatialdino_core.movies.provenance import software
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.track.exports import write_csv
from spatialdino_core.track.link import link_objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.region import imaged_region


def track_movie(
    record: MovieRecord,
    labels: Path | str,
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
        The registered movie: its clock and imaged region.
    labels
        Completion record of the segmentation: a frame that it did not finish was left out there or before.
    objects
        Parquet table of the segmentation.
    tracks, events, about
        Files to publish. The tables have no header lines of their own, so that any program reads
        them; versions, parameters and the model of motion are in ``about``.
    """
    clock = Clock.of(record, StageRecord.read(labels).checksums)
    table = pd.read_parquet(objects)
    found, happenings, report = link_objects(table, clock, imaged_region(record), parameters)
    write_csv(tracks, found)
    write_csv(events, happenings)
    print(
        f"track {record.movie}: {report.objects} objects, {report.tracks} tracks "
        f"({report.dropped_tracks} more too short or improbable), {len(happenings)} events"
    )
    write_json(about, {"parameters": asdict(parameters), "linking": asdict(report)} | software("track"))
