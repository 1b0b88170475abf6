"""Thousands of movies: what lists them must not grow with them beyond what a command line holds (128 kB)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.quality.preview import preview_movie
from tests.workflow.conftest import Project
from tests.workflow.small_movies import row, write_project

pytestmark = pytest.mark.workflow
MOVIES = [f"20240131_cell_line_A_condition_{n:05}" for n in range(2000)]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """What register and preview leave behind when the disk with the data is not there."""
    folder = tmp_path_factory.mktemp("many")
    project = write_project(folder, [row(movie, f"raw/{movie}/*.tif") for movie in MOVIES])
    previews = project.results / "qc" / "previews"
    previews.mkdir(parents=True)
    record = MovieRecord(movie="", channels=["488nm"], paths=[""], train=False)
    table = AcquisitionTable(channels=("488nm",), frames=0, stacks={})
    for movie in MOVIES:
        problem = f"raw/{movie}/*.tif: found no file that matches; expected a TIFF series, {'or ' * 50}. Why?"
        own = replace(record, movie=movie, problem=problem)
        measures = previews / f"{movie}.json"
        how = {"optics": OpticsParameters(), "frames": 1, "skip_bad": False, "state": ""}
        preview_movie([], own, table, measures, measures.with_suffix(".png"), **how)
    return project


def lines_of(table: Path) -> list[str]:
    return [line.split("\t")[0] for line in table.read_text().splitlines()[1:]]


def test_they_are_reviewed_and_summarised(many: Project) -> None:
    qc = many.results / "qc"
    many.run("--allowed-rules", "review", "--", "results/qc/metrics.tsv")
    assert lines_of(qc / "metrics.tsv") == lines_of(qc / "decisions.tsv") == MOVIES
    assert all(movie in (qc / "contact_sheet.html").read_text() for movie in (MOVIES[0], MOVIES[-1]))
    done = many.run("--allowed-rules", "summary", "--", "results/summary.html", check=False)
    assert lines_of(many.results / "summary.tsv") == MOVIES
    assert "2000 of 2000 movies cannot be used" in done.stdout
    assert f"{MOVIES[99]}  raw" in done.stdout
    assert f"{MOVIES[100]}  raw" not in done.stdout
    assert "and 1900 more" in done.stdout


def test_they_are_planned(many: Project) -> None:
    planned = many.run("--dry-run", "--quiet", "rules").stdout
    assert {line.split()[1] for line in planned.splitlines() if line.startswith("register ")} == {"2000"}


def test_a_movie_that_is_not_in_the_sheet_is_named(many: Project) -> None:
    done = many.run("--dry-run", "--", "results/cell/tracks.csv", check=False)
    assert done.returncode != 0
    assert "movies.tsv: found no movie 'cell'" in done.stdout
