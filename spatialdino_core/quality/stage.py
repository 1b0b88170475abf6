"""The review of movies: measure first frames, judge them, and leave the decision to the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.image import imsave

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import published, read_json, write_json
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.register import check_content, open_channels
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.quality.contact_sheet import draw_contact_sheet
from spatialdino_core.quality.decisions import add_new_movies, write_table
from spatialdino_core.quality.metrics import frame_metrics
from spatialdino_core.quality.parameters import QualityParameters
from spatialdino_core.quality.preview import max_projection
from spatialdino_core.quality.verdict import judge

NO_PICTURE = np.zeros((64, 64), np.uint8)


def preview_movie(
    rows: Sequence[SheetRow],
    record: MovieRecord,
    measures: Path | str,
    picture: Path | str,
    reading: ReadingParameters,
    *,
    skip_bad: bool,
) -> None:
    """Measure the first usable frame of a movie's first channel and draw its maximum projection.

    A movie that cannot be used is no error here: its problem is passed on to the review.

    Parameters
    ----------
    rows
        The movie's rows of the sample sheet.
    record
        What the register knows of it.
    measures, picture
        JSON and PNG file to publish.
    reading
        How files are put in order.
    skip_bad
        Whether bad frames may be passed over (``on_bad_frame: skip``).
    """
    found: dict[str, Any] = {"movie": record.movie, "problem": record.problem}
    image = NO_PICTURE
    try:
        record.usable()
        frame, stack = _first_frame(rows, record, reading, skip_bad)
        found |= {"frame": frame, "measures": asdict(frame_metrics(stack))}
        image = max_projection(stack)
    except BadInputError as error:
        found["problem"] = record.problem or str(error)
    write_json(measures, found)
    with published(picture) as temporary:
        imsave(temporary, image, cmap="gray", vmin=0, vmax=255, format="png")


def _first_frame(
    rows: Sequence[SheetRow], record: MovieRecord, reading: ReadingParameters, skip_bad: bool
) -> tuple[int, np.ndarray]:
    source = open_channels(rows, reading)[0]
    for frame in range(record.frames):
        if frame in record.skipped:
            continue
        try:
            return frame, check_content(frame, source.read(frame), f"movie '{record.movie}'")
        except BadInputError:
            if not skip_bad:
                raise
    raise BadInputError(
        f"movie '{record.movie}'",
        found="no usable frame",
        expected="at least one",
        remedy="Reject the movie.",
    )


def review_movies(
    records: Sequence[str],
    measures: Sequence[str],
    judged: Mapping[str, str],
    parameters: QualityParameters,
    metrics: Path | str,
    contact_sheet: Path | str,
) -> None:
    """Judge every movie, publish the table of measures and the contact sheet, and add new movies to the
    user's ``decisions.tsv`` beside them.

    Parameters
    ----------
    records, measures
        Paths of each movie's ``movie.json`` and preview, in the same order.
    judged
        Movie to digest of what its verdict rests on, kept in the table.
    parameters
        Thresholds of the automatic verdict.
    metrics, contact_sheet
        Files to publish.
    """
    entries: list[dict[str, Any]] = []
    for record_path, path in zip(records, measures, strict=True):
        movie = MovieRecord.read(record_path).movie
        preview = read_json(path)
        verdict, reason = _verdict(preview, parameters)
        entries.append(
            {
                "movie": movie,
                "verdict": verdict,
                "reason": reason,
                "judged": judged[movie],
                "measures": _numbers(preview.get("measures", {})),
                "picture": str(Path(path).with_suffix(".png")),
            }
        )
    names = list(dict.fromkeys(name for entry in entries for name in entry["measures"]))
    columns = ["movie", "verdict", "reason", "judged", *names]
    add_new_movies(Path(metrics).with_name("decisions.tsv"), [entry["movie"] for entry in entries])
    draw_contact_sheet(entries, Path(contact_sheet))
    write_table(metrics, columns, [entry | entry["measures"] for entry in entries])


def _verdict(preview: Mapping[str, Any], parameters: QualityParameters) -> tuple[str, str]:
    if preview["problem"]:
        return "problem", " ".join(preview["problem"].split())
    verdict = judge(preview["measures"], parameters)
    return ("accept" if verdict.accept else "reject"), "; ".join(verdict.reasons)


def _numbers(measures: Mapping[str, Any]) -> dict[str, float]:
    return {name: round(float(v), 4) for name, v in measures.items() if isinstance(v, int | float)}
