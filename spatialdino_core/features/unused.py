"""A movie whose features are not computed: a record in the place of theirs, which names no stores."""

from __future__ import annotations

from pathlib import Path

from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.movies.ledger import Entry
from spatialdino_core.movies.part import WHOLE, Part
from spatialdino_core.movies.provenance import software
from spatialdino_core.movies.stage_record import StageRecord


def leave_features_out(deskewed: Path | str, output: Path | str, reason: str, part: Part = WHOLE) -> None:
    """Publish a completion record without stores.

    Those of an earlier run stay, with their ledger: they may have taken days, and whoever wants them back
    pays only for what changed since.

    Parameters
    ----------
    deskewed
        Completion record of the deskewed movie.
    output
        Completion record to publish: each frame has the checksum of the deskewed one.
    reason
        Why, in words, for the report.
    part
        Frames of this job.
    """
    movie = DeskewedMovie(deskewed)
    checksums = movie.record.checksums
    entries = [
        Entry(frame=frame, key="", stamp=checksums[frame], output=checksums[frame])
        for frame in part.of(sorted(checksums))
    ]
    StageRecord.of([], entries, {"unused": reason} | software("features")).write(output)
