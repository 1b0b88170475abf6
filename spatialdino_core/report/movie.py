"""The report of one movie: pictures first, then curves, facts and timings, on one self-contained page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.page import write_page
from spatialdino_core.report.facts import details, facts, headline, warnings
from spatialdino_core.report.feature_pictures import feature_pictures, without_features
from spatialdino_core.report.figures import Illustration
from spatialdino_core.report.gallery import (
    channel_pictures,
    particle_pictures,
    project_frames,
    track_pictures,
)
from spatialdino_core.report.motion_curves import motion_curves
from spatialdino_core.report.particle_curves import particle_curves
from spatialdino_core.report.results import MovieResults, open_results
from spatialdino_core.report.timings import timings


@dataclass(frozen=True)
class Gallery:
    """Pictures under one heading, and what to say where there is none."""

    heading: str
    pictures: list[Illustration]
    nothing: str = ""
    small: bool = False


def report_movie(
    record: MovieRecord, preview: str | Path, benchmarks: str | Path, output: str | Path
) -> None:
    """Draw the report of one movie.

    Parameters
    ----------
    record
        What the register knows of the movie.
    preview
        JSON file of its preview.
    benchmarks
        Folder of Snakemake's benchmark tables; those that are absent are not listed.
    output
        Page to publish; the movie's results lie beside it.

    Raises
    ------
    BadInputError
        If a result is absent or written by another version.
    """
    results = open_results(record, Path(output).parent, preview)
    write_page(
        output,
        Path(__file__).with_name("templates") / "movie.html",
        movie=record.movie,
        headline=headline(results),
        warnings=warnings(results),
        galleries=_galleries(results),
        facts=facts(results),
        details=details(results),
        timings=timings(benchmarks, record.movie, Path(output).parent),
    )


def _galleries(results: MovieResults) -> list[Gallery]:
    images = project_frames(results)
    middle = images[results.middle]
    pictures = particle_pictures(results, images) + channel_pictures(results)
    return [
        Gallery("Particles", pictures),
        Gallery("Tracks", track_pictures(results), "There is no track of two or more positions."),
        Gallery("Features", feature_pictures(results, middle), without_features(results)),
        Gallery("Particles in numbers", particle_curves(results), "No particle was found.", small=True),
        Gallery("Tracks in numbers", motion_curves(results), "There is no track to measure.", small=True),
    ]
